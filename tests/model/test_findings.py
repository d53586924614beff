"""Limits, findings and verdicts: every row of the tables, and texts that come from nobody we trust."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xai_runbook.errors import Unreachable
from xai_runbook.model.findings import MIME_TYPE, Finding, Limit, Severity, Status, Verdict, judge, verdict
from xai_runbook.model.units import quantity

NAN, INF = math.nan, math.inf


def limit(**fields: Any) -> Limit:
    defaults = {"threshold": 10, "unit": "blocks", "direction": "above", "severity": Severity.MEDIUM, "hint": "look"}
    return Limit(name="lag", title="Lag", **defaults | fields)


def finding(**fields: Any) -> Finding:
    return Finding(**{"name": "lag", "status": Status.ALERT, "summary": "12 blocks", "hint": "look"} | fields)


# --- Limit ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("direction", "value", "wrong"),
    [
        ("above", 10, False), ("above", math.nextafter(10, 11), True), ("above", INF, True), ("above", -INF, False),
        ("below", 10, False), ("below", math.nextafter(10, 9), True), ("below", -INF, True), ("below", INF, False),
    ],
)  # fmt: skip
def test_exactly_at_the_threshold_is_right(direction: str, value: float, wrong: bool) -> None:
    assert limit(direction=direction).exceeded(value) is wrong


def test_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        limit().exceeded(NAN)


@pytest.mark.parametrize(
    "fields",
    [{"threshold": NAN}, {"threshold": INF}, {"duration": "5 minutes"}, {"duration": ""}, {"unit": "ratio"}],
)
def test_an_invalid_limit(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"threshold|duration"):
        limit(**fields)


def test_a_limit_as_text() -> None:
    assert limit().describe() == "above 10 blocks"
    assert limit(threshold=1, direction="below", duration="30m").describe() == "below 1 block for 30m"
    assert limit(threshold=0.8, unit="ratio", duration="5m").describe() == "above 80 % for 5m"
    assert limit().alert == "Lag"


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (0.8, "ratio", "80 %"), (0.8004, "ratio", "80.04 %"), (0.01, "ratio", "1 %"), (1 / 3, "ratio", "33.33 %"),
        (0.07, "ratio", "7 %"), (0, "ratio", "0 %"), (1, "ratio", "100 %"), (0.00012345, "ratio", "0.0123 %"),
        (1, "peers", "1 peer"), (2, "peers", "2 peers"), (1, "series", "1 series"), (0, "blocks", "0 blocks"),
        (0.0123, "seconds", "12.3 ms"), (1, "seconds", "1 second"), (75.25, "seconds", "75.25 seconds"),
        (1536, "bytes", "1.5 KiB"), (3 * 2**40, "bytes", "3 TiB"), (12, "bytes", "12 bytes"),
        (INF, "blocks", "infinite blocks"), (-INF, "ratio", "minus infinite"), (NAN, "seconds", "no value"),
        (1204821, "blocks", "1204821 blocks"), (-3, "blocks", "-3 blocks"),
    ],
)  # fmt: skip
def test_quantity(value: float, unit: str, words: str) -> None:
    assert quantity(value, unit) == words


@given(st.floats(allow_nan=True), st.sampled_from(["ratio", "seconds", "bytes", "blocks", "answers"]))
def test_every_number_has_a_text(value: float, unit: str) -> None:
    assert quantity(value, unit).strip()


# --- judge ------------------------------------------------------------------------------------------------------


def judged(rows: dict[str, float], errors: list[Any] | None = None, **fields: Any) -> Finding:
    frame = pd.DataFrame({"node": list(rows), "lag": list(rows.values())})
    if errors is not None:
        frame["error"] = errors
    return judge(limit(**fields), frame, value="lag", target="node", noun="blocks behind")


@pytest.mark.parametrize(
    ("direction", "rows", "status", "targets", "summary"),
    [
        ("above", {"a": 10.0}, "ok", (), "10 blocks behind; alert when above 10 blocks"),
        ("below", {"a": 10.0}, "ok", (), "10 blocks behind; alert when below 10 blocks"),
        ("above", {"a": 11.0}, "alert", ("a",), "11 blocks behind: above 10 blocks"),
        ("below", {"a": 9.0}, "alert", ("a",), "9 blocks behind: below 10 blocks"),
        ("above", {"a": 1.0, "b": 3.0}, "ok", (), "at most 3 blocks behind (b); alert when above 10 blocks"),
        ("below", {"a": 11.0, "b": 13.0}, "ok", (), "at least 11 blocks behind (a); alert when below 10 blocks"),
        ("above", {"a": 11.0, "b": 13.0}, "alert", ("b", "a"),
         "13 blocks behind on b, 11 blocks on a: above 10 blocks (2 of 2)"),
        ("below", {"a": 1.0, "b": 3.0, "c": 99.0}, "alert", ("a", "b"),
         "1 block behind on a, 3 blocks on b: below 10 blocks (2 of 3)"),
        ("above", {"a": INF}, "alert", ("a",), "infinite blocks behind: above 10 blocks"),
        ("above", {"a": -INF}, "ok", (), "minus infinite blocks behind; alert when above 10 blocks"),
        ("above", {"a": NAN}, "unknown", ("a",), "unknown, because a could not be judged: no value"),
        ("above", {"a": 1.0, "b": NAN}, "unknown", ("b",), "unknown, because b could not be judged: no value"),
        ("above", {"a": 11.0, "b": NAN}, "alert", ("a",),
         "11 blocks behind on a: above 10 blocks (1 of 2); b could not be judged: no value"),
        ("above", {"a": NAN, "b": NAN}, "unknown", ("a", "b"),
         "unknown, because none of 2 could be judged: no value"),
        ("above", {}, "unknown", (), "unknown, because there is nothing to judge: no blocks behind"),
    ],
)  # fmt: skip
def test_judge(direction: str, rows: dict[str, float], status: str, targets: tuple[str], summary: str) -> None:
    result = judged(rows, direction=direction)
    assert (result.status, result.targets, result.summary) == (status, targets, summary)
    assert (result.name, result.severity, result.hint) == ("lag", "medium", "look")


def test_names_and_errors_are_made_inert() -> None:
    result = judged({"\x1b[2J<b>": NAN}, ["\x1b]0;owned\x07\u202e"])
    assert not {"\x1b", "\x07", "\u202e"} & set(str(result))
    result = judged({"\x1b[2J<b>": 99})
    assert "\x1b" not in str(result)
    assert "<b>" not in result._repr_mimebundle_()["text/html"]


def test_a_missing_number_in_a_column_of_objects() -> None:
    assert judged({"a": None, "b": 1}).status is Status.UNKNOWN  # type: ignore[dict-item]
    assert judged({"a": pd.NA, "b": 1}).status is Status.UNKNOWN  # type: ignore[dict-item]


def test_errors_of_the_targets() -> None:
    result = judged({"a": 1, "b": NAN}, ["", "the connection was refused"])
    assert result.summary == "unknown, because b could not be judged: the connection was refused"
    result = judged({"a": NAN, "b": NAN}, ["refused", "hangs"])
    assert result.summary == "unknown, because a could not be judged: refused; b could not be judged: hangs"
    result = judged({"a": NAN}, [None])
    assert result.summary == "unknown, because a could not be judged: no value"


def test_many_targets_are_counted_and_listed_in_full() -> None:
    result = judged({f"node-{place}": 20.0 + place for place in range(50)})
    assert result.summary == (
        "69 blocks behind on node-49, 68 blocks on node-48, 67 blocks on node-47 and 47 more: "
        "above 10 blocks (50 of 50)"
    )
    assert len(result.targets) == 50


@given(
    st.dictionaries(st.text(min_size=1, max_size=5), st.floats(allow_nan=True), max_size=6),
    st.sampled_from(["above", "below"]),
)
def test_judge_is_never_ok_without_a_value(rows: dict[str, float], direction: str) -> None:
    result = judged(rows, direction=direction)
    wrong = [value for value in rows.values() if not math.isnan(value) and limit(direction=direction).exceeded(value)]
    if wrong:
        assert result.status is Status.ALERT
        assert len(result.targets) == len(wrong)
    elif not rows or any(map(math.isnan, rows.values())):
        assert result.status is Status.UNKNOWN
    else:
        assert result.status is Status.OK
        assert result.targets == ()
    assert result.summary


# --- verdict ----------------------------------------------------------------------------------------------------

OK = finding(status=Status.OK)
UNKNOWN = finding(status=Status.UNKNOWN, severity=Severity.CRITICAL)
MEDIUM, HIGH, CRITICAL = (finding(severity=severity) for severity in Severity)
BARE = finding(severity=None)
SEEN = {"until": "2030-01-01T00:00:00+00:00", "why": "known", "by": "me"}
SEEN_CRITICAL = finding(severity=Severity.CRITICAL, acknowledged=SEEN)


@pytest.mark.parametrize(
    ("findings", "complete", "expected", "exit_code"),
    [
        ([OK], True, "ok", 0),
        ([OK, OK], False, "unknown", 3),
        ([], True, "unknown", 3),
        ([], False, "unknown", 3),
        ([OK, UNKNOWN], True, "unknown", 3),
        ([OK, MEDIUM], True, "alert", 1),
        ([UNKNOWN, MEDIUM], True, "alert", 1),
        ([HIGH, BARE], True, "alert", 1),
        ([HIGH], False, "unknown", 3),
        ([CRITICAL], False, "critical", 2),
        ([OK, UNKNOWN, HIGH, CRITICAL], True, "critical", 2),
        ([SEEN_CRITICAL], True, "ok", 0),
        ([SEEN_CRITICAL], False, "unknown", 3),
        ([SEEN_CRITICAL, MEDIUM], True, "alert", 1),
        ([SEEN_CRITICAL, UNKNOWN], True, "unknown", 3),
    ],
)
def test_verdict(findings: list[Finding], complete: bool, expected: str, exit_code: int) -> None:
    result = verdict(iter(findings), complete=complete)
    assert (result, result.exit_code) == (Verdict(expected), exit_code)


@given(st.lists(st.sampled_from([OK, UNKNOWN, MEDIUM, HIGH, CRITICAL, BARE, SEEN_CRITICAL]), max_size=6), st.booleans())
def test_verdict_follows_the_worst(findings: list[Finding], complete: bool) -> None:
    result = verdict(findings, complete=complete)
    counted = [each.rank for each in findings if not each.acknowledged]
    worst = min(counted, default=4)
    assert (result is Verdict.CRITICAL) == (worst == 0)
    if result is Verdict.OK:
        assert complete
        assert findings
        assert worst == 4
    assert result is verdict(reversed(findings), complete=complete)


def test_worst_first() -> None:
    order = [CRITICAL, HIGH, MEDIUM, UNKNOWN, OK]
    assert sorted(reversed(order), key=lambda each: each.rank) == order
    assert BARE.rank == MEDIUM.rank


# --- Finding ----------------------------------------------------------------------------------------------------

texts = st.text(max_size=40)
findings = st.builds(
    Finding,
    name=texts,
    status=st.sampled_from(Status),
    summary=texts,
    severity=st.none() | st.sampled_from(Severity),
    targets=st.lists(texts, max_size=4).map(tuple),
    hint=texts,
    observed_at=st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),
    section=texts,
    acknowledged=st.none() | st.fixed_dictionaries({"until": texts, "why": texts, "by": texts}),
)


@given(findings)
def test_a_finding_survives_json(original: Finding) -> None:
    once = Finding.from_json(json.loads(json.dumps(original.to_json())))
    # what was not fit for a page is replaced on the way in, once
    assert Finding.from_json(once.to_json()) == once
    assert (once.status, once.severity, once.observed_at) == (original.status, original.severity, original.observed_at)
    if original.summary.isprintable() and original.summary.isascii():
        assert once.summary == original.summary


@given(findings)
def test_texts_are_neither_markup_nor_escape_sequences(original: Finding) -> None:
    page = original._repr_mimebundle_()["text/html"]
    assert page.count("<") == page.count("</") * 2, page  # our own tags and no other
    once = Finding.from_json(original.to_json())
    assert all(letter.isprintable() or letter == "\n" or letter == "\u3000" for letter in str(once) if letter < "\x80")


@pytest.mark.parametrize(
    "change",
    [
        {"status": "fine"}, {"status": None}, {"status": []}, {"status": 1}, {"severity": "bad"}, {"severity": 0},
        {"severity": ["high"]}, {"summary": 5}, {"summary": None}, {"name": 0}, {"name": ["x"]}, {"hint": {}},
        {"targets": "abc"}, {"targets": [1]}, {"targets": 5}, {"targets": {"a": 1}},
        {"observed_at": "yesterday"}, {"observed_at": 5}, {"observed_at": None}, {"observed_at": "2026-01-01T00:00:00"},
        {"observed_at": "0001-01-01T00:00:00+14:00"}, {"observed_at": "9999-12-31T23:59:59-14:00"},
        {"acknowledged": "yes"}, {"acknowledged": {"until": 5}}, {"acknowledged": [1]},
    ],
)  # fmt: skip
def test_an_invalid_field_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        Finding.from_json(finding().to_json() | change)


@pytest.mark.parametrize("key", ["name", "status", "summary", "observed_at"])
def test_a_missing_field_is_refused(key: str) -> None:
    data = finding().to_json()
    del data[key]
    with pytest.raises(ValueError, match=f"{key}: Field required"):
        Finding.from_json(data)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: (
    st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(list(finding().to_json())), inner))))  # fmt: skip
def test_any_json_is_a_finding_or_a_value_error(data: Any) -> None:
    for candidate in (data, finding().to_json() | data if isinstance(data, dict) else data):
        try:
            result = Finding.from_json(candidate)
        except ValueError:
            continue
        assert isinstance(result, Finding)


def test_hostile_texts_are_inert() -> None:
    bad = "<script>alert(1)</script>\x1b]0;x\x07\u202e\x00"
    result = Finding.from_json(finding(summary=bad, hint=bad, targets=(bad,), name=bad).to_json())
    page = result._repr_mimebundle_()["text/html"]
    assert "<script" not in page
    for character in "\x1b\x07\u202e\x00":
        assert character not in str(result) + page + json.dumps(result.to_json(), ensure_ascii=False)


def test_a_finding_displays_itself() -> None:
    result = finding(severity=Severity.CRITICAL, targets=("node-1", "node-2"))
    assert str(result) == "ALERT (critical) lag: 12 blocks\n  on: node-1, node-2\n  next: look"
    shown = result._repr_mimebundle_()
    assert shown["text/plain"] == str(result)
    assert shown[MIME_TYPE] == result.to_json()
    assert "Next: look" in shown["text/html"]
    assert str(finding(status=Status.OK, severity=Severity.HIGH)) == "OK lag: 12 blocks"


@pytest.mark.parametrize(
    ("status", "severity", "level"),
    [
        (Status.ALERT, Severity.CRITICAL, "critical"), (Status.ALERT, "high", "high"), (Status.ALERT, None, "medium"),
        (Status.UNKNOWN, Severity.CRITICAL, "unknown"), (Status.OK, Severity.HIGH, "ok"),
    ],
)  # fmt: skip
def test_the_level_is_the_severity_of_an_alert_else_the_status(status: Status, severity: Any, level: str) -> None:
    assert finding(status=status, severity=severity).level == level


def test_unknown_says_why() -> None:
    error = Unreachable("the connection was refused\x1b", on="http://x", hint="start it")
    result = Finding.unknown("lag", error, limit())
    assert result.summary == "unknown, because the connection was refused\N{REPLACEMENT CHARACTER} (http://x)"
    assert (result.status, result.severity, result.hint) == (Status.UNKNOWN, Severity.MEDIUM, "start it")
    assert Finding.unknown("lag", "no idea", limit()).hint == "look"
    assert Finding.unknown("lag", "no idea").severity is None
