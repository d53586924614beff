"""Durations as Prometheus writes them, and windows in UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xai_runbook.errors import InputError
from xai_runbook.model.window import Window, duration_seconds, duration_text

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5m", 300), ("1h30m", 5400), ("500ms", 0.5), ("0s", 0), ("1d", 86400), ("1w", 604800), ("1y", 31536000),
     ("1m1ms", 60.001), ("90s", 90), ("1y2w3d4h5m6s7ms", 33019506.007)],
)  # fmt: skip
def test_duration(text: str, seconds: float) -> None:
    assert duration_seconds(text) == pytest.approx(seconds, abs=1e-9)


@pytest.mark.parametrize(
    "text",
    ["", "5", "m", "5 m", "-5m", "+5m", "5m ", " 5m", "5M", "1.5h", "5m1h", "5m5m", "٥m", "1e3s", "5m\n",
     "9" * 5000 + "s",
     None, 5, b"5m", ["5m"]],
)  # fmt: skip
def test_text_that_is_not_a_duration(text: object) -> None:
    with pytest.raises(InputError, match="duration"):
        duration_seconds(text)  # type: ignore[arg-type]


@given(st.integers(0, 10**12))
def test_every_duration_has_a_text(milliseconds: int) -> None:
    text = duration_text(milliseconds / 1000)
    assert round(duration_seconds(text) * 1000) == milliseconds


def test_window_until_now() -> None:
    window = Window.parse("6h", NOW)
    assert (window.start, window.end, window.seconds) == (NOW - timedelta(hours=6), NOW, 21600)
    assert abs((Window.parse("1m").end - datetime.now(UTC)).total_seconds()) < 60


def test_window_of_two_instants_is_in_utc() -> None:
    window = Window.parse("2026-01-31T10:00:00+02:00 / 2026-01-31T09:00:00Z")
    assert str(window) == "2026-01-31 08:00:00 to 2026-01-31 09:00:00 UTC"
    assert window.start.tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    ["", "0s", "11y", "yesterday", "/", "6h/7h", "2026-01-31/2026-02-01", "2026-01-31T10:00:00/2026-01-31T11:00:00Z",
     "2026-01-31T11:00:00Z/2026-01-31T10:00:00Z", "2026-01-31T10:00:00Z/2026-01-31T10:00:00Z",
     "2026-13-31T10:00:00Z/2026-01-31T10:00:00Z", "a/b/c", "0001-01-01T00:00:00+14:00/2026-01-31T10:00:00Z",
     "2026-01-31T10:00:00Z/9999-12-31T23:59:59-14:00", "999999999999y"],
)  # fmt: skip
def test_text_that_is_not_a_window(text: str) -> None:
    with pytest.raises(InputError):
        Window.parse(text, NOW)


@given(
    st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)),
    st.timedeltas(timedelta(microseconds=1), timedelta(days=3650)),
    st.integers(-14, 14),
)
def test_a_window_is_what_its_instants_say(start: datetime, length: timedelta, hours: int) -> None:
    zone = timezone(timedelta(hours=hours))
    first = start.replace(tzinfo=zone)
    window = Window.parse(f"{first.isoformat()}/{(first + length).isoformat()}")
    assert window.start == first
    assert window.seconds == length.total_seconds()
