"""The contract of a notebook cell, checked in the syntax trees of the committed notebooks."""

from __future__ import annotations

import ast
import builtins
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from xai_runbook.settings.limits import Limits
from xai_runbook.settings.loading import shipped

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))
DISPLAY = {"display"}  # IPython adds it to every kernel
SECTIONS = {f"env.limits.{section}" for section in Limits.model_fields}


def cells(path: Path) -> list[dict[str, Any]]:
    return [
        {**cell, "source": "".join(cell["source"]), "tags": cell["metadata"].get("tags", [])}
        for cell in json.loads(path.read_text())["cells"]
    ]


def code(path: Path) -> list[dict[str, Any]]:
    return [cell for cell in cells(path) if cell["cell_type"] == "code"]


def questions() -> Iterator[Any]:
    for path in NOTEBOOKS:
        for cell in code(path):
            if "raises-exception" in cell["tags"]:
                yield pytest.param(path, cell, id=f"{path.stem}-{cell['id']}")


def bound(tree: ast.AST) -> set[str]:
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
    return names


def used(tree: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}


def test_there_are_notebooks() -> None:
    assert {path.stem for path in NOTEBOOKS} >= {
        "00_start_here",
        "02_monitoring",
        "03_database",
        "03b_backup_restore",
        "06_troubleshooting",
        "health_report",
    }


@pytest.mark.parametrize(("path", "cell"), list(questions()))
def test_a_question_ends_in_exactly_one_check(path: Path, cell: dict[str, Any]) -> None:
    tree = ast.parse(cell["source"])
    checks = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2].startswith("check_")
    ]
    assert len(checks) == 1
    assert isinstance(tree.body[-1], ast.Expr) and tree.body[-1].value is checks[0]


@pytest.mark.parametrize(("path", "cell"), list(questions()))
def test_a_question_uses_only_the_set_up_cells_and_itself(path: Path, cell: dict[str, Any]) -> None:
    known = DISPLAY | set(dir(builtins))
    for other in code(path):
        if {"parameters", "setup"} & set(other["tags"]):
            known |= bound(ast.parse(other["source"]))
    tree = ast.parse(cell["source"])
    assert used(tree) - bound(tree) <= known


@pytest.mark.parametrize(("path", "cell"), list(questions()))
def test_a_question_is_named_as_its_limit(path: Path, cell: dict[str, Any]) -> None:
    limits = {
        node.attr
        for node in ast.walk(ast.parse(cell["source"]))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in SECTIONS
    }
    assert limits <= {cell["id"]}


def test_every_limit_has_a_question_in_the_health_report() -> None:
    (path,) = [path for path in NOTEBOOKS if path.stem == "health_report"]
    health_questions = {cell["id"] for cell in code(path) if "health" in cell["tags"]}
    assert set(shipped().limits.by_name) <= health_questions


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_cells_are_small_and_plain(path: Path) -> None:
    refused = (
        ast.FunctionDef,
        ast.AsyncFunctionDef,
        ast.ClassDef,
        ast.Lambda,
        ast.For,
        ast.While,
        ast.Try,
        ast.TryStar,
        ast.With,
    )
    for cell in code(path):
        source = cell["source"]
        assert not source.lstrip().startswith(("!", "%")), cell["id"]
        tree = ast.parse(source)
        assert not [node for node in ast.walk(tree) if isinstance(node, refused)], cell["id"]
        wrapped = sum((node.end_lineno or 0) - node.lineno for node in tree.body if isinstance(node, ast.ImportFrom))
        # parameters cells may be longer: each parameter has a line
        assert len(source.splitlines()) - wrapped <= 10 or "parameters" in cell["tags"], cell["id"]
        texts = [
            node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
        assert not [text for text in texts if "://" in text or "select " in text.lower()], cell["id"]
        numbers = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, float)]
        assert not numbers, f"a limit in {cell['id']}?"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_parameters_are_commented_literals(path: Path) -> None:
    (parameters,) = [cell for cell in code(path) if "parameters" in cell["tags"]]
    for line, statement in zip(parameters["source"].splitlines(), ast.parse(parameters["source"]).body, strict=True):
        assert isinstance(statement, ast.Assign)
        ast.literal_eval(statement.value)
        assert "  # " in line


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_page_says_what_it_is_for_and_where_to_go(path: Path) -> None:
    order = cells(path)
    assert order[0]["cell_type"] == "markdown"
    title = order[0]["source"]
    assert title.startswith("# ") and "Reads" in title.replace("**", "") and "Changes" in title.replace("**", "")
    assert order[-1]["cell_type"] == "markdown"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_without_output(path: Path) -> None:
    for cell in json.loads(path.read_text())["cells"]:
        assert not cell.get("outputs") and not cell.get("execution_count")
    ids = [cell["id"] for cell in json.loads(path.read_text())["cells"]]
    assert len(ids) == len(set(ids))


def test_every_operation_is_called_somewhere(checkout: Path) -> None:
    """Every public operation is called by a notebook, by other code of the package or by a plan."""
    sources = [cell["source"] for path in NOTEBOOKS for cell in code(path)]
    modules = {path: path.read_text() for path in (checkout / "xai_runbook").rglob("*.py")}
    called, named = set(), set()
    for tree in map(ast.parse, [*sources, *modules.values()]):
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):  # the function, and arguments such as those of Condition.of
                called |= {ast.unparse(each).rpartition(".")[2] for each in (node.func, *node.args)}
            elif isinstance(node, ast.Tuple | ast.Set | ast.Dict):  # functions in a table
                elements = node.keys if isinstance(node, ast.Dict) else node.elts
                called |= {ast.unparse(each) for each in elements if isinstance(each, ast.Name)}
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                named.add(node.value.rpartition(".")[2])
    for path, text in modules.items():
        if "operations" in path.relative_to(checkout).parts:
            public = {node.name for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)}
            uncalled = {name for name in public if not name.startswith("_")} - called - named
            assert not uncalled, f"{path.name}: {sorted(uncalled)} is called nowhere"
