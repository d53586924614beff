"""The bytes of a Prometheus answer as arrays, without a Python object for each sample.

A range answer of 1,000 series a day long is 48 MB of `[1705334400,"0.84"],` in which only the numbers differ. What
Prometheus writes is recognised byte by byte and its numbers are read a series at a time; whatever looks otherwise
(white space, another order of keys, escapes where none are expected) is read the ordinary way, to the same result.
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
# Neither can occur inside a string of legal JSON: there a quote has a backslash before it, here it has a comma.
_VALUES = b'},"values":[['
_SERIES = re.compile(rb'"metric"\s*:\s*\{')  # nor can this; and a label called metric has a text, no object
_NUMERALS = b"0123456789.eE+-Na"
_PUNCTUATION = b'"[]'
_SAMPLE = b',""],['


@dataclass(frozen=True)
class Samples:
    """Series after series: the labels and length of each, then the times and values of all."""

    labels: Sequence[dict[str, str]]
    lengths: NDArray[np.int64]
    at_ms: NDArray[np.int64]
    """Milliseconds since 1970, Prometheus' own resolution."""
    values: NDArray[np.float64]
    warnings: tuple[str, ...] = ()


def decode(body: bytes, *, on: str, most_series: int) -> Samples:
    """The samples of an instant or range answer. `on` names who answered.

    Errors: TooMuch for more than `most_series` series; BadAnswer for what is no such answer, native histograms too.
    """
    samples = _read_fast(body, on, most_series)
    return samples if samples is not None else read_any(body, on=on, most_series=most_series)


def read_any(body: bytes, *, on: str, most_series: int) -> Samples:
    """As `decode`, for any legal JSON, with an object for each sample on the way."""
    # counted in the text: a million series as objects would fill the memory before they could be refused
    _refuse_more(sum(1 for _ in islice(_SERIES.finditer(body), most_series + 1)), most_series, on)
    try:
        answer = orjson.loads(body)
        kind, result = answer["data"]["resultType"], answer["data"]["result"]
        if kind in ("scalar", "string"):
            series: list[dict[str, Any]] = [{"metric": {}, "value": result}]
        elif kind in ("vector", "matrix") and isinstance(result, list):
            series = result
        else:
            raise BadAnswer(f"answered with a {str(kind)[:20]!r} where a vector or matrix belongs", on=on)
        _refuse_more(len(series), most_series, on)
        if any("histogram" in one or "histograms" in one for one in series):
            raise BadAnswer(
                "answered with native histograms, which are no numbers",
                on=on,
                hint="ask for histogram_quantile(), histogram_count() or histogram_sum() of them",
            )
        labels = _checked([one["metric"] for one in series])
        samples = [one["values"] if kind == "matrix" else [one["value"]] for one in series]
        # strings only: a bare number would be a server of another kind, whose NaN we could not see
        values = [float(_text(value)) for one in samples for _, value in one]
        seconds = [at for one in samples for at, _ in one]
        if not all(type(at) in (int, float) for at in seconds):
            raise TypeError("a time is a number")
        return Samples(
            labels,
            np.array([len(one) for one in samples], dtype=np.int64),
            _milliseconds(np.array(seconds, dtype=np.float64)),
            np.array(values, dtype=np.float64),
            _warnings(answer),
        )
    except CannotAsk:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        raise BadAnswer("the answer is not what Prometheus answers with", on=on, hint="is it a proxy's page?") from None


def _read_fast(body: bytes, on: str, most_series: int) -> Samples | None:
    """None where the bytes are not exactly what Prometheus writes; then nothing was concluded."""
    if not body.startswith(_HEAD):
        return None
    labels: list[bytes] = []
    instants: list[NDArray[np.int64]] = []
    values: list[NDArray[np.float64]] = []
    times: list[float] = []
    at_ms = np.empty(0, dtype=np.int64)
    here = len(_HEAD)
    try:
        while True:
            first = body.find(_VALUES, here) if body.startswith(_LABELS, here) else -1
            last = body.find(b"}", first + len(_VALUES)) - 2
            if first < 0 or last < 0 or not body.startswith(b"]]", last):
                return None
            labels.append(body[here + len(_LABELS) - 1 : first + 1])
            _refuse_more(len(labels), most_series, on)
            own, told = _series(body[first + len(_VALUES) : last])
            if own != times:  # the series of one answer mostly share their times
                times, at_ms = own, _milliseconds(np.array(own, dtype=np.float64))
            instants.append(at_ms)
            values.append(np.array(told, dtype=np.float64))  # None, for NaN, becomes NaN
            here = last + 2
            if body.startswith(b"}]", here):
                break
            if not body.startswith(b"},", here):
                return None
            here += 2
        tail = body[here + 1 :]
        if b'"data"' in tail or b'"result' in tail:  # a second one would count, and be the only one to count
            return None
        answer = orjson.loads(_HEAD + tail)
        every = _checked(orjson.loads(b"[" + b",".join(labels) + b"]"))
        if len(every) != len(labels) or answer["data"]["result"] != []:
            return None
        warnings = _warnings(answer)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return None
    lengths = np.array([len(one) for one in values], dtype=np.int64)
    return Samples(every, lengths, np.concatenate(instants), np.concatenate(values), warnings)


def _series(text: bytes) -> tuple[list[float], list[float]]:
    """Times and values of `1705334400,"0.84"],[1705334460,"NaN"`. ValueError, TypeError where it looks otherwise.

    Looking for one byte is many times faster than for two, so the rare cases are looked for by theirs.
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
            pass  # +Inf, or a numeral that JSON does not know
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


def _checked(labels: Any) -> list[dict[str, str]]:
    if not all(isinstance(text, str) for one in labels for text in one.values()):
        raise TypeError("a label's value is a string")
    return list(labels)


def _warnings(answer: Any) -> tuple[str, ...]:
    return tuple(str(text) for key in ("warnings", "infos") for text in answer.get(key) or ())


def _refuse_more(count: int, most: int, on: str) -> None:
    if count > most:
        raise TooMuch(
            f"more than {most} series answer",
            on=on,
            hint="narrow the query (a label, sum by), or raise most_series in [prometheus]",
        )


def joined(parts: Sequence[Samples], *, on: str, most_series: int) -> Samples:
    """Answers over successive windows as one: the samples of each series together, in the order of the parts."""
    if len(parts) == 1:
        return parts[0]
    code: dict[frozenset[tuple[str, str]], int] = {}
    of_series = [[code.setdefault(frozenset(one.items()), len(code)) for one in part.labels] for part in parts]
    _refuse_more(len(code), most_series, on)
    codes = np.concatenate(
        [np.repeat(np.array(own, dtype=np.int64), part.lengths) for own, part in zip(of_series, parts, strict=True)]
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
    """Long: a categorical column for each label (an absent label is "", as in PromQL), `at` (UTC), `value`."""
    columns: dict[str, Any] = {}
    for name, texts in _columns(samples.labels):
        categories, codes = np.unique(np.array(texts, dtype=object), return_inverse=True)
        small = codes.astype(np.int16 if len(categories) < 2**15 else np.int32)
        columns[name] = pd.Categorical.from_codes(np.repeat(small, samples.lengths), pd.Index(categories, dtype="str"))
    return _framed(columns, samples)


def text_frame(samples: Samples) -> pd.DataFrame:
    """As `frame`, with labels as plain strings: for answers of one sample a series."""
    return _framed(
        {name: np.repeat(np.array(texts, dtype=object), samples.lengths) for name, texts in _columns(samples.labels)},
        samples,
    )


def _framed(columns: dict[str, Any], samples: Samples) -> pd.DataFrame:
    columns["at"] = pd.DatetimeIndex(samples.at_ms.view("M8[ms]")).tz_localize("UTC")
    columns["value"] = samples.values
    made = pd.DataFrame(columns, copy=False)
    made.attrs["warnings"] = list(samples.warnings)
    return made


def _columns(labels: Sequence[dict[str, str]]) -> Iterable[tuple[str, list[str]]]:
    names = list(dict.fromkeys(name for one in labels for name in one))
    taken = {*names, "at", "value"}
    for name in names:
        column = name
        while column in ("at", "value") or (column != name and column in taken):
            column = f"label_{column}"
        taken.add(column)
        yield column, [one.get(name, "") for one in labels]
