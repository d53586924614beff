"""The evaluator against `promtool test rules`: random series, every state at every instant."""

from __future__ import annotations

import json
import math
import random
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.operations import prometheus_server as server
from xai_runbook.findings import Limit, Severity
from xai_runbook.operations import alerts
from xai_runbook.window import duration_text

STEP, POINTS = 15, 160
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
    """Runs of one side or the other of 3, of exactly 3, of NaN, and gaps (None) of up to seven minutes."""
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
    """promtool's notation; `stale` marks the first of each gap as Prometheus does after a failed scrape."""
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
    folder: Path, many: dict[str, list[float | None]], stale: bool, wanted: dict[int, set[tuple[str, str, str]]]
) -> str:
    """What promtool has to say against `wanted`: at each instant, (alert, instance, state) of all that is active."""
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
        [server.program("promtool"), "test", "rules", "test.yml"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def ours(many: dict[str, list[float | None]], lookback_seconds: float) -> dict[int, set[tuple[str, str, str]]]:
    active: dict[int, set[tuple[str, str, str]]] = {STEP * point: set() for point in range(POINTS)}
    for limit in LIMITS:
        judged = alerts.evaluate(
            frame(many),
            limit,
            step_seconds=STEP,
            lookback_seconds=lookback_seconds,
            at=datetime.fromtimestamp(STEP * (POINTS - 1), UTC),
        )
        for at, instance, state in zip(judged["at"], judged["instance"], judged["state"], strict=True):
            if state in (alerts.PENDING, alerts.FIRING):
                active[int(at.timestamp())].add((limit.alert, instance, state))
    return active


@pytest.mark.parametrize("stale", [True, False], ids=["range answers", "raw samples"])
def test_every_state_at_every_instant_is_promtools(tmp_path: Path, stale: bool) -> None:
    chance = random.Random(20261125)
    many = {f"node-{number}": series(chance) for number in range(16)}
    # a range answer has no row where Prometheus saw a gap; raw samples are bridged for five minutes
    wanted = ours(many, lookback_seconds=0 if stale else 300)
    states = [state for active in wanted.values() for _, _, state in active]
    assert min(states.count(alerts.FIRING), states.count(alerts.PENDING)) > 300
    assert promtool(tmp_path, many, stale, wanted) == ""


@pytest.mark.torture
@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("stale", [True, False], ids=["range answers", "raw samples"])
def test_more_random_series_are_judged_as_promtool_does(tmp_path: Path, stale: bool, seed: int) -> None:
    chance = random.Random(seed)
    many = {f"node-{number}": series(chance) for number in range(16)}
    assert promtool(tmp_path, many, stale, ours(many, lookback_seconds=0 if stale else 300)) == ""


def test_promtool_would_notice_one_wrong_state(tmp_path: Path) -> None:
    many = {"node-1": [4.0] * POINTS}
    wanted = ours(many, 300)
    wanted[300].remove(("FuzzAbove300", "node-1", alerts.FIRING))
    assert "FAILED" in promtool(tmp_path, many, False, wanted)
