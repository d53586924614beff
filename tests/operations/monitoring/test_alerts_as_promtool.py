"""The evaluator against `promtool test rules`: random series, every state at every instant."""

from __future__ import annotations

import json
import math
import random
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.support import prometheus_server as server
from xai_runbook.model.findings import Limit, Severity
from xai_runbook.model.window import duration_text
from xai_runbook.operations.monitoring import alert_evaluation

STEP, POINTS, SERIES = 15, 160, 64
LIMITS = [
    Limit(
        name=f"fuzz_{direction}_{seconds}",
        title="Fuzz",
        threshold=3,
        unit="blocks",
        direction=direction,
        severity=Severity.HIGH,
        hint="",
        duration=duration_text(seconds),
    )
    for direction in ("above", "below")
    for seconds in (0, 20, 60, 300)
]


def series(chance: random.Random) -> list[float | None]:
    """Return runs of values below, at and above 3, of NaN and infinity, and gaps (None) of up to seven minutes."""
    values: list[float | None] = []
    while len(values) < POINTS:
        kind = chance.choices(["right", "wrong", "edge", "nan", "inf", "gap"], [3, 3, 1, 0.6, 0.3, 1])[0]
        length = chance.choice([1, 1, 2, 4, 5, 20, 21, 22, 28])
        values += [
            {
                "right": chance.choice([0.0, 2.0]),
                "wrong": chance.choice([4.0, 9.0]),
                "edge": 3.0,
                "nan": math.nan,
                "inf": math.inf,
                "gap": None,
            }[kind]
        ] * length
    return values[:POINTS]


def notation(values: list[float | None], stale: bool) -> str:
    """Return the values in promtool's notation; `stale` marks the start of each gap, as after a failed scrape."""
    words, before = [], None
    for value in values:
        absent = "stale" if stale and before is not None else "_"
        words.append(absent if value is None else {"inf": "+Inf", "nan": "NaN"}.get(repr(value), repr(value)))
        before = value
    return " ".join(words)


def frame(many: dict[str, list[float | None]]) -> pd.DataFrame:
    rows = [
        (name, datetime.fromtimestamp(STEP * point, UTC), value)
        for name, values in many.items()
        for point, value in enumerate(values)
        if value is not None
    ]
    return pd.DataFrame(rows, columns=["instance", "at", "value"])


def promtool(
    folder: Path,
    many: dict[str, list[float | None]],
    stale: bool,
    wanted: dict[int, set[tuple[str, str, str]]],
    program: str = "",
) -> str:
    """Return promtool's complaints about `wanted`: the active (alert, instance, state) at each instant."""
    rules = [
        {
            "alert": limit.alert,
            "for": limit.duration,
            "expr": " ".join(["fuzz", ">" if limit.direction == "above" else "<", repr(limit.threshold)]),
        }
        for limit in LIMITS
    ]
    (folder / "rules.yml").write_text(
        json.dumps({"groups": [{"name": "fuzz", "interval": f"{STEP}s", "rules": rules}]})
    )
    tests = [
        {
            "expr": "ALERTS",
            "eval_time": f"{at}s",
            "exp_samples": [
                {"labels": f'ALERTS{{alertname="{alert}",alertstate="{state}",instance="{instance}"}}', "value": 1}
                for alert, instance, state in sorted(active)
            ],
        }
        for at, active in wanted.items()
    ]
    whole: dict[str, Any] = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": f"{STEP}s",
        "tests": [
            {
                "interval": f"{STEP}s",
                "input_series": [
                    {"series": f'fuzz{{instance="{name}"}}', "values": notation(values, stale)}
                    for name, values in many.items()
                ],
                "promql_expr_test": tests,
            }
        ],
    }
    (folder / "test.yml").write_text(json.dumps(whole))
    done = subprocess.run(
        [program or server.program("promtool"), "test", "rules", "test.yml"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def ours(
    many: dict[str, list[float | None]], lookback_seconds: float, left_open: bool = False
) -> dict[int, set[tuple[str, str, str]]]:
    active: dict[int, set[tuple[str, str, str]]] = {STEP * point: set() for point in range(POINTS)}
    for limit in LIMITS:
        judged = alert_evaluation.evaluate(
            frame(many),
            limit,
            step_seconds=STEP,
            lookback_seconds=lookback_seconds,
            left_open=left_open,
            at=datetime.fromtimestamp(STEP * (POINTS - 1), UTC),
        )
        for at, instance, state in zip(judged["at"], judged["instance"], judged["state"], strict=True):
            if state in (alert_evaluation.PENDING, alert_evaluation.FIRING):
                active[int(at.timestamp())].add((limit.alert, instance, state))
    return active


WAYS = pytest.mark.parametrize("stale", [True, False], ids=["range answers", "raw samples"])


@WAYS
def test_every_state_at_every_instant_agrees_with_promtool(tmp_path: Path, stale: bool) -> None:
    chance = random.Random(20261125)
    many = {f"node-{number}": series(chance) for number in range(SERIES)}
    # a range answer has no row where Prometheus saw a gap; raw samples are bridged for five minutes
    wanted = ours(many, lookback_seconds=0 if stale else 300)
    states = [state for active in wanted.values() for _, _, state in active]
    assert min(states.count(alert_evaluation.FIRING), states.count(alert_evaluation.PENDING)) > 1000
    assert promtool(tmp_path, many, stale, wanted) == ""


@pytest.mark.parametrize(("left_open", "last"), [(False, 300), (True, 285)])
def test_the_lookback_is_left_open_from_prometheus_3_on(left_open: bool, last: int) -> None:
    """One sample, and the last instant of the grid that still has it. Prometheus' migration guide to 3.0, range
    selectors and lookback: samples that coincide with the left boundary are excluded."""
    bare = frame({"node-1": [4.0]})
    judged = alert_evaluation.evaluate(
        bare,
        LIMITS[0],
        step_seconds=STEP,
        at=datetime.fromtimestamp(600, UTC),
        lookback_seconds=300,
        left_open=left_open,
    )
    seen = judged[judged["state"] == alert_evaluation.FIRING]
    assert int(seen["at"].max().timestamp()) == last
    exact = alert_evaluation.evaluate(bare, LIMITS[0], step_seconds=STEP, left_open=left_open)
    assert exact["state"].tolist() == [alert_evaluation.FIRING], "without a lookback an instant has its own value"


def test_a_sample_one_millisecond_inside_the_left_edge_counts() -> None:
    """Prometheus' instants are whole milliseconds: the grid's instant at 300 s is 299.999 s after such a sample."""
    late = pd.DataFrame([("node-1", datetime.fromtimestamp(0.001, UTC), 4.0)], columns=["instance", "at", "value"])
    judged = alert_evaluation.evaluate(
        late,
        LIMITS[0],
        step_seconds=STEP,
        at=datetime.fromtimestamp(600, UTC),
        lookback_seconds=300,
        left_open=True,
    )
    assert int(judged.loc[judged["state"] == alert_evaluation.FIRING, "at"].max().timestamp()) == 300


@pytest.fixture(scope="module")
def promtool_3(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the promtool of a Prometheus 3: from PATH, or from Debian's newest packages (30 MB are fetched)."""
    here = shutil.which("promtool")
    if here and ", version 3." in subprocess.run([here, "--version"], capture_output=True, text=True).stdout:
        return here
    folder = tmp_path_factory.mktemp("debian")
    archives = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Label: Debian"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split()
    if not archives:
        pytest.skip("no promtool of version 3: not on PATH, and no Debian to fetch one from")
    keys = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
    (folder / "sources.list").write_text(
        f"deb {f'[signed-by={keys}]' if keys.exists() else ''} {archives[0]} sid main\n"
    )
    for part in ("lists/partial", "cache/archives/partial"):
        (folder / part).mkdir(parents=True)
    options = {
        "Dir::Etc::sourcelist": folder / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::lists": folder / "lists",
        "Dir::Cache": folder / "cache",
        "APT::Sandbox::User": "",
    }
    apt = ["apt-get", "-q", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]
    for words in (["update"], ["download", "promtool"]):
        done = subprocess.run([*apt, *words], cwd=folder, capture_output=True, text=True, timeout=170, check=False)
        if done.returncode:
            pytest.skip(f"no promtool of version 3: apt-get {words[0]} says {done.stderr.strip()[-200:]}")
    (package,) = folder.glob("promtool_*.deb")
    subprocess.run(["dpkg-deb", "-x", package, folder / "tree"], check=True)
    found = str(folder / "tree/usr/bin/promtool")
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
    if ", version 3." not in version:
        pytest.skip(f"no promtool of version 3: Debian's newest is {version.splitlines()[:1]}")
    return found


@pytest.mark.torture
@pytest.mark.parametrize("seed", range(5))
@WAYS
def test_every_state_agrees_with_promtool_3(tmp_path: Path, promtool_3: str, stale: bool, seed: int) -> None:
    chance = random.Random(seed)
    many = {f"node-{number}": series(chance) for number in range(SERIES)}
    lookback = 0 if stale else 300
    assert promtool(tmp_path, many, stale, ours(many, lookback, left_open=True), promtool_3) == ""
    closed = promtool(tmp_path, many, stale, ours(many, lookback), promtool_3)
    assert stale or "FAILED" in closed, "the edge is where the versions differ"


@pytest.mark.torture
@pytest.mark.parametrize("seed", range(20))
@WAYS
def test_more_random_series_agree_with_promtool(tmp_path: Path, stale: bool, seed: int) -> None:
    chance = random.Random(seed)
    many = {f"node-{number}": series(chance) for number in range(SERIES)}
    assert promtool(tmp_path, many, stale, ours(many, lookback_seconds=0 if stale else 300)) == ""


def test_promtool_would_notice_one_wrong_state(tmp_path: Path) -> None:
    many = {"node-1": [4.0] * POINTS}
    wanted = ours(many, 300)
    wanted[300].remove(("FuzzAbove300", "node-1", alert_evaluation.FIRING))
    assert "FAILED" in promtool(tmp_path, many, False, wanted)
