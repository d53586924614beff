"""`xai-runbook query`: tables, CSV, JSON, charts, and the position of errors."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import prometheus_server as server
from xai_runbook.cli.query import csv_lines, error_position

EVIL = '=HYPERLINK("http://x","y")'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of settings whose environment `test` has a Prometheus with an hour of history."""
    now = int(time.time()) // 60 * 60
    hour = range(now - 3600, now + 900, 60)
    past = server.history(
        {
            'height{instance="a"}': {at: at - now for at in hour},
            'height{instance="b"}': {at: 7.0 for at in hour},
            'odd{instance="a"}': {at: "NaN" if at % 120 else "+Inf" for at in hour},
            'evil{instance="=HYPERLINK(\\"http://x\\",\\"y\\")"}': {at: 1.0 for at in hour},
            **{f'many{{n="{n:03}"}}': {at: 1.0 for at in hour} for n in range(60)},
        }
    )
    where = tmp_path_factory.mktemp("query")
    with server.running(where, past=past) as url:
        (where / "test.toml").write_text(f'[prometheus]\nurl = "{url}"\n')
        yield where


def run(folder: Path, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "xai_runbook.cli.main", "query", *words, "--env", "test"],
        cwd=cwd,
        env=os.environ | {"XAI_RUNBOOK_CONFIG": str(folder)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_an_instant_has_one_row_for_each_series(folder: Path) -> None:
    done = run(folder, "height")
    head, *rows = done.stdout.splitlines()
    assert done.returncode == 0 and done.stderr == ""
    assert head.split() == ["__name__", "instance", "at", "value"]
    assert [row.split()[1] for row in rows] == ["a", "b"]
    assert rows[1].split()[-1] == "7"


def test_a_range_has_one_line_for_each_series_and_counts_the_rest(folder: Path) -> None:
    done = run(folder, "many", "--window", "10m")
    lines = done.stdout.splitlines()
    assert lines[0].split()[-3:] == ["least", "most", "last"]
    assert len(lines) == 42 and lines[-1].startswith("... and 20 more")


def test_no_series_is_not_zero(folder: Path) -> None:
    for form in ([], ["--csv"], ["--json"], ["--window", "5m"]):
        done = run(folder, "nothing_of_that_name", *form)
        assert done.returncode == 1
        assert "no series found (not the same as 0)" in done.stderr


def test_json_has_every_row_and_names_nan_and_infinity(folder: Path) -> None:
    document: dict[str, Any] = json.loads(run(folder, "odd", "--window", "10m", "--step", "1m", "--json").stdout)
    assert document["environment"] == "test" and document["query"] == "odd"
    assert {row["value"] for row in document["rows"]} == {"NaN", "+Inf"}
    assert all(row["instance"] == "a" and row["at"].endswith("+00:00") for row in document["rows"])


def test_csv_is_read_back_and_has_no_formulas(folder: Path) -> None:
    rows = list(csv.reader(io.StringIO(run(folder, "evil", "--csv").stdout)))
    assert rows[0] == ["__name__", "instance", "at", "value"]
    assert rows[1][1] == f"'{EVIL}" and float(rows[1][3]) == 1
    falling = list(csv.reader(io.StringIO(run(folder, "height", "--window", "10m", "--step", "1m", "--csv").stdout)))
    assert len(falling) == 1 + 2 * 11 and float(falling[1][3]) < 0  # a number keeps its sign


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1", "\x1b]0;x\x07=1"])
def test_a_formula_in_a_label_is_quoted(text: str) -> None:
    import pandas as pd

    frame = pd.DataFrame({text: [text], "at": pd.to_datetime(["2026-01-31"], utc=True), "value": [-1.0]})
    head, row = csv.reader(io.StringIO("".join(csv_lines(frame))))
    for cell in (head[0], row[0]):
        assert cell[0] in "'\N{REPLACEMENT CHARACTER} " and "\x1b" not in cell
    assert row[-1] == "-1.0"


def test_a_chart_is_drawn_and_an_unknown_format_is_refused_first(folder: Path, tmp_path: Path) -> None:
    done = run(folder, "height", "--window", "30m", "--chart", "height.png", cwd=tmp_path)
    assert done.returncode == 0 and (tmp_path / "height.png").read_bytes().startswith(b"\x89PNG")
    for words in (["--chart", "x.gif", "--window", "5m"], ["--chart", "x.png"], ["--step", "1m"]):
        done = run(folder, "height", *words, cwd=tmp_path)
        assert done.returncode == 3 and done.stdout == ""
    assert [path.name for path in tmp_path.iterdir()] == ["height.png"]


def test_an_invalid_query_is_shown_with_the_position_of_the_error(folder: Path) -> None:
    done = run(folder, "sum by (instance) (height + ")
    line, caret, words = done.stderr.splitlines()
    assert done.returncode == 3 and done.stdout == ""
    assert line == "  sum by (instance) (height + " and "parse error" in words
    assert caret.index("^") == 2 + len("sum by (instance) (height + ")
    done = run(folder, 'height{instance="é"} +\nrate(height)')
    line, caret, _ = done.stderr.splitlines()
    assert line[caret.index("^") :] == "height)"


@pytest.mark.parametrize(
    ("query", "complaint", "at"),
    [
        ("up +", "1:5: parse error: unexpected end of input", 4),
        ('é{a="ü"} foo', "1:12: parse error", 9),  # bytes
        ("漢字 foo", "1:8: parse error", 5),  # two columns of a terminal each
        ("up\x1b[31m !", "1:9: parse error", 8),
    ],
)
def test_the_caret_is_under_the_error(query: str, complaint: str, at: int) -> None:
    line, caret = error_position(query, complaint)
    assert caret.index("^") == 2 + at
    assert "\x1b" not in line


@pytest.mark.parametrize("complaint", ["no place", "9:1: parse error", "0:0: parse error", "1: parse error"])
def test_an_error_without_a_position_has_no_caret(complaint: str) -> None:
    assert list(error_position("up", complaint)) == []


def test_a_long_query_is_shown_around_the_error() -> None:
    line, caret = error_position("a" * 500 + " !" + "b" * 500, "1:502: parse error")
    assert len(line) < 120 and line[caret.index("^")] == "!"


def test_a_time_before_the_retention_is_an_error(folder: Path) -> None:
    for words in (["--at", "2024-01-15T16:00Z"], ["--at", "2024-01-16T16:00Z", "--window", "24h"]):
        done = run(folder, "height", *words)
        assert done.returncode == 3
        assert "outside retention (15d: from" in done.stderr
