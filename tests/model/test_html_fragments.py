"""Colours that can be read on light and dark backgrounds, and fragments in which every text is escaped."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import pytest

from xai_runbook.model.display import html_fragments as fragments
from xai_runbook.model.display.html_fragments import BADGE_TEXT, THEMES, TONES, Theme, page_colours

NOTEBOOK_BACKGROUNDS = ("#ffffff", "#111111")
"""Of outputs in JupyterLab's light and dark theme."""
TEXT_CONTRAST, BORDER_CONTRAST = 4.5, 3.0
"""WCAG 2.1, level AA: success criteria 1.4.3 and 1.4.11."""

HOSTILE = "<script>alert(1)</script>\"' onload=x & <b>"


def luminance(colour: str) -> float:
    assert re.fullmatch(r"#[0-9a-f]{6}", colour)
    channels = (int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))
    red, green, blue = (value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("tone", TONES)
def test_a_badge_and_a_border_can_be_seen_in_every_notebook_theme(tone: fragments.Tone) -> None:
    colour, _ = TONES[tone]
    assert contrast(BADGE_TEXT, colour) >= TEXT_CONTRAST
    assert all(contrast(colour, background) >= BORDER_CONTRAST for background in NOTEBOOK_BACKGROUNDS)


@pytest.mark.parametrize(("theme", "text"), list(product(THEMES, ["ink", *TONES])))
def test_every_text_of_the_page_can_be_read_on_its_backgrounds(theme: Theme, text: str) -> None:
    colours = page_colours(theme)
    backgrounds = ["ground", "paper", "wash"] if text == "ink" else ["ground", "paper"]
    for background in backgrounds:
        assert contrast(colours[text], colours[background]) >= TEXT_CONTRAST, background


@pytest.mark.parametrize("theme", THEMES)
def test_the_production_banner_can_be_read(theme: Theme) -> None:
    colours = page_colours(theme)
    assert contrast(colours["banner-text"], colours["banner"]) >= TEXT_CONTRAST


def test_the_page_uses_every_colour_and_no_other(checkout: Path) -> None:
    page = (checkout / "xai_runbook" / "reports" / "page.html.j2").read_text(encoding="utf-8")
    used = set(re.findall(r"var\(--([\w-]+)\)", page))
    assert used - {"tone"} == set(page_colours("light"))
    assert all(page_colours(theme).keys() == page_colours("light").keys() for theme in THEMES)


def test_colours_are_defined_in_the_palette_alone(checkout: Path) -> None:
    """Charts and Grafana dashboards have palettes of their own."""
    package = checkout / "xai_runbook"
    palettes = [package / "model" / "display" / "html_fragments.py", package / "charts", package / "dashboards"]
    files = [*package.rglob("*.py"), *package.rglob("*.j2"), *(checkout / "notebooks").glob("*.ipynb")]
    literal = re.compile(r"#[0-9a-fA-F]{3,8}\b|\b(?:rgb|hsl)a?\(")
    found = [
        f"{path.relative_to(checkout)}: {colour}"
        for path in files
        if not any(path.is_relative_to(palette) for palette in palettes)
        for colour in literal.findall(path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_every_text_of_a_fragment_is_escaped() -> None:
    parts = [
        fragments.text(HOSTILE),
        fragments.strong(HOSTILE),
        fragments.emphasis(HOSTILE),
        fragments.badge("ok", HOSTILE),
        fragments.code(HOSTILE, selectable=True),
        fragments.preformatted(HOSTILE),
        fragments.table([(HOSTILE, HOSTILE)]),
    ]
    shown = fragments.box("critical", fragments.line(*parts), framed=True)
    assert "<script" not in shown and "<b>" not in shown
    assert shown.count("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#x27; onload=x &amp; &lt;b&gt;") == 8
    assert shown.count("<") == 2 * shown.count("</"), "every tag is closed"
