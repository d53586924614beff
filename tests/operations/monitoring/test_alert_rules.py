"""The rules of the limits with their real durations: what fires, and whether our evaluation agrees.

The same two hours go to `promtool test rules` and, as history, to a real Prometheus whose range answers our evaluator
judges. Every state of every rule at every instant is compared.
"""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support import prometheus_server as server
from tests.support.two_hours import END, MINUTE, STEP, stories
from xai_runbook.clients.prometheus.client import Prometheus, quoted
from xai_runbook.errors import NoData
from xai_runbook.model.window import Window
from xai_runbook.operations.monitoring import alert_evaluation, alert_rules, metrics
from xai_runbook.settings.limits import Signals
from xai_runbook.settings.loading import load, shipped
from xai_runbook.settings.models import Settings

Active = dict[int, set[tuple[str, frozenset[tuple[str, str]]]]]


@pytest.fixture(scope="module")
def real() -> Settings:
    settings = server.settings()
    assert settings.limits.monitoring.block_growth.duration == "30m"
    assert settings.limits.monitoring.cpu_used.duration == "5m"
    return settings


@pytest.fixture(scope="module")
def samples() -> dict[str, list[float | None]]:
    return {name: [story(t) for t in range(0, END, STEP)] for name, story in stories().items()}


@pytest.fixture(scope="module")
def start() -> int:
    return (int(time.time()) - END) // 3600 * 3600


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory, start: int) -> Iterator[Prometheus]:
    past = server.history(
        {
            name: {start + t: value for t in range(0, END, STEP) if (value := story(t)) is not None}
            for name, story in stories(start).items()
        }
    )
    with server.running(tmp_path_factory.mktemp("rules"), past=past) as address:
        yield server.handle(address)


@pytest.fixture(scope="module")
def judged(prometheus: Prometheus, start: int) -> Active:
    """Return the alerts that our evaluation finds pending or firing, by seconds from the start."""
    active: Active = {t: set() for t in range(0, END, STEP)}
    window = Window(datetime.fromtimestamp(start, UTC), datetime.fromtimestamp(start + END - STEP, UTC))
    for name in Signals.model_fields:
        limit = server.limits().by_name[name]
        frame = metrics.signal(prometheus, limit, window)
        states = alert_evaluation.evaluate(frame, limit, step_seconds=STEP)
        labels = [column for column in frame.columns if column not in ("at", "value", "idle")]
        for row in states[states["state"].isin([alert_evaluation.PENDING, alert_evaluation.FIRING])].to_dict("records"):
            names = {str(label): str(row[label]) for label in labels if row[label]}
            active[int(row["at"].timestamp()) - start].add((limit.alert + " " + row["state"], frozenset(names.items())))
    return active


def fired(judged: Active, alert: str, instance: str) -> list[int]:
    """Return the seconds at which the alert fires on the instance."""
    return [
        t
        for t, active in judged.items()
        for state, labels in active
        if state == f"{alert} firing" and ("instance", instance) in labels
    ]


@pytest.mark.parametrize("name", ["the runbook", "sandbox"])
def test_promtool_accepts_the_rules(tmp_path: Path, name: str) -> None:
    settings = load(name) if name == "sandbox" else shipped()
    (tmp_path / "rules.yml").write_text(server.rules(settings))
    assert f"{len(Signals.model_fields)} rules found" in promtool_output(tmp_path, "check", "rules", "rules.yml")


def test_each_rule_matches_its_limit(real: Settings) -> None:
    by_name = {rule.alert: rule for rule in alert_rules.rule_table(real, real.limits)}
    assert set(by_name) == {real.limits.by_name[name].alert for name in Signals.model_fields}
    cpu, peers = by_name["HighCPU"], by_name["PeerCountLow"]
    assert (cpu.duration, dict(cpu.labels)) == ("5m", {"severity": "critical", "limit": "cpu_used"})
    assert cpu.expr.endswith(") > 0.8")
    assert peers.expr.endswith(") < 3")
    assert by_name["BlockHeightStalled"].duration == "30m"


def test_the_alert_names_are_the_runbooks() -> None:
    assert [rule.alert for rule in alert_rules.rule_table(shipped(), shipped().limits)] == [
        "HighCPU", "LowDisk", "HighMemory", "APIErrors", "SlowAPI", "DatabaseConnections", "PeerCountLow",
        "BlockHeightStalled", "SyncLag", "XaiMetricsMissing", "ScrapeTargetDown", "OpenFiles", "ClockSkew",
    ]  # fmt: skip


def test_an_alert_links_to_its_notebook_cell(checkout: Path) -> None:
    settings = server.settings(rules={"runbook_url": "https://lab.internal/lab/tree"})
    for rule in alert_rules.rule_table(settings, settings.limits):
        path, _, cell = rule.annotations["runbook_url"].partition("#cell-id=")
        base, _, name = path.rpartition("/")
        notebook = json.loads((checkout / "notebooks" / name).read_text())
        questions = {each["id"] for each in notebook["cells"] if "health" in each["metadata"].get("tags", [])}
        assert base == "https://lab.internal/lab/tree"
        assert cell == rule.labels["limit"] and cell in questions


def test_the_markdown_table_has_one_row_per_rule() -> None:
    lines = alert_rules.alert_table(shipped(), shipped().limits).splitlines()
    assert len(lines) == 2 + len(Signals.model_fields)
    assert lines[2] == "| HighCPU | CPU used | above 80 % for 5m | critical | `02_monitoring`, `cpu_used` |"
    odd = server.settings(limits={"monitoring": {"peer_count": {"title": "Peers | all\n"}}})
    assert "| Peers \\| all  |" in alert_rules.alert_table(odd, odd.limits)


AWKWARD = 'a "quoted" \\ {{ braces }} # hash: colon \u2028 \x07 \U0001f9f1 \u00e9'


def test_texts_special_to_yaml_or_templates_reach_prometheus_unchanged(tmp_path: Path) -> None:
    """Control characters are replaced, nothing else changes, and no text becomes a number or a boolean."""
    settings = server.settings(
        signals={"peer_count": 'network_peers{zone!="\x07 # no comment"}'},
        limits={"monitoring": {"peer_count": {"title": AWKWARD, "alert": "yes"}, "sync_lag": {"alert": "1e3"}}},
    )
    (tmp_path / "rules.yml").write_text(server.rules(settings))
    with server.running(tmp_path, rules=server.rules(settings)) as url:
        loaded = server.handle(url).alerting_rules().set_index("alert")
        (rule,) = [
            rule
            for group in json.load(urllib.request.urlopen(f"{url}/api/v1/rules", timeout=10))["data"]["groups"]
            for rule in group["rules"]
            if rule["name"] == "yes"
        ]
    assert {"yes", "1e3"} <= set(loaded.index)
    assert "\\a # no comment" in loaded.loc["yes", "query"]
    shown = AWKWARD.replace("{{", '{{ "{{" }}').replace("\u2028", " ").replace("\x07", "\ufffd")
    assert rule["annotations"]["summary"].startswith(f"{shown}: ")


def test_a_signal_with_a_comment_and_a_hint_with_braces_work(tmp_path: Path) -> None:
    settings = server.settings(
        signals={"peer_count": "network_peers # ours"},
        limits={"monitoring": {"peer_count": {"hint": "{{ .Nothing }}"}}},
    )
    (tmp_path / "rules.yml").write_text(server.rules(settings))
    test = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": "15s",
        "tests": [
            {
                "interval": "15s",
                "input_series": [{"series": "network_peers", "values": "2x40"}],
                "alert_rule_test": [
                    {
                        "eval_time": "6m",
                        "alertname": "PeerCountLow",
                        "exp_alerts": [
                            {
                                "exp_labels": {"severity": "medium", "limit": "peer_count"},
                                "exp_annotations": {
                                    "summary": "Peer count: 2 peers",
                                    "description": "2 peers, which is below 3 peers for 5m. Next: {{ .Nothing }}",
                                    "runbook_url": "http://localhost:8888/lab/tree/notebooks/02_monitoring.ipynb"
                                    "#cell-id=peer_count",
                                },
                            }
                        ],
                    }
                ],
            }
        ],
    }
    assert promtool(tmp_path, test) == ""


def promtool(folder: Path, test: dict[str, Any]) -> str:
    (folder / "test.yml").write_text(json.dumps(test))
    output = promtool_output(folder, "test", "rules", "test.yml")
    return output if "FAILED" in output else ""


def promtool_output(folder: Path, *words: str) -> str:
    done = subprocess.run(
        [server.program("promtool"), *words], cwd=folder, timeout=120, capture_output=True, text=True, check=False
    )
    assert (done.returncode == 0) == ("SUCCESS" in done.stdout and "FAILED" not in done.stdout + done.stderr)
    return done.stdout + done.stderr


def test_every_state_of_every_rule_agrees_with_promtool(
    tmp_path: Path, real: Settings, samples: dict[str, list[float | None]], judged: Active
) -> None:
    (tmp_path / "rules.yml").write_text(server.rules(real))
    limits = {real.limits.by_name[name].alert: real.limits.by_name[name] for name in Signals.model_fields}

    def sample(state: str, labels: frozenset[tuple[str, str]]) -> dict[str, Any]:
        alert, _, state = state.partition(" ")
        every = {
            "alertname": alert,
            "alertstate": state,
            "severity": limits[alert].severity.value,
            "limit": limits[alert].name,
            **dict(labels),
        }
        pairs = ",".join(name + "=" + quoted(text) for name, text in every.items())
        return {"labels": "ALERTS{" + pairs + "}", "value": 1}

    test = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": "15s",
        "tests": [
            {
                "interval": "15s",
                "input_series": [
                    {
                        "series": name,
                        "values": " ".join("_" if value is None else repr(float(value)) for value in values),
                    }
                    for name, values in samples.items()
                ],
                "promql_expr_test": [
                    {
                        "expr": "ALERTS",
                        "eval_time": f"{t}s",
                        "exp_samples": [sample(*one) for one in sorted(active, key=str)],
                    }
                    for t, active in judged.items()
                ],
            }
        ],
    }
    assert promtool(tmp_path, test) == ""
    states = [state for active in judged.values() for state, _ in active]
    for alert in limits:
        assert f"{alert} firing" in states, alert


@pytest.mark.parametrize(
    ("alert", "instance", "first_minutes", "last_minutes"),
    [
        ("HighCPU", "busy", 26.5, 40.5),  # the rate looks back two minutes, then five must hold
        ("LowDisk", "full", 31, 50),
        ("HighMemory", "long", 15, 20),
        ("APIErrors", "failing", 37, 120),
        ("SlowAPI", "slow", 25.5, 55),
        ("DatabaseConnections", "crowded", 35, 60),
        ("PeerCountLow", "lonely", 35, 50),
        ("BlockHeightStalled", "stalled", 71, 105),  # 30 minutes after the first minute without a block
        ("BlockHeightStalled", "late-stalled", 81, 105),
        ("SyncLag", "lag-11", 35, 50),
        ("ScrapeTargetDown", "down", 35, 50),
        ("OpenFiles", "leaking", 35, 50),
        ("ClockSkew", "skewed", 35, 50),
    ],
)
def test_alerts_fire_when_they_should(
    judged: Active, alert: str, instance: str, first_minutes: float, last_minutes: float
) -> None:
    seconds = fired(judged, alert, instance)
    assert abs(seconds[0] - first_minutes * MINUTE) <= 2 * MINUTE
    assert abs(seconds[-1] - last_minutes * MINUTE) <= 2 * MINUTE
    assert len(seconds) == (seconds[-1] - seconds[0]) / STEP + 1


@pytest.mark.parametrize(
    ("alert", "instance"),
    [
        ("HighCPU", "short"),
        ("HighCPU", "calm"),
        ("LowDisk", "edge"),
        ("HighMemory", "short"),
        ("APIErrors", "never-failed"),
        ("APIErrors", "idle"),
        ("APIErrors", "restarted"),
        ("SlowAPI", "fast"),
        ("SlowAPI", "idle"),
        ("ScrapeTargetDown", "restarting"),
        ("OpenFiles", "edge"),
        ("ClockSkew", "edge"),
        ("DatabaseConnections", "edge"),
        ("PeerCountLow", "edge"),
        ("BlockHeightStalled", "growing"),
        ("BlockHeightStalled", "slow"),
        ("BlockHeightStalled", "re-synced"),
        ("BlockHeightStalled", "late"),
        ("SyncLag", "lag-10"),
        ("SyncLag", "sawtooth"),
    ],
)
def test_alerts_do_not_fire_when_they_should_not(judged: Active, alert: str, instance: str) -> None:
    assert fired(judged, alert, instance) == []


def test_a_gap_in_scraping_restarts_the_duration(judged: Active) -> None:
    assert fired(judged, "BlockHeightStalled", "gap")[0] > 92 * MINUTE


def test_a_missing_height_fires_as_missing_and_not_as_stalled(judged: Active) -> None:
    missing = [
        t
        for t, active in judged.items()
        if any(state == "XaiMetricsMissing firing" and "instance" not in dict(labels) for state, labels in active)
    ]
    # five minutes are bridged by the last value, five must hold
    assert abs(missing[0] - 110 * MINUTE) <= MINUTE
    standing = [t for t, active in judged.items() if any(state.startswith("BlockHeightStalled") for state, _ in active)]
    assert not [t for t in standing if 105 * MINUTE < t < 115 * MINUTE]


def test_a_node_that_exports_only_one_of_the_metrics_is_named(judged: Active) -> None:
    """In the alert on the missing metric itself it is just absent."""
    assert fired(judged, "XaiMetricsMissing", "lonely")[0] == 5 * MINUTE  # it has peers, and never a height


def test_a_signal_over_a_window_without_its_metric_is_no_data(prometheus: Prometheus, start: int) -> None:
    window = Window(
        datetime.fromtimestamp(start + 106 * MINUTE, UTC), datetime.fromtimestamp(start + 114 * MINUTE, UTC)
    )
    with pytest.raises(NoData, match="block_growth"):
        metrics.signal(prometheus, server.limits().monitoring.block_growth, window)
