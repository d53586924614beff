"""Decode Prometheus' samples into arrays, without a Python object for each sample.

A range answer of 1,000 series over one day is 48 MB of `[1705334400,"0.84"],` in which only the numbers differ. If the
bytes have exactly the form that Prometheus writes, the numbers are decoded a whole series at a time. Anything else
(white space, another order of keys, unexpected escapes) is decoded as ordinary JSON, with the same result.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pandas as pd

from xai_runbook.errors import BadAnswer, CannotAsk, TooMuch

if TYPE_CHECKING:
    from numpy.typing import NDArray

_HEAD = b'{"status":"success","data":{"resultType":"matrix","result":['
_LABELS = b'{"metric":{'
# Neither can occur inside a JSON string: a quote in a string follows a backslash, this one follows a comma.
_VALUES = b'},"values":[['
_SERIES = re.compile(rb'"metric"\s*:\s*\{')  # a label named metric has a string as its value, not an object
_NUMERALS = b"0123456789.eE+-Na"
_PUNCTUATION = b'"[]'
_SAMPLE = b',""],['


@dataclass(frozen=True)
class Samples:
    """Samples of several series: labels and number of samples of each, then the times and values of all."""

    labels: Sequence[dict[str, str]]
    lengths: NDArray[np.int64]
    at_ms: NDArray[np.int64]
    """Milliseconds since 1970, Prometheus' own resolution."""
    values: NDArray[np.float64]
    warnings: tuple[str, ...] = ()


def decode(body: bytes, *, on: str, max_series: int) -> Samples:
    """Decode an instant or range answer. `on` is the server's name in errors.

    Errors: TooMuch for more than `max_series` series; BadAnswer for any other answer, and for native histograms.
    """
    samples = _read_fast(body, on, max_series)
    return samples if samples is not None else read_any(body, on=on, max_series=max_series)


def read_any(body: bytes, *, on: str, max_series: int) -> Samples:
    """Decode as `decode` does, from any valid JSON, with a Python object for each sample."""
    # counted in the text, because a million series as objects would fill the memory first
    _refuse_more(sum(1 for _ in islice(_SERIES.finditer(body), max_series + 1)), max_series, on)
    try:
        answer = orjson.loads(body)
        kind, result = answer["data"]["resultType"], answer["data"]["result"]
        if kind in ("scalar", "string"):
            series: list[dict[str, Any]] = [{"metric": {}, "value": result}]
        elif kind in ("vector", "matrix") and isinstance(result, list):
            series = result
        else:
            raise BadAnswer(f"answered with {str(kind)[:20]!r}, expected a vector or matrix", on=on)
        _refuse_more(len(series), max_series, on)
        if any("histogram" in each or "histograms" in each for each in series):
            raise BadAnswer(
                "answered with native histograms instead of numbers",
                on=on,
                hint="histogram_quantile(), histogram_count() or histogram_sum() of them",
            )
        labels = _checked_labels([each["metric"] for each in series])
        samples = [each["values"] if kind == "matrix" else [each["value"]] for each in series]
        # strings only: a server that writes bare numbers is not Prometheus, and cannot write NaN
        values = [float(_text(value)) for each in samples for _, value in each]
        seconds = [at for each in samples for at, _ in each]
        if not all(type(at) in (int, float) for at in seconds):
            raise TypeError("a time is a number")
        return Samples(
            labels,
            np.array([len(each) for each in samples], dtype=np.int64),
            _milliseconds(np.array(seconds, dtype=np.float64)),
            np.array(values, dtype=np.float64),
            _warnings(answer),
        )
    except CannotAsk:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        raise BadAnswer(
            "not a valid Prometheus answer", on=on, hint="check the URL; it may be the page of a proxy"
        ) from None


def _read_fast(body: bytes, on: str, max_series: int) -> Samples | None:
    """Decode bytes of exactly the form that Prometheus writes; return None for any other form. Errors: TooMuch."""
    if not body.startswith(_HEAD):
        return None
    labels: list[bytes] = []
    instants: list[NDArray[np.int64]] = []
    values: list[NDArray[np.float64]] = []
    times: list[float] = []
    at_ms = np.empty(0, dtype=np.int64)
    position = len(_HEAD)
    try:
        while True:
            first = body.find(_VALUES, position) if body.startswith(_LABELS, position) else -1
            last = body.find(b"}", first + len(_VALUES)) - 2
            if first < 0 or last < 0 or not body.startswith(b"]]", last):
                return None
            labels.append(body[position + len(_LABELS) - 1 : first + 1])
            _refuse_more(len(labels), max_series, on)
            series_times, series_values = _series(body[first + len(_VALUES) : last])
            if series_times != times:  # the series of one answer mostly share their times
                times, at_ms = series_times, _milliseconds(np.array(series_times, dtype=np.float64))
            instants.append(at_ms)
            values.append(np.array(series_values, dtype=np.float64))  # None, for NaN, becomes NaN
            position = last + 2
            if body.startswith(b"}]", position):
                break
            if not body.startswith(b"},", position):
                return None
            position += 2
        tail = body[position + 1 :]
        if b'"data"' in tail or b'"result' in tail:  # of duplicate keys JSON takes the last one
            return None
        answer = orjson.loads(_HEAD + tail)
        label_sets = _checked_labels(orjson.loads(b"[" + b",".join(labels) + b"]"))
        if len(label_sets) != len(labels) or answer["data"]["result"] != []:
            return None
        warnings = _warnings(answer)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return None
    lengths = np.array([len(each) for each in values], dtype=np.int64)
    return Samples(label_sets, lengths, np.concatenate(instants), np.concatenate(values), warnings)


def _series(text: bytes) -> tuple[list[float], list[float]]:
    """Return times and values of `1705334400,"0.84"],[1705334460,"NaN"`. Errors: ValueError, TypeError.

    Searching for a single byte is many times faster than for two, so rare cases are detected by a single byte first.
    """
    count = text.count(b"[") + 1
    regular = text.translate(None, _NUMERALS) == (_SAMPLE * count)[:-3]
    if regular and not (b"-" in text and b'"-0"' in text):  # as a JSON integer it would lose its sign
        bare = (text.replace(b'"NaN"', b"null") if b"N" in text else text).translate(None, _PUNCTUATION)
        try:
            # with neither quotes nor brackets the series is one JSON array of exactly 2 * count numbers
            numbers = orjson.loads(b"[" + bare + b"]")
            return numbers[0::2], numbers[1::2]
        except orjson.JSONDecodeError:
            pass  # +Inf, or a number that is not valid JSON
    pairs = orjson.loads(b"[[" + text + b"]]")
    if not all(type(at) in (int, float) for at, _ in pairs):
        raise TypeError("a time is a number")
    return [at for at, _ in pairs], [float(_text(value)) for _, value in pairs]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("a sample's value is a string")
    return value


def _milliseconds(seconds: NDArray[np.float64]) -> NDArray[np.int64]:
    milliseconds = np.rint(seconds * 1000)
    if not np.all(np.abs(milliseconds) < 2**62):
        raise OverflowError("a time beyond all calendars")
    return milliseconds.astype(np.int64)


def _checked_labels(labels: Any) -> list[dict[str, str]]:
    if not all(isinstance(text, str) for each in labels for text in each.values()):
        raise TypeError("a label's value is a string")
    return list(labels)


def _warnings(answer: Any) -> tuple[str, ...]:
    return tuple(str(text) for key in ("warnings", "infos") for text in answer.get(key) or ())


def _refuse_more(count: int, most: int, on: str) -> None:
    if count > most:
        raise TooMuch(
            f"the answer has more than {most} series",
            on=on,
            hint="narrow the query (a label, sum by), or raise max_series in [prometheus]",
        )


def joined(parts: Sequence[Samples], *, on: str, max_series: int) -> Samples:
    """Join the answers of successive windows: the samples of each series together, in the order of the parts."""
    if len(parts) == 1:
        return parts[0]
    code: dict[frozenset[tuple[str, str]], int] = {}
    part_codes = [[code.setdefault(frozenset(each.items()), len(code)) for each in part.labels] for part in parts]
    _refuse_more(len(code), max_series, on)
    codes = np.concatenate(
        [np.repeat(np.array(each, dtype=np.int64), part.lengths) for each, part in zip(part_codes, parts, strict=True)]
    )
    order = np.argsort(codes, kind="stable")
    return Samples(
        [dict(labels) for labels in code],
        np.bincount(codes, minlength=len(code)).astype(np.int64),
        np.concatenate([part.at_ms for part in parts])[order],
        np.concatenate([part.values for part in parts])[order],
        tuple(dict.fromkeys(text for part in parts for text in part.warnings)),
    )


def frame(samples: Samples) -> pd.DataFrame:
    """Return a long frame: a categorical column for each label ("" if missing, as in PromQL), `at` (UTC), `value`."""
    columns: dict[str, Any] = {}
    for name, texts in _columns(samples.labels):
        categories, codes = np.unique(np.array(texts, dtype=object), return_inverse=True)
        small = codes.astype(np.int16 if len(categories) < 2**15 else np.int32)
        columns[name] = pd.Categorical.from_codes(np.repeat(small, samples.lengths), pd.Index(categories, dtype="str"))
    return _with_samples(columns, samples)


def text_frame(samples: Samples) -> pd.DataFrame:
    """Return a frame as `frame` does, with labels as plain strings: for answers of one sample per series."""
    return _with_samples(
        {name: np.repeat(np.array(texts, dtype=object), samples.lengths) for name, texts in _columns(samples.labels)},
        samples,
    )


def _with_samples(columns: dict[str, Any], samples: Samples) -> pd.DataFrame:
    columns["at"] = pd.DatetimeIndex(samples.at_ms.view("M8[ms]")).tz_localize("UTC")
    columns["value"] = samples.values
    result = pd.DataFrame(columns, copy=False)
    result.attrs["warnings"] = list(samples.warnings)
    return result


def _columns(labels: Sequence[dict[str, str]]) -> Iterable[tuple[str, list[str]]]:
    names = list(dict.fromkeys(name for each in labels for name in each))
    taken = {*names, "at", "value"}
    for name in names:
        column = name
        while column in ("at", "value") or (column != name and column in taken):
            column = f"label_{column}"
        taken.add(column)
        yield column, [each.get(name, "") for each in labels]
