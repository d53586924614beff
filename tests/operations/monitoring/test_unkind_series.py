"""Unusual series in a real Prometheus, and an answer with a million series."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from tests.support import prometheus_server as server
from xai_runbook.clients.prometheus.client import Prometheus
from xai_runbook.model.window import Window

QUARTER = 900
WORDS = [
    'say "{a="b"}"',
    "back\\slash",
    "line\nfeed",
    "{__name__=~'.+'}",
    "} or vector(1) #",
    "${instance}",
    "ü 表 \u202e",
]


def written(text: str) -> str:
    """Return a label's value in OpenMetrics syntax."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


@pytest.fixture(scope="module")
def end() -> int:
    """The end of the previous quarter of an hour."""
    return int(time.time()) // QUARTER * QUARTER - QUARTER


@pytest.fixture(scope="module")
def prometheus(end: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    minutes = range(end - 4 * QUARTER, end + 1, 60)
    past = server.history({
        "xai:recorded": {at: 1.0 for at in range(end - 4 * QUARTER, end + 1, QUARTER)},
        'named{value="v",at="a",instance="i",node="n",idle="x",state="s"}': {at: 2.0 for at in minutes},
        **{f'quoted{{word="{written(word)}"}}': {at: 3.0 for at in minutes} for word in WORDS},
        'counted{how="again from 0"}': {at: float((at - end) % 1800) for at in minutes},
        'here{when="first"}': {at: 1.0 for at in minutes if at < end - 2 * QUARTER},
        'here{when="last"}': {at: 1.0 for at in minutes if at >= end - 2 * QUARTER},
        "odd": {at: (1.0, float("nan"), float("inf"))[at // 60 % 3] for at in minutes},
    })  # fmt: skip
    with server.running(tmp_path_factory.mktemp("unkind"), past=past) as url:
        yield server.handle(url)


@pytest.fixture
def window(end: int) -> Window:
    first, last = (datetime.fromtimestamp(at, UTC) for at in (end - 4 * QUARTER, end))
    return Window(first, last)


def test_a_rule_recorded_every_15_minutes_has_gaps(prometheus: Prometheus, window: Window, end: int) -> None:
    """Prometheus repeats a value for five minutes; the ten minutes after that are a gap."""
    frame = prometheus.range("xai:recorded", window, "1m")
    seen = {(int(at.timestamp()) - end) % QUARTER // 60 for at in frame["at"]}
    assert seen in ({0, 1, 2, 3, 4}, {0, 1, 2, 3, 4, 5}), "version 3 takes the fifth minute away"
    assert prometheus.instant("xai:recorded", datetime.fromtimestamp(end - 60, UTC)).empty


def test_labels_with_the_names_of_our_columns_are_renamed(prometheus: Prometheus, window: Window, end: int) -> None:
    for frame in (prometheus.range("named", window), prometheus.instant("named", datetime.fromtimestamp(end, UTC))):
        row = frame.iloc[-1]
        assert row["value"] == 2.0 and row["at"].tzinfo is not None
        assert [row[name] for name in ("label_value", "label_at", "instance", "node")] == ["v", "a", "i", "n"]


@pytest.mark.parametrize("word", WORDS)
def test_quotes_and_braces_of_a_label_value_are_escaped(prometheus: Prometheus, end: int, word: str) -> None:
    query = prometheus.promql("quoted{word=${word}}", word=word)
    frame = prometheus.instant(query, datetime.fromtimestamp(end, UTC))
    assert frame["word"].tolist() == [word]


def test_the_rate_of_a_reset_counter_is_never_negative(prometheus: Prometheus, window: Window) -> None:
    rates = prometheus.range("rate(counted[3m])", window, "1m")["value"]
    assert len(rates) > 50 and (rates >= 0).all()


def test_a_series_exists_only_while_it_has_samples(prometheus: Prometheus, window: Window, end: int) -> None:
    frame = prometheus.range("here", window, "1m")
    turn, last = end - 2 * QUARTER, frame.groupby("when", observed=True)["at"]
    assert last.min()["last"].timestamp() == turn
    assert turn - 60 <= last.max()["first"].timestamp() <= turn + 240, "Prometheus' lookback, and no longer"


def test_nan_and_infinity_are_values(prometheus: Prometheus, window: Window) -> None:
    values = prometheus.range("odd", window, "1m")["value"]
    assert len(values) == 61 and values.isna().sum() > 15 and (values == float("inf")).sum() > 15


_REFUSED = """
import sys
from tests.support.prometheus_server import handle
from xai_runbook.errors import TooMuch
prometheus = handle(sys.argv[1], prometheus={"timeout": "60s"})
prometheus.version
import numpy, orjson, pandas
def peak():  # not getrusage's, which begins with the parent's
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
before = peak()
try:
    prometheus.instant("everything")
except TooMuch as error:
    print(peak() - before, error.what)
"""


def test_a_million_series_are_refused_before_they_fill_memory() -> None:
    """Memory holds the text of the answer, but none of its million series."""
    one = '{"metric":{"__name__":"everything","instance":"node-%d"},"value":[1705334400,"1"]}'
    many = ",".join(one % number for number in range(1_000_000))
    body = f'{{"status":"success","data":{{"resultType":"vector","result":[{many}]}}}}'.encode()

    def answer(path: str) -> tuple[int, str, bytes]:
        content = b'{"status":"success","data":{"version":"2.42.0"}}' if "buildinfo" in path else body
        return 200, "application/json", content

    with server.serving(answer) as url:
        done = subprocess.run(
            [sys.executable, "-c", _REFUSED, url], capture_output=True, text=True, timeout=120, check=False
        )
    grown, _, words = done.stdout.partition(" ")
    assert "more than" in words and "series" in words, done.stderr[-500:]
    assert len(body) / 2 < int(grown) < 3 * len(body), (
        f"{int(grown) / len(body):.1f} times the answer's {len(body)} bytes"
    )
