"""The Prometheus client with a real Prometheus."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support import prometheus_server as server
from xai_runbook.clients.prometheus.client import MAX_POINTS, Prometheus, quoted
from xai_runbook.errors import (
    BadAnswer,
    InputError,
    NoData,
    TooMuch,
)
from xai_runbook.model.window import Window

STRANGE = 'a "quoted" \\ path\nwith {braces} and ünïcode'


@pytest.fixture(scope="module")
def now() -> int:
    return int(time.time()) // 60 * 60


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, now: int) -> Iterator[str]:
    day = range(now - 90_000, now + 60, 60)
    past = server.history(
        {
            'up_and_on{instance="a"}': {at: at - now for at in day},
            'gappy{instance="a"}': {at: 1.0 for at in day if not now - 7200 < at < now - 3600},
            'odd{instance="a"}': {at: ("NaN" if at % 120 else "+Inf") for at in day},
            'clash{at="x",value="y"}': {at: 1.0 for at in day},
            f"strange{{name={quoted(STRANGE)}}}": {at: 1.0 for at in day},
            **{f'many{{n="{n}"}}': {now: 1.0} for n in range(30)},
        }
    )
    with server.running(tmp_path_factory.mktemp("prometheus"), past=past) as address:
        yield address


@pytest.fixture
def prometheus(url: str) -> Prometheus:
    return server.handle(url)


def window(now: int, first: int, last: int) -> Window:
    return Window(datetime.fromtimestamp(now + first, UTC), datetime.fromtimestamp(now + last, UTC))


def test_an_instant_answer_has_a_row_for_each_series(prometheus: Prometheus, now: int) -> None:
    frame = prometheus.instant("up_and_on", datetime.fromtimestamp(now - 600, UTC))
    assert frame.to_dict("records") == [
        {"__name__": "up_and_on", "instance": "a", "at": datetime.fromtimestamp(now - 600, UTC), "value": -600.0}
    ]
    assert prometheus.instant("1 / 0")["value"].tolist() == [math.inf]
    assert abs((prometheus.instant("time()")["at"].iloc[0] - datetime.now(UTC)).total_seconds()) < 5


def test_no_series_is_an_empty_frame_with_its_columns(prometheus: Prometheus, now: int) -> None:
    for frame in (
        prometheus.instant("nothing_of_that_name"),
        prometheus.range("nothing_of_that_name", window(now, -600, 0)),
    ):
        assert frame.empty
        assert list(frame.columns) == ["at", "value"]
        assert str(frame["at"].dtype) == "datetime64[ms, UTC]"


def test_a_range_lies_on_the_multiples_of_its_step(prometheus: Prometheus, now: int) -> None:
    frame = prometheus.range("up_and_on", window(now, -3599, 1), "1m")
    assert len(frame) == 61
    assert frame["at"].iloc[0].timestamp() == now - 3600
    assert frame["value"].tolist() == [float(value) for value in range(-3600, 1, 60)]
    assert frame.attrs["step_seconds"] == 60
    assert frame.attrs["end"] == datetime.fromtimestamp(now, UTC)
    assert frame.attrs["warnings"] == []


def test_gaps_are_absent_rows_and_nan_and_infinity_are_values(prometheus: Prometheus, now: int) -> None:
    gappy = prometheus.range("gappy", window(now, -10_800, 0), "1m")
    quiet = gappy["at"].diff().max()
    assert timedelta(minutes=50) < quiet < timedelta(minutes=60)  # the lookback bridges five minutes of the hour
    assert not gappy["value"].isna().any()
    odd = prometheus.range("odd", window(now, -600, 0), "1m")
    assert len(odd) == 11
    assert {"nan" if math.isnan(value) else value for value in odd["value"]} == {"nan", math.inf}


def test_more_points_than_prometheus_answers_at_once_are_asked_for_in_pieces(prometheus: Prometheus, now: int) -> None:
    whole = prometheus.range("up_and_on", window(now, -86_400, 0), "1s")
    assert len(whole) == 86_401 > MAX_POINTS
    assert (whole["at"].diff().dropna() == timedelta(seconds=1)).all()
    assert whole["value"].iloc[-1] == 0
    edge = prometheus.range("up_and_on", window(now, -(MAX_POINTS - 1), 0), "1s")
    assert len(edge) == MAX_POINTS


def test_without_a_step_a_chart_gets_about_500_points(prometheus: Prometheus, now: int) -> None:
    assert 450 < len(prometheus.range("up_and_on", window(now, -86_400, 0))) <= 502
    assert len(prometheus.range("up_and_on", window(now, -600, 0))) == 41  # not finer than rules are judged
    with pytest.raises(InputError):
        prometheus.range("up_and_on", window(now, -600, 0), "0s")


def test_labels_that_clash_with_our_columns_are_renamed(prometheus: Prometheus, now: int) -> None:
    frame = prometheus.range("clash", window(now, -60, 0), "1m")
    assert set(frame.columns) == {"__name__", "label_at", "label_value", "at", "value"}
    assert frame["label_at"].tolist() == ["x", "x"]


def test_a_quoted_label_value_finds_exactly_its_series(prometheus: Prometheus) -> None:
    query = prometheus.promql("last_over_time(strange{name=${name}}[1h])", name=STRANGE)
    assert prometheus.instant(query)["name"].tolist() == [STRANGE]
    sly = prometheus.promql("strange{name=${name}}", name='x"} or up_and_on{instance!="')
    assert prometheus.instant(sly).empty


def test_too_many_series_are_refused(url: str, now: int) -> None:
    narrow = server.handle(url)
    narrow = Prometheus(narrow.access.model_copy(update={"max_series": 29}), narrow.settings)
    with pytest.raises(TooMuch, match="more than 29 series"):
        narrow.instant("last_over_time(many[1h])")
    with pytest.raises(TooMuch, match="more than 29 series"):
        narrow.range("many", window(now, -60, 60), "1m")


def test_a_window_before_the_retention_is_an_error(prometheus: Prometheus, now: int) -> None:
    month = 30 * 86_400
    with pytest.raises(NoData, match="outside retention"):
        prometheus.range("up_and_on", window(now, -month, -month + 3600))
    frame = prometheus.range("up_and_on", window(now, -month, 0))
    assert not frame.empty
    assert "outside retention" in frame.attrs["warnings"][0]


def test_invalid_promql_is_shown_with_the_position_of_the_error(prometheus: Prometheus) -> None:
    with pytest.raises(InputError, match=r"cannot parse the query.*parse error"):
        prometheus.instant("sum by (")


def test_a_query_that_fails_is_not_an_empty_answer(prometheus: Prometheus) -> None:
    with pytest.raises(BadAnswer, match="execution"):
        prometheus.instant("up_and_on + on (nothing) group_left many{n='1'} + on () last_over_time(many[1h])")


def test_too_many_samples_are_refused(tmp_path: Path, now: int) -> None:
    past = server.history({'up_and_on{instance="a"}': {at: 1.0 for at in range(now - 3600, now, 15)}})
    with (
        server.running(tmp_path, past=past, flags=("--query.max-samples=50",)) as address,
        pytest.raises(TooMuch, match="too many samples"),
    ):
        server.handle(address).range("up_and_on", window(now, -3600, 0), "15s")


def test_the_version_is_the_servers(prometheus: Prometheus) -> None:
    assert prometheus.version == prometheus.buildinfo()["version"]
    assert repr(prometheus) == f"Prometheus({prometheus.url})"


def test_an_instant_without_a_zone_is_refused(prometheus: Prometheus) -> None:
    with pytest.raises(InputError, match="no time zone"):
        prometheus.instant("up", datetime(2026, 1, 1))


@pytest.mark.parametrize("text", ["", "a", 'q"q', "back\\slash", "new\nline", "tab\t", "ü"])
def test_quoted_text_is_a_promql_string(prometheus: Prometheus, text: str) -> None:
    query = " ".join(["label_replace(vector(1), ", quoted("l"), ",", quoted(text.replace("$", "$$")), ',"","")'])
    frame = prometheus.instant(query)
    assert (frame["l"].tolist() if "l" in frame else [""]) == [text]
