"""The tree of text, and the chart that is redrawn as data arrives."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import matplotlib as mpl
import pandas as pd
import pytest

from xai_runbook import charts


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    import matplotlib.pyplot as plt

    mpl.use("Agg")
    yield
    plt.close("all")


def test_a_tree_draws_each_row_below_its_parent() -> None:
    rows = pd.DataFrame(
        {"depth": [0, 1, 2, 1], "who": ["top", "$first$", "_below", "second"], "held": [1.5, 2.0, None, 4.0]}
    )
    axes = charts.tree(rows, label="who", value="held", title="Who waits for whom")
    texts = [text.get_text() for text in axes.texts]
    assert texts == ["top  1.5 seconds", r"\$first\$  2 seconds", " _below", "second  4 seconds"]
    lefts = [text.get_position()[0] for text in axes.texts]
    assert lefts[0] < lefts[1] == lefts[3] < lefts[2]
    hung = [list(line.get_ydata()) for line in axes.lines]
    assert [(round(y[0]), y[-1]) for y in hung] == [(0, 1), (1, 2), (0, 3)], "each from its own to itself"
    axes.figure.canvas.draw()


def test_an_empty_tree_says_so() -> None:
    empty = pd.DataFrame({"depth": [], "who": [], "held": []})
    assert [text.get_text() for text in charts.tree(empty, label="who", value="held").texts] == ["none"]


def test_many_rows_are_counted() -> None:
    many = pd.DataFrame({"depth": [0] * 40, "who": ["one"] * 40, "held": [1.0] * 40})
    axes = charts.tree(many, label="who", value="held", title="Many")
    assert axes.get_title(loc="left") == "Many (30 of 40)"


def test_live_does_nothing_outside_a_notebook() -> None:
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    charts.live()(pd.DataFrame({"at": [pd.Timestamp("2026-11-25T03:00Z")], "used_count": [3]}))
    assert plt.get_fignums() == before


def test_live_replaces_its_output_in_a_notebook() -> None:
    """In a kernel: one output, which is replaced as samples arrive, and no figure left open."""
    code = """

import nbformat, nbclient
cell = '''
import pandas as pd
from xai_runbook import charts
draw = charts.live()
at = pd.date_range("2026-11-25T03:00Z", periods=4, freq="1s")
for n in (1, 2, 3, 4):
    draw(pd.DataFrame({"at": at[:n], "used_count": range(n), "error": [""] * n}))
'''
notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
nbclient.NotebookClient(notebook, kernel_name="python3", timeout=120).execute()
print([output["output_type"] for output in notebook.cells[0]["outputs"]])
"""
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=170)
    assert process.returncode == 0, process.stderr[-800:]
    assert process.stdout.strip() == "['display_data']"
