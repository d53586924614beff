from __future__ import annotations

import dataclasses
import os
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.support.samples import environment, finding, recorded
from xai_runbook.reports.html import POLICY, page, section_title
from xai_runbook.settings.models import Settings

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SCRIPT = '<script>document.title="owned"</script><img src=x onerror="document.title=\'owned\'">'
PLANTED = f'{SCRIPT}"><svg onload=document.title="owned"></svg>{{{{ 7*7 }}}}\x1b]0;owned\x07\u202edetnalp'


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("XAI_RUNBOOK_CONFIG", str(tmp_path))
    return environment(tmp_path)


class Text(HTMLParser):
    """The visible text of a page, and its tags."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] and self.tags[-1][0] != "style":
            self.words.append(data)

    def __str__(self) -> str:
        return " ".join(" ".join(self.words).split())


def test_the_verdict_comes_first_then_the_worst_finding_with_target_and_hint(settings: Settings) -> None:
    made = recorded(
        settings,
        finding("cpu_used", "ok", summary="12 % used"),
        finding("sync_lag", severity="medium"),
        finding("pool", "unknown"),
        finding("disk_free", severity="critical", targets=("node-2",), hint="free some space"),
    )
    text = str(Text(page(made, settings)))
    places = [
        text.index(words)
        for words in (
            "critical 4 questions: 2 alerts, 1 unknown, 1 ok.",
            "disk_free is alert",
            "On node-2",
            "Next free some space",
            "sync_lag is alert",
            "pool is unknown",
            "12 % used",
            "Limits",
            "Notebooks",
        )
    ]
    assert places == sorted(places)


def test_not_configured_and_simulated_parts_are_listed(tmp_path: Path, settings: Settings) -> None:
    more = environment(tmp_path, "lab", simulated='["nodes"]', description='"A lab"')
    made = recorded(more, finding("a", "ok"))
    text = str(Text(page(made, more)))
    assert "Simulated nodes" in text
    assert {"prometheus", "nodes", "database", "cache"} <= set(made.not_configured)
    assert f"Not configured {', '.join(made.not_configured)}" in text
    assert "lab, not production" in text
    assert "A lab" in text
    assert "2026-11-25 00:15:00 UTC" in text


def test_many_questions_stay_on_a_screen(settings: Settings) -> None:
    """Problems are listed on top with links to their cards; ok findings are folded, by section."""
    wrong = [finding(f"bad_{n}", targets=(f"n-{n}",)) for n in range(9)]
    well = [finding(f"well_{n}", "ok", section=f"0{n % 2 + 2}_part") for n in range(50)]
    html = page(recorded(settings, *wrong, *well), settings)
    top, _, folded = html.partition("Needs attention")
    assert all(top.count(f'href="#bad_{n}"') == 1 and f"n-{n}" in top for n in range(9))
    sections = re.findall(r"<details>.*?</details>", folded, re.DOTALL)
    assert [len(re.findall(r'class="row"', each)) for each in sections] == [25, 25, 0], "and the limits"
    assert all(each.count("<img") == 25 for each in sections[:2])
    outside = re.sub(r"<details>.*?</details>", "", folded, flags=re.DOTALL)
    assert outside.count("<img") == 9 and "well_" not in outside


def test_production_is_marked_in_the_title_in_a_banner_and_in_the_facts(tmp_path: Path, settings: Settings) -> None:
    live = environment(tmp_path, "live", production="true")
    html = page(recorded(live, finding("a", "ok")), live)
    text = str(Text(html))
    assert "OK · live · PRODUCTION" in text
    assert html.index('class="band"') < html.index("<h1>")
    assert text.count("PRODUCTION") == 3
    assert "PRODUCTION" not in page(recorded(settings, finding("a", "ok")), settings)


def test_an_acknowledged_finding_stays_marked_with_until_who_and_why(settings: Settings) -> None:
    marks = {"until": "2026-11-25T04:00:00+00:00", "why": "new disk at four", "by": "ann@ops"}
    text = str(Text(page(recorded(settings, finding("disk_free", acknowledged=marks)), settings)))
    assert "ok 1 question: 1 acknowledged, 0 ok." in text
    assert "Acknowledged until 2026-11-25 04:00:00 UTC by ann@ops: new disk at four" in text


def test_the_limits_are_shown_as_they_are_in_this_environment(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "short.toml").write_text('[limits.monitoring.block_growth]\nduration = "15s"\n')
    from xai_runbook.settings.loading import load

    short = load("short")
    text = str(Text(page(recorded(short, finding("block_growth", "ok")), short)))
    for limit, now in ((short.limits.monitoring.block_growth, "ok"), (short.limits.monitoring.cpu_used, "not checked")):
        assert f"{limit.title} {limit.describe()} {limit.severity} {now}" in text
    assert "for 15s" in text


def test_an_incomplete_report_says_so_and_what_went_wrong(settings: Settings) -> None:
    made = recorded(settings, finding("a", "ok"), status="failed", error="the kernel died in cell pool")
    text = str(Text(page(made, settings)))
    assert "unknown 1 question: all ok. The report is not complete" in text
    assert text.index("failed health_report: the kernel died in cell pool") < text.index("Environment")


def test_a_report_without_findings_says_so(settings: Settings) -> None:
    assert "unknown No question was answered." in str(Text(page(recorded(settings), settings)))


def test_charts_stand_with_their_finding_and_inside_the_page(settings: Settings) -> None:
    made = recorded(settings, finding("disk_free"), finding("pool", "ok"))
    read = Text(page(made, settings))
    sources = [attributes["src"] for tag, attributes in read.tags if tag == "img"]
    assert len(sources) == 2
    assert all(source and source.startswith("data:image/png;base64,iVBOR") for source in sources)


def planted(settings: Settings) -> str:
    """A page in which every text is hostile."""
    marks = {"until": PLANTED, "why": PLANTED, "by": PLANTED}
    more: dict[str, Any] = {"summary": PLANTED, "hint": PLANTED, "targets": (PLANTED,), "section": PLANTED}
    made = recorded(
        settings,
        finding("a" + PLANTED, **more),
        finding("b" + PLANTED, "ok", **more),
        finding("c" + PLANTED, acknowledged=marks, **more),
        error=PLANTED,
        path=Path("javascript:owned"),
    )
    charts = {name: tuple(dataclasses.replace(one, alt=PLANTED) for one in ones) for name, ones in made.charts.items()}
    charts["stray" + PLANTED] = next(iter(charts.values()))
    made = dataclasses.replace(
        made, charts=charts, description=PLANTED, not_configured=(PLANTED,), simulated=(PLANTED,), id=PLANTED
    )
    return page(made, settings.model_copy(update={"contacts": {PLANTED: PLANTED}}))


def test_markup_in_texts_is_escaped(settings: Settings) -> None:
    html = planted(settings)
    read = Text(html)
    assert {tag for tag, _ in read.tags}.isdisjoint({"script", "svg", "iframe", "object", "embed", "form"})
    for tag, attributes in read.tags:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        for name in ("src", "href"):
            assert (attributes.get(name) or "data:").startswith(("data:", "report.json", "javascript%3Aowned"))
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", html)
    assert "{{ 7*7 }}" in str(read), "a text is not a template"


def test_the_policy_allows_nothing_but_its_own_style_and_pictures(settings: Settings) -> None:
    read = Text(page(recorded(settings, finding("a")), settings))
    policies = [
        attributes for tag, attributes in read.tags if attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert [policy["content"] for policy in policies] == [POLICY]
    assert POLICY == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@pytest.fixture
def browser() -> Iterator[Any]:
    if not CHROMIUM:
        pytest.skip("there is no chromium here: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as running:
        # chromium's own sandbox needs what root and containers do not have; the page is ours and the net is not used
        opened = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        yield opened
        opened.close()


def test_in_a_browser_hostile_texts_do_nothing_and_nothing_is_fetched(
    browser: Any, settings: Settings, tmp_path: Path
) -> None:
    path = tmp_path / "index.html"
    path.write_text(planted(settings), encoding="utf-8")
    tab, requests, messages = browser.new_page(), [], []
    tab.on("request", lambda request: requests.append(request.url))
    tab.on("console", lambda message: messages.append(message.text))
    tab.on("dialog", lambda dialog: messages.append(dialog.message))
    tab.goto(path.as_uri())
    assert tab.title().startswith("ALERT ·") or tab.title().startswith("UNKNOWN ·")
    assert [url for url in requests if not url.startswith("data:")] == [path.as_uri()]
    assert messages == []


@pytest.mark.parametrize("width", [360, 1280])
def test_in_a_browser_it_fits_a_phone_and_a_wide_screen(
    browser: Any, settings: Settings, tmp_path: Path, width: int
) -> None:
    path = tmp_path / "index.html"
    long = "x" * 300
    made = recorded(
        settings,
        finding("disk_free", summary=long, targets=(long[:200],), hint=long),
        finding("pool", "ok", summary=long),
        error=long,
        status="failed",
    )
    path.write_text(page(made, settings), encoding="utf-8")
    tab = browser.new_page(viewport={"width": width, "height": 800})
    tab.goto(path.as_uri())
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    verdict = tab.locator("h1").bounding_box()
    assert verdict["y"] < 200, "the verdict is seen without scrolling"


@pytest.mark.parametrize(
    ("notebook", "title"),
    [("03b_backup_restore", "Backup restore"), ("02_monitoring", "Monitoring"), ("", "Other"), ("mine", "Mine")],
)
def test_a_section_is_titled_without_its_number(notebook: str, title: str) -> None:
    assert section_title(notebook) == title
