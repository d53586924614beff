"""Tables fit the terminal, and are not wrapped in a pipe."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from xai_runbook.cli.table import table_rows, wrapped

ROWS = [["1", "short", "a text of many words that does not fit into a narrow terminal"], ["22", "x", "y"]]


def test_columns_are_aligned_and_nothing_is_wrapped_without_a_width() -> None:
    assert table_rows(ROWS, width=None, right=[0]) == [
        " 1  short  a text of many words that does not fit into a narrow terminal",
        "22  x      y",
    ]
    assert table_rows([], width=None) == []


@pytest.mark.parametrize("width", [30, 40, 79, 200])
def test_cells_are_wrapped_at_the_width_and_lose_no_word(width: int) -> None:
    first, second = table_rows(ROWS, width=width, indent=2, right=[0])
    lines = first.splitlines()
    assert max(map(len, lines)) <= width
    assert " ".join(" ".join(line[11:] for line in lines).split()) == ROWS[0][2]
    assert second == "  22  x      y"


def test_a_word_longer_than_its_column_is_broken() -> None:
    (row,) = table_rows([["a" * 50, "b" * 50]], width=40)
    assert max(map(len, row.splitlines())) <= 40
    assert row.count("a") == row.count("b") == 50


def test_wrapped_text_is_indented() -> None:
    assert wrapped("one two three", width=10, indent=3) == "   one two\n   three"
    assert wrapped("one two three", width=None, indent=3) == "   one two three"


def longest_line(columns: int | None) -> int:
    """The longest line of `coverage` in a terminal of that width, or in a pipe."""
    argv = [sys.executable, "-m", "xai_runbook.cli.main", "coverage"]
    if columns is None:
        return max(map(len, subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()))
    master, slave = pty.openpty()
    with subprocess.Popen(argv, stdout=slave, stderr=slave, env=os.environ | {"COLUMNS": str(columns)}) as process:
        os.close(slave)
        output = b""
        try:
            while piece := os.read(master, 65536):
                output += piece
        except OSError:  # the command has ended
            pass
    os.close(master)
    assert process.returncode == 0
    return max(map(len, output.decode().splitlines()))


def test_a_command_fits_its_terminal_and_is_not_wrapped_in_a_pipe() -> None:
    assert longest_line(100) <= 100
    assert longest_line(None) > 200
