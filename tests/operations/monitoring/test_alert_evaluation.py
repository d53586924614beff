"""The finding of an alert, above all for missing values, on frames."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from xai_runbook.errors import InputError
from xai_runbook.model.findings import Limit, Severity, Status
from xai_runbook.operations.monitoring import alert_evaluation

LAG = Limit(
    name="sync_lag",
    title="Sync lag",
    threshold=10,
    unit="blocks",
    direction="above",
    duration="5m",
    severity=Severity.MEDIUM,
    hint="look at peers",
)
PEERS = Limit(
    name="peer_count",
    title="Peer count",
    threshold=3,
    unit="peers",
    direction="below",
    duration="1m",
    severity=Severity.MEDIUM,
    hint="look at peers",
)
STEP = 15


def frame(ago_minutes: float = 0, **series: Sequence[float | None]) -> pd.DataFrame:
    """A signal's frame that ends about now; None is a gap."""
    end = int(time.time() - ago_minutes * 60) // STEP * STEP
    rows = [
        (name, datetime.fromtimestamp(end - STEP * back, UTC), value)
        for name, values in series.items()
        for back, value in zip(range(len(values) - 1, -1, -1), values, strict=True)
        if value is not None
    ]
    made = pd.DataFrame(rows, columns=["instance", "at", "value"])
    made["at"] = pd.to_datetime(made["at"], utc=True)
    made.attrs.update(step_seconds=float(STEP), end=datetime.fromtimestamp(end, UTC), warnings=[])
    return made


def test_above_for_the_whole_duration_is_an_alert_that_names_its_targets() -> None:
    finding = alert_evaluation.check_alert(frame(node_1=[3] * 40, node_2=[12] * 40, node_3=[11] * 21), LAG)
    assert finding.status is Status.ALERT
    assert finding.severity is Severity.MEDIUM
    assert finding.targets == ("node_2", "node_3")
    assert "12 blocks on node_2" in finding.summary
    assert "2 of 3 above 10 blocks for 5m" in finding.summary
    assert finding.hint == "look at peers"


def test_one_evaluation_short_of_the_duration_is_pending_and_ok() -> None:
    finding = alert_evaluation.check_alert(frame(node_1=[3] * 20 + [12] * 20), LAG)
    assert finding.status is Status.OK
    assert "node_1 above 10 blocks for 4m45s of 5m" in finding.summary


def test_one_good_evaluation_starts_the_duration_anew() -> None:
    values = [12.0] * 40
    values[-3] = 10.0  # the threshold itself is still right
    assert alert_evaluation.check_alert(frame(node_1=values), LAG).status is Status.OK


def test_a_sawtooth_below_the_limit_is_fine() -> None:
    finding = alert_evaluation.check_alert(frame(node_1=[0, 1, 2, 3, 4, 5, 6, 7] * 5), LAG)
    assert finding.status is Status.OK
    assert "7 blocks on node_1, alert when above 10 blocks for 5m" in finding.summary
    assert finding.targets == ()


@pytest.mark.parametrize("last", [None, math.nan, -math.inf])
def test_a_target_without_a_value_now_is_unknown_and_named(last: float | None) -> None:
    finding = alert_evaluation.check_alert(frame(node_1=[3] * 40, node_2=[*([12] * 39), last]), LAG)
    assert finding.status is Status.UNKNOWN
    assert finding.targets == ("node_2",)
    assert "no value for node_2" in finding.summary


def test_an_alert_beside_an_unknown_target_names_both() -> None:
    finding = alert_evaluation.check_alert(frame(node_1=[12] * 40, node_2=[*([3] * 39), None]), LAG)
    assert finding.status is Status.ALERT
    assert finding.targets == ("node_1",)
    assert "no value for node_2" in finding.summary


def test_a_partial_answer_can_alert_but_cannot_be_ok() -> None:
    # as Thanos and a remote read say it; the targets of the store that did not answer have no row at all
    well, behind = frame(node_1=[3] * 40), frame(node_1=[12] * 40)
    assert alert_evaluation.check_alert(well, LAG).status is Status.OK
    for signal in (well, behind):
        signal.attrs["partial"] = ["remote_read: connection refused"]
    finding = alert_evaluation.check_alert(well, LAG)
    assert finding.status is Status.UNKNOWN and "partial (remote_read: connection refused)" in finding.summary
    assert alert_evaluation.check_alert(behind, LAG).status is Status.ALERT


def test_the_summary_of_hundreds_of_targets_is_short() -> None:
    silent = alert_evaluation.check_alert(
        frame(**{f"node_{n}": [3] * 39 + [None] for n in range(300)}, last=[3] * 40), LAG
    )
    assert silent.status is Status.UNKNOWN and len(silent.targets) == 300
    assert silent.summary.endswith("and 292 more") and len(silent.summary) < 300
    near = alert_evaluation.check_alert(
        frame(**{f"node_{n}": [3] * 39 + [12] for n in range(300)}, old=[3] * 35 + [12] * 5), LAG
    )
    assert near.status is Status.OK and "; old above 10 blocks for" in near.summary  # the one that fires next is first
    assert near.summary.endswith("and 293 more") and len(near.summary) < 600


def test_an_empty_frame_is_unknown() -> None:
    for empty in (frame(), pd.DataFrame()):
        finding = alert_evaluation.check_alert(empty, LAG)
        assert finding.status is Status.UNKNOWN
        assert "no series of sync_lag" in finding.summary


def test_data_older_than_the_lookback_is_unknown() -> None:
    finding = alert_evaluation.check_alert(frame(ago_minutes=8, node_1=[3] * 40), LAG)
    assert finding.status is Status.UNKNOWN
    assert "newest data is 8m" in finding.summary
    assert alert_evaluation.check_alert(frame(ago_minutes=3, node_1=[3] * 40), LAG).status is Status.OK


def test_no_values_at_the_end_of_the_window_are_unknown() -> None:
    finding = alert_evaluation.check_alert(
        frame(node_1=[*([3] * 30), None, None], node_2=[*([3] * 30), None, None]), LAG
    )
    assert finding.status is Status.UNKNOWN
    assert finding.targets == ("node_1", "node_2")


def test_a_past_window_is_judged_at_its_end() -> None:
    past = frame(ago_minutes=600, node_1=[12] * 40 + [3] * 40)
    middle = past.attrs["end"] - timedelta(seconds=41 * STEP)
    assert alert_evaluation.check_alert(past, LAG, at=middle).status is Status.ALERT
    assert alert_evaluation.check_alert(past, LAG, at=past.attrs["end"]).status is Status.OK


def test_without_attributes_the_step_comes_from_the_rows() -> None:
    bare = frame(node_1=[12] * 40)
    bare.attrs.clear()
    assert alert_evaluation.check_alert(bare, LAG).status is Status.ALERT


def test_nan_is_ok_if_the_target_is_idle_and_else_unknown() -> None:
    slow = Limit(
        name="api_latency",
        title="Slow API",
        threshold=1,
        unit="seconds",
        direction="above",
        duration="1m",
        severity=Severity.MEDIUM,
        hint="",
    )
    quiet = frame(node_1=[math.nan] * 10)
    assert alert_evaluation.check_alert(quiet.assign(idle=False), slow).status is Status.UNKNOWN
    finding = alert_evaluation.check_alert(quiet.assign(idle=True), slow)
    assert (finding.status, finding.summary) == (Status.OK, "no requests to judge")
    both = frame(node_1=[math.nan] * 10, node_2=[0.2] * 10)
    finding = alert_evaluation.check_alert(both.assign(idle=both["instance"] == "node_1"), slow)
    assert finding.status is Status.OK
    assert finding.summary == "200 ms on node_2, alert when above 1 second for 1m; no requests on 1 of 2"


def test_a_sum_without_labels_is_one_target() -> None:
    bare = frame(node_1=[12] * 40)
    whole = bare.drop(columns="instance")
    whole.attrs.update(bare.attrs)
    assert alert_evaluation.check_alert(whole, LAG).targets == ("all",)


def test_an_instant_before_all_values_is_unknown() -> None:
    late = frame(node_1=[3] * 40)
    finding = alert_evaluation.check_alert(late, LAG, at=late["at"].min() - timedelta(minutes=1))
    assert finding.status is Status.UNKNOWN
    assert "no value before" in finding.summary
    assert alert_evaluation.evaluate(late.iloc[:0], LAG, step_seconds=STEP).empty


def test_infinite_is_above_everything() -> None:
    assert alert_evaluation.check_alert(frame(node_1=[math.inf] * 40), LAG).status is Status.ALERT


def test_target_names_have_the_labels_that_differ() -> None:
    both = frame(host=[12] * 40)
    both = pd.concat([both.assign(mountpoint="/", job="node"), both.assign(mountpoint="/data", job="node")])
    assert alert_evaluation.check_alert(both, LAG).targets == ("host /", "host /data")


def test_labels_are_made_inert() -> None:
    finding = alert_evaluation.check_alert(frame(**{"a\x1b[31m\u202eb": [12] * 40}), LAG)
    assert finding.targets == ("a\ufffd[31m\ufffdb",)
    assert "\x1b" not in finding.summary


def test_a_step_of_zero_is_refused() -> None:
    with pytest.raises(InputError):
        alert_evaluation.evaluate(frame(node_1=[1]), LAG, step_seconds=0)


def test_evaluate_returns_since_when_an_alert_is_active() -> None:
    judged = alert_evaluation.evaluate(frame(node_1=[3, 3, 12, 12, 12]), PEERS, step_seconds=STEP)
    assert judged["state"].tolist() == ["inactive"] * 5
    judged = alert_evaluation.evaluate(frame(node_1=[3, 2, 2, 2, 2, 2, 2, 3]), PEERS, step_seconds=STEP)
    assert judged["state"].tolist() == ["inactive"] + ["pending"] * 4 + ["firing"] * 2 + ["inactive"]
    assert judged["active_since"].notna().tolist() == [False] + [True] * 6 + [False]
    assert judged["active_since"].dropna().nunique() == 1
