"""The fast decoder of range answers returns what the ordinary one returns."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from xai_runbook.clients.prometheus import samples
from xai_runbook.errors import BadAnswer, TooMuch

NASTY = [
    '"values":[[',
    '},"values":[[1,"2"]]},{"metric":{',
    "]]",
    "}]",
    "\\",
    '\\"',
    "\n",
    "é\u202e",
    "{}",
    "NaN",
    "-0",
]
VALUES = [
    "NaN",
    "+Inf",
    "-Inf",
    "-0",
    "0",
    "1",
    "-1.5",
    "1e+06",
    "1e-320",
    "123456789012345678901234",
    "18446744073709551617",
    "0.1",
    "1.7976931348623157e+308",
    "007",
    "1e999",
    "1.",
    "0x1p-2",
    "nan",
    "null",
    "true",
    "",
    "1,2",
    "]]",
    "1_0",
]

label = st.one_of(st.text(max_size=8), st.sampled_from(NASTY))
value = st.one_of(st.floats(width=64).map(repr), st.sampled_from(VALUES))
instant = st.one_of(st.integers(0, 4_000_000_000), st.integers(0, 4_000_000_000_000).map(lambda ms: ms / 1000))
series = st.fixed_dictionaries(
    {
        "metric": st.dictionaries(
            st.one_of(label, st.sampled_from(["at", "value", "values", "instance"])), label, max_size=3
        ),
        "values": st.lists(st.tuples(instant, value).map(list), max_size=4),
    }
)


def answer(result: list[Any], **more: Any) -> dict[str, Any]:
    return {"status": "success", "data": {"resultType": "matrix", "result": result}, **more}


def outcome(read: Any, body: bytes) -> Any:
    try:
        got = read(body, on="test", max_series=100)
    except (BadAnswer, TooMuch) as error:
        return type(error)
    return (
        [dict(one) for one in got.labels],
        got.lengths.tolist(),
        got.at_ms.tolist(),
        list(got.warnings),
        [
            (repr(number), math.copysign(1, number)) if not math.isnan(number) else "nan"
            for number in got.values.tolist()
        ],
    )


def same(body: bytes) -> Any:
    fast, plain = outcome(samples.decode, body), outcome(samples.read_any, body)
    assert fast == plain, body
    return plain


@settings(max_examples=400, deadline=None)
@given(st.lists(series, max_size=4), st.booleans(), st.lists(label, max_size=2))
@example([{"metric": {"a": 'x},"values":[[1,"2"]]'}, "values": [[1, "2"]]}], False, [])
@example([{"metric": {}, "values": [[1.5, "-0"], [2.5, "NaN"], [3, "+Inf"]]}], False, ['"data"', "b"])
def test_both_decoders_read_any_answer_alike(result: list[Any], spaced: bool, warnings: list[str]) -> None:
    whole = answer(result, **({"warnings": warnings} if warnings else {}))
    same(json.dumps(whole, ensure_ascii=spaced).encode() if spaced else orjson.dumps(whole))


@settings(max_examples=600, deadline=None)
@given(st.lists(series, min_size=1, max_size=3), st.data())
def test_both_decoders_read_or_refuse_damaged_answers_alike(result: list[Any], data: st.DataObject) -> None:
    body = orjson.dumps(answer(result))
    for _ in range(data.draw(st.integers(1, 3))):
        first = data.draw(st.integers(0, len(body)))
        last = min(len(body), first + data.draw(st.integers(0, 6)))
        piece = data.draw(
            st.sampled_from([b"", b'"', b",", b"[", b"]", b"}", b"{", b"1", b"-", b"null", b'"1"', b"NaN", b" "])
        )
        body = body[:first] + piece + body[last:]
    same(body)


def test_prometheus_own_format_uses_the_fast_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    body = orjson.dumps(
        answer(
            [
                {"metric": {"a": 'x"},{'}, "values": [[1, "2"], [1.5, "NaN"]]},
                {"metric": {"a": "y"}, "values": [[1, "+Inf"], [2, "3e+20"]]},
            ],
            warnings=["w"],
        )
    )
    plain = outcome(samples.read_any, body)
    monkeypatch.setattr(samples, "read_any", None)  # calling it would fail
    assert outcome(samples.decode, body) == plain
    assert plain[0] == [{"a": 'x"},{'}, {"a": "y"}]
    assert plain[2] == [1000, 1500, 1000, 2000]


@pytest.mark.parametrize(
    ("series", "says"),
    [
        ({"metric": {}, "values": [[1, "2"]], "histograms": [[1, {"count": "1"}]]}, "native histograms"),
        ({"metric": {}, "histograms": [[1, {"count": "1"}]]}, "native histograms"),
        ({"metric": {}, "values": [[1, 2]]}, "not a valid Prometheus answer"),
        ({"metric": {}, "values": [["1", "2"]]}, "not a valid Prometheus answer"),
        ({"metric": {}, "values": [[True, "2"]]}, "not a valid Prometheus answer"),
        ({"metric": {"a": 1}, "values": [[1, "2"]]}, "not a valid Prometheus answer"),
        ({"metric": {}, "values": [[1e300, "2"]]}, "not a valid Prometheus answer"),
        ({"values": [[1, "2"]]}, "not a valid Prometheus answer"),
        ("text", "not a valid Prometheus answer"),
    ],
)
def test_a_malformed_series_is_refused(series: Any, says: str) -> None:
    with pytest.raises(BadAnswer, match=says):
        samples.decode(orjson.dumps(answer([series])), on="test", max_series=10)


def test_two_label_sets_in_one_series_are_refused() -> None:
    body = orjson.dumps(answer([{"metric": {"a": "b"}, "values": [[1, "2"]]}] * 2))
    broken = body.replace(b'{"a":"b"}', b'{"a":"b"},{"c":"d"}', 1)
    with pytest.raises(BadAnswer):
        samples.decode(broken, on="test", max_series=10)


def test_truncated_answers_are_refused_wherever_they_end() -> None:
    body = orjson.dumps(answer([{"metric": {"a": "b"}, "values": [[1, "2"], [2, "3"]]}] * 2))
    for end in range(len(body)):
        with pytest.raises(BadAnswer):
            samples.decode(body[:end], on="test", max_series=10)


@pytest.mark.parametrize("indent", [None, 1])
def test_too_many_series_are_refused_by_both_decoders(indent: int | None) -> None:
    body = json.dumps(
        answer([{"metric": {"a": str(n)}, "values": [[1, "2"]]} for n in range(11)]),
        indent=indent,
        separators=(",", ":"),
    ).encode()
    assert len(samples.decode(body, on="test", max_series=11).labels) == 11
    with pytest.raises(TooMuch, match="more than 10 series"):
        samples.decode(body, on="test", max_series=10)


def test_the_frame_has_categories_utc_and_room_for_labels_named_as_our_columns() -> None:
    body = orjson.dumps(
        answer(
            [
                {"metric": {"instance": "a", "at": "x", "label_at": "z"}, "values": [[1.5, "1"], [2, "NaN"]]},
                {"metric": {"instance": "b", "value": "y"}, "values": [[1, "+Inf"]]},
            ]
        )
    )
    frame = samples.frame(samples.decode(body, on="test", max_series=10))
    assert len(set(frame.columns)) == 6
    assert {"instance", "at", "value", "label_value"} < set(frame.columns)
    assert str(frame["at"].dtype) == "datetime64[ms, UTC]"
    assert frame["instance"].dtype == "category"
    assert frame["instance"].tolist() == ["a", "a", "b"]
    assert frame["label_value"].tolist() == ["", "", "y"]
    assert frame["at"].dt.microsecond.tolist() == [500000, 0, 0]
    assert np.isposinf(frame["value"].iloc[2])
    assert frame["value"].isna().tolist() == [False, True, False]


def test_parts_of_a_window_become_one_series_each() -> None:
    first = orjson.dumps(
        answer([{"metric": {"a": "1"}, "values": [[1, "10"]]}, {"metric": {"a": "2"}, "values": [[1, "20"]]}])
    )
    second = orjson.dumps(
        answer(
            [{"metric": {"a": "2"}, "values": [[2, "21"]]}, {"metric": {"a": "3"}, "values": [[2, "30"]]}],
            warnings=["w"],
        )
    )
    parts = [samples.decode(body, on="test", max_series=10) for body in (first, second)]
    whole = samples.joined(parts, on="test", max_series=3)
    assert [(one["a"], int(count)) for one, count in zip(whole.labels, whole.lengths, strict=True)] == [
        ("1", 1),
        ("2", 2),
        ("3", 1),
    ]
    assert whole.values.tolist() == [10, 20, 21, 30]
    assert whole.at_ms.tolist() == [1000, 1000, 2000, 2000]
    assert whole.warnings == ("w",)
    with pytest.raises(TooMuch):
        samples.joined(parts, on="test", max_series=2)
