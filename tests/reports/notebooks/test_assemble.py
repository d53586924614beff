from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.samples import cell, notebook, question
from xai_runbook.errors import InputError
from xai_runbook.reports.notebooks import cells
from xai_runbook.reports.notebooks.assemble import assembled, main, section_paths

IMPORT = "from xai_runbook import connect\nfrom xai_runbook.operations import {}\n\nenv = connect(environment)\nenv"


def sections(folder: Path) -> list[Path]:
    notebook(
        folder / "03_database.ipynb",
        cell("title", "# The database\n\nIs it well?", kind="markdown"),
        cell("about", "## Enough room?\n\nA good answer is yes.", kind="markdown"),
        question("pool", "database.check_pool(env)"),
        question("aside", "database.aside(env)", health=False),
        setup=IMPORT.format("database, unused"),
    )
    notebook(
        folder / "02_monitoring.ipynb",
        cell("title", "# Monitoring", kind="markdown"),
        question("cpu_used", "alerts.check(env, window)"),
        setup=IMPORT.format("alerts"),
        parameters='environment = ""  # which\nwindow = "24h"  # how far back',
    )
    notebook(
        folder / "04_scaling.ipynb", question("later", "other.later(env)", health=False), setup=IMPORT.format("other")
    )
    notebook(folder / "health_report.ipynb")
    return section_paths(folder)


def document(folder: Path) -> dict[str, Any]:
    notebook: dict[str, Any] = json.loads(assembled(sections(folder)))
    return notebook


def sources(document: dict[str, Any]) -> dict[str, str]:
    return {cell["id"]: "".join(cell["source"]) for cell in document["cells"]}


def test_sections_come_in_order_with_their_questions_and_the_text_above(tmp_path: Path) -> None:
    made = document(tmp_path)
    assert [cell["id"] for cell in made["cells"]] == [
        "title",
        "parameters",
        "setup",
        "section-02-monitoring",
        "cpu_used",
        "section-03-database",
        "about-pool",
        "pool",
        "next",
    ]
    source_by_id = sources(made)
    assert source_by_id["section-03-database"].startswith("## The database\n")
    assert source_by_id["about-pool"] == "### Enough room?\n\nA good answer is yes."
    assert source_by_id["pool"] == "database.check_pool(env)"
    by_id = {cell["id"]: cell for cell in made["cells"]}
    assert by_id["pool"]["metadata"] == {
        "tags": ["health", "raises-exception"],
        "xai_runbook": {"section": "03_database"},
    }
    assert by_id["parameters"]["metadata"]["tags"] == ["parameters"]
    assert by_id["setup"]["metadata"]["tags"] == ["setup"]


def test_a_second_notebook_of_a_section_comes_after_the_first(tmp_path: Path) -> None:
    names = ["02_monitoring", "03_database", "03b_backup_restore", "04_scaling"]
    for name in [*reversed(names), "health_report", "mine", "2026_drill", "03-copy"]:
        notebook(tmp_path / f"{name}.ipynb")
    assert [path.stem for path in section_paths(tmp_path)] == names


def test_set_up_is_merged_and_holds_only_what_the_questions_use(tmp_path: Path) -> None:
    assert sources(document(tmp_path))["setup"] == (
        "from xai_runbook import connect\nfrom xai_runbook.operations import alerts, database\n\n"
        "env = connect(environment)\nenv"
    )


def test_parameters_are_merged_by_name_with_their_comments(tmp_path: Path) -> None:
    assert sources(document(tmp_path))["parameters"] == 'environment = ""  # which\nwindow = "24h"  # how far back'


def test_the_bytes_are_reproducible(tmp_path: Path) -> None:
    paths = sections(tmp_path)
    assert assembled(paths) == assembled(paths)
    assert assembled(paths).endswith(b"}\n")
    made = json.loads(assembled(paths))
    assert (made["nbformat"], made["nbformat_minor"]) == (4, 5)
    assert assembled(paths).decode() == json.dumps(made, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def test_sections_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    paths = sections(tmp_path)
    notebook(tmp_path / "05_more.ipynb", question("other", "f(env, window)"), parameters='window = "6h"')
    with pytest.raises(InputError, match=r"window has two defaults.*02_monitoring and 05_more|05_more"):
        assembled([*paths, tmp_path / "05_more.ipynb"])
    notebook(tmp_path / "05_more.ipynb", question("pool", "env"))
    with pytest.raises(InputError, match="two sections have a question pool"):
        assembled([*paths, tmp_path / "05_more.ipynb"])
    notebook(tmp_path / "05_more.ipynb", cell("other", "env", "health"))
    with pytest.raises(InputError, match="raises-exception"):
        assembled([*paths, tmp_path / "05_more.ipynb"])
    notebook(tmp_path / "05_more.ipynb", question("other", "f(env, window)"), parameters="window = f()")
    with pytest.raises(InputError, match="literals"):
        assembled([*paths, tmp_path / "05_more.ipynb"])


def test_check_says_whether_it_is_current_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sections(tmp_path)
    path = tmp_path / "health_report.ipynb"
    before = path.read_bytes()
    assert main(["--check", "--folder", str(tmp_path)]) == 1
    assert "make notebooks" in capsys.readouterr().err
    assert path.read_bytes() == before
    assert main(["--folder", str(tmp_path)]) == 0
    assert main(["--check", "--folder", str(tmp_path)]) == 0
    assert path.read_bytes() == assembled(section_paths(tmp_path))


def test_a_broken_section_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "02_bad.ipynb").write_text("{")
    assert main(["--folder", str(tmp_path)]) == 1
    assert "02_bad.ipynb" in capsys.readouterr().err


def test_the_committed_health_report_is_what_the_sections_make() -> None:
    folder = cells.folder()
    assert (folder / "health_report.ipynb").read_bytes() == assembled(section_paths(folder)), "make notebooks"


def test_the_committed_health_report_is_a_notebook_whose_questions_all_come_from_a_section() -> None:
    nbformat = pytest.importorskip("nbformat")
    path = cells.find("health_report")
    nbformat.validate(json.loads(path.read_text(encoding="utf-8")))
    questions = [one for one in cells.read(path) if one.is_question]
    assert len(questions) >= 10
    for one in questions:
        assert "health" in one.tags
        assert cells.find(one.section).is_file(), one.id
        assert isinstance(ast.parse(one.source).body[-1], ast.Expr)


def test_notebooks_are_found_by_name_and_by_path(tmp_path: Path) -> None:
    path = notebook(tmp_path / "mine.ipynb")
    assert cells.find("health_report").name == "health_report.ipynb"
    assert cells.find(str(path)) == path
    assert cells.names()[0] == "health_report"
    assert cells.names()[1:] == sorted(cells.names()[1:])


@pytest.mark.parametrize("name", ["", "-", "s3://bucket/x.ipynb", "http://x/y.ipynb", "../03_database", "none.ipynb"])
def test_a_name_of_no_local_notebook_is_refused(name: str) -> None:
    with pytest.raises(InputError):
        cells.find(name)


def test_similar_names_are_suggested_for_a_misspelt_notebook() -> None:
    with pytest.raises(InputError, match="03_database"):
        cells.find("03_databse")
