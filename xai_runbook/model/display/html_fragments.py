"""HTML fragments for the outputs of notebooks, and the palette, which the report's page shares.

Every text is escaped here, so a `Fragment` is safe to show. A notebook may have a light or a dark theme: its text
inherits the theme's colour, and coloured words are badges, white on a background of their own.
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Literal, NewType

Fragment = NewType("Fragment", str)
"""HTML whose texts have been escaped."""

Tone = Literal["critical", "high", "medium", "unknown", "ok", "neutral"]
Theme = Literal["light", "dark", "print"]
THEMES: tuple[Theme, ...] = ("light", "dark", "print")

BADGE_TEXT = "#ffffff"
TONES: dict[Tone, tuple[str, str]] = {
    "critical": ("#c8102e", "#ff7b85"),
    "high": ("#b8430b", "#ff9f6b"),
    "medium": ("#8a6100", "#e5b94c"),
    "unknown": ("#7857b0", "#b9a2ee"),
    "ok": ("#1d7a46", "#5fce8f"),
    "neutral": ("#5b6675", "#9aa5b4"),
}
"""The colour of each tone on light backgrounds, which badges and borders also have, and on dark backgrounds."""

_LIGHT = {"ground": "#f6f7f9", "paper": "#ffffff", "ink": "#1c2430", "line": "#dfe3e8", "wash": "#f0f2f5"}
_DARK = {"ground": "#12161c", "paper": "#1a2029", "ink": "#e6e9ee", "line": "#2e3743", "wash": "#232b36"}
_PRINT = {"ground": "#ffffff", "paper": "#ffffff", "ink": "#000000", "line": "#bbbbbb", "wash": "#eeeeee"}
_FIXED = {"banner": TONES["critical"][0], "banner-text": BADGE_TEXT, "chart": "#ffffff"}  # the same in every theme


def page_colours(theme: Theme) -> dict[str, str]:
    """Return the colours of the report's page by name: backgrounds, text (`ink`), lines and tones."""
    backgrounds = {"light": _LIGHT, "dark": _DARK, "print": _PRINT}[theme]
    return _FIXED | backgrounds | {tone: dark if theme == "dark" else light for tone, (light, dark) in TONES.items()}


def text(value: str) -> Fragment:
    """Return the escaped text."""
    return Fragment(html.escape(value))


def strong(value: str) -> Fragment:
    """Return the text in bold."""
    return Fragment(f"<strong>{html.escape(value)}</strong>")


def emphasis(value: str) -> Fragment:
    """Return the text in italics."""
    return Fragment(f"<em>{html.escape(value)}</em>")


def badge(tone: Tone, value: str) -> Fragment:
    """Return the text in bold on the tone's background."""
    style = f"background:{TONES[tone][0]};color:{BADGE_TEXT};padding:.1em .5em;border-radius:.3em"
    return Fragment(f'<strong style="{style}">{html.escape(value)}</strong>')


def code(value: str, *, selectable: bool = False) -> Fragment:
    """Return the text in a fixed-width font; if `selectable`, in bold and selected as a whole by one click."""
    style = "white-space:pre-wrap" + (";user-select:all;font-weight:bold" if selectable else "")
    return Fragment(f'<code style="{style}">{html.escape(value)}</code>')


def preformatted(value: str) -> Fragment:
    """Return the text in a fixed-width font with its line breaks."""
    return Fragment(f'<pre style="margin:0;white-space:pre-wrap">{html.escape(value)}</pre>')


def line(*parts: Fragment) -> Fragment:
    """Return the parts in a line of their own."""
    return Fragment(f"<div>{' '.join(parts)}</div>")


def table(rows: Iterable[tuple[str, str]]) -> Fragment:
    """Return a table of two columns: a label and a value in a fixed-width font."""
    cells = "".join(
        f'<tr><th style="text-align:left;vertical-align:top">{html.escape(label)}</th>'
        f'<td style="text-align:left">{code(value)}</td></tr>'
        for label, value in rows
    )
    return Fragment(f"<table>{cells}</table>")


def box(tone: Tone, *parts: Fragment, framed: bool = False) -> Fragment:
    """Return the parts behind a border of the tone: on the left, or on all sides if `framed`."""
    border = f"border:2px solid {TONES[tone][0]}" if framed else f"border-left:.4em solid {TONES[tone][0]}"
    return Fragment(f'<div style="{border};padding:.4em .8em;margin:.3em 0">{" ".join(parts)}</div>')
