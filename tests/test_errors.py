"""The error tree: each says what, on what and what to try, survives a process border, and is inert."""

from __future__ import annotations

import copy
import pickle
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xai_runbook import errors
from xai_runbook.errors import MARKER, CannotAsk, NotConfigured, XaiRunbookError, inert

KINDS = sorted(
    (kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, XaiRunbookError)),
    key=lambda kind: kind.__name__,
)


def test_the_tree() -> None:
    told = {kind.__name__ for kind in KINDS if issubclass(kind, CannotAsk)} - {"CannotAsk"}
    assert told == {
        "Unreachable",
        "TimedOut",
        "AccessDenied",
        "WrongServer",
        "BadAnswer",
        "Damaged",
        "TooMuch",
        "NoData",
        "PartMissing",
    }
    others = {kind.__name__ for kind in KINDS if not issubclass(kind, CannotAsk)}
    assert {"InputError", "SettingsError", "NotConfigured", "SandboxError", "ReportError"} < others
    for kind in KINDS:
        assert kind.__name__ in (errors.__doc__ or "")


@pytest.mark.parametrize("kind", KINDS)
def test_what_an_error_says(kind: type[XaiRunbookError]) -> None:
    told = kind("it was refused", on="http://x", hint="start it")
    assert str(told) == "it was refused (http://x). Try: start it"
    assert str(kind("it was refused")) == "it was refused"
    assert told._render_traceback_() == [f"{MARKER}{kind.__name__}: it was refused (http://x). Try: start it"]
    for again in (pickle.loads(pickle.dumps(told)), copy.copy(told)):
        assert type(again) is kind
        assert (again.what, again.on, again.hint) == ("it was refused", "http://x", "start it")


def test_not_configured_names_its_part() -> None:
    assert pickle.loads(pickle.dumps(NotConfigured("no cache", on="cache"))).part == "cache"


def test_the_traceback_line_is_one_inert_line() -> None:
    (line,) = XaiRunbookError("two\nlines\x1b[2J", on="\u202ex")._render_traceback_()
    assert "\n" not in line
    assert "\x1b" not in line
    assert "\u202e" not in line


@given(st.text(max_size=300), st.integers(1, 200))
def test_inert(text: str, most: int) -> None:
    shown = inert(text, most)
    assert len(shown) <= most + 1
    assert not {unicodedata.category(letter) for letter in shown} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert inert(shown, most + 1) == shown
    shown.encode()
    if len(text) <= most and text.isprintable():
        assert shown == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb\r\tc", "a b  c"),
        ("\x1b]0;title\x07x", "�]0;title�x"),
        ("\x9b31m", "�31m"),
        ("a\u2028b\u2029c\u202ed\u2066e\ufefff", "a b c�d�e�f"),
        ("\ud800", "�"),
        ("Ünïcödé 日本 ✓", "Ünïcödé 日本 ✓"),
    ],
)
def test_inert_examples(text: str, shown: str) -> None:
    assert inert(text) == shown


def test_a_long_text_is_cut_before_it_is_read() -> None:
    assert inert("x" * 10_000_000, 10) == "xxxxxxxxxx…"
