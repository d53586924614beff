"""Rules of the house that no tool of the gate checks."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import pytest

from xai_runbook.sql import path_of, statements

MOST_LINES = 400
NOT_OURS = re.compile(r"(^|_)(utils?|helpers?|managers?|handlers?|common|base(?!_backups?\b)|wrappers?)($|_)")


@pytest.fixture(scope="module")
def modules(checkout: Path) -> dict[str, ast.Module]:
    found = sorted((checkout / "xai_runbook").rglob("*.py"))
    return {path.relative_to(checkout).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in found}


def committed(checkout: Path) -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=checkout, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip(f"not a git checkout, so what is committed is not known: {listed.stderr.strip()}")
    return [path for name in listed.stdout.split("\0") if name and (path := checkout / name).is_file()]


def test_modules_are_short(checkout: Path) -> None:
    lengths = {
        path.relative_to(checkout).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in (checkout / "xai_runbook").rglob("*.py")
    }
    assert {name: length for name, length in lengths.items() if length > MOST_LINES} == {}


MOST_MODULES = 12
AT_THE_TOP = 4
LARGE_FOLDERS = {"xai_runbook/cli", "xai_runbook/pgbackup", "xai_runbook/sandbox/components"}
"""A command, a program's part or a server each."""


def test_no_folder_has_too_many_modules(modules: dict[str, ast.Module]) -> None:
    count = Counter(str(Path(name).parent) for name in modules if not Path(name).name.startswith("_"))
    crowded = {folder: number for folder, number in count.items() if number > MOST_MODULES}
    assert crowded.keys() <= LARGE_FOLDERS, crowded
    assert count["xai_runbook"] < AT_THE_TOP, "`__init__` is one of them"


def test_layers_are_one_contract_over_every_package(checkout: Path) -> None:
    """lint-imports, which the gate runs, holds it; here only that it covers everything."""
    contracts = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    (layers,) = [contract for contract in contracts["contracts"] if contract["type"] == "layers"]
    assert layers["exhaustive"] and layers["containers"] == ["xai_runbook"]
    named = {name for layer in layers["layers"] for name in layer.split(" | ")}
    top = checkout / "xai_runbook"
    assert named == {path.stem for path in top.iterdir() if path.is_dir() or path.suffix == ".py"} - {
        "__init__", "__pycache__", "notebooks",
    }  # fmt: skip


def imports(tree: ast.Module, modules: set[str]) -> set[str]:
    """Which of the modules it imports anywhere: also inside functions, and only for type annotations."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not counted here"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names & modules
            if names - modules:
                found.add(str(node.module))
    return found & modules


def test_no_imports_go_in_a_circle(modules: dict[str, ast.Module]) -> None:
    trees = {
        name.removesuffix(".py").removesuffix("/__init__").replace("/", "."): tree for name, tree in modules.items()
    }
    graph = {name: imports(tree, set(trees)) for name, tree in trees.items()}
    assert graph["xai_runbook.sandbox.supervisor.daemon"] >= {
        "xai_runbook.sandbox.components.stack", "xai_runbook.sandbox.supervisor.supervisor",
    }, "`from package import module` and `from module import name`"  # fmt: skip
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_no_name_is_imported_under_itself(modules: dict[str, ast.Module]) -> None:
    """`import X as X` re-exports: a name has one home."""
    assert [
        f"{name}: {alias.name}"
        for name, tree in modules.items()
        if Path(name).name != "__init__.py"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom | ast.Import)
        for alias in node.names
        if alias.asname == alias.name
    ] == []


def test_no_public_class_name_is_used_twice(modules: dict[str, ast.Module]) -> None:
    found: dict[str, list[str]] = {}
    for module, tree in modules.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.setdefault(node.name, []).append(module)
    assert {name: places for name, places in found.items() if len(places) > 1} == {}


def test_no_package_defines_what_a_module_of_it_is_called(modules: dict[str, ast.Module]) -> None:
    """The module would take the name's place as soon as somebody imports it."""
    found = []
    for name, tree in modules.items():
        if Path(name).name == "__init__.py":
            inside = {Path(other).stem for other in modules if Path(other).parent == Path(name).parent}
            inside |= {Path(other).parent.name for other in modules if Path(other).parent.parent == Path(name).parent}
            defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
            found += [f"{name}: {each}" for each in defined & inside]
    assert found == []


def test_the_makefile_and_ci_name_modules_that_exist(checkout: Path) -> None:
    """No linter reads the Python that stands in a shell script."""
    named = []
    for path in (checkout / "Makefile", *(each for each in (checkout / ".ci").iterdir() if each.is_file())):
        text = path.read_text(encoding="utf-8")
        named += re.findall(r"-m (xai_runbook[\w.]*)", text)
        for package, names in re.findall(r"^from (xai_runbook[\w.]*) import ([\w, ]+)$", text, re.MULTILINE):
            named += [f"{package}.{name.strip()}" for name in names.split(",")]
    assert "xai_runbook.sandbox.components.programs" in named
    assert [name for name in named if importlib.util.find_spec(name) is None] == []


def test_the_file_that_a_plan_names_is_there(checkout: Path) -> None:
    assert statements()
    assert [name for name in statements() if not (checkout / "xai_runbook" / path_of(name)).is_file()] == []
    assert path_of("no_such_query") == "no_such_query"


def test_packages_say_what_stands_in_them(modules: dict[str, ast.Module], checkout: Path) -> None:
    folders = {str(Path(name).parent) for name in modules}
    assert [folder for folder in folders if not ast.get_docstring(modules[f"{folder}/__init__.py"])] == []


def test_no_module_or_class_has_a_meaningless_name(modules: dict[str, ast.Module]) -> None:
    names = {Path(name).stem for name in modules} | {
        re.sub(r"(?<=[a-z])(?=[A-Z])", "_", node.name).lower()
        for tree in modules.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    assert sorted(name for name in names if NOT_OURS.search(name)) == []


def calls(tree: ast.Module) -> set[str]:
    """What the module calls by a name and an attribute: `os.kill`."""
    called = {node.func for node in ast.walk(tree) if isinstance(node, ast.Call)}
    return {
        f"{func.value.id}.{func.attr}"
        for func in called
        if isinstance(func, ast.Attribute) and isinstance(func.value, ast.Name)
    }


def test_files_are_locked_in_one_place(modules: dict[str, ast.Module]) -> None:
    locking = {"fcntl.flock", "fcntl.lockf", "os.lockf"}
    assert [name for name, tree in modules.items() if calls(tree) & locking] == ["xai_runbook/system/locks.py"]


def imported_at_runtime(tree: ast.AST) -> set[str]:
    """The modules that it imports, without those that only type annotations need."""
    found: set[str] = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
        elif not (isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"):
            found |= imported_at_runtime(node)
    return found


def test_processes_are_started_and_ended_in_one_place(modules: dict[str, ast.Module]) -> None:
    here = ["xai_runbook/system/processes.py"]
    assert [name for name, tree in modules.items() if "subprocess" in imported_at_runtime(tree)] == here
    assert [name for name, tree in modules.items() if calls(tree) & {"os.kill", "os.killpg"}] == here


def public(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]]:
    """The module's public functions and classes, and their public methods."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node.name, node
            if isinstance(node, ast.ClassDef):
                for part in node.body:
                    if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef) and not part.name.startswith("_"):
                        yield f"{node.name}.{part.name}", part


def test_public_names_have_docstrings(modules: dict[str, ast.Module]) -> None:
    silent = [name for name, tree in modules.items() if tree.body and not ast.get_docstring(tree)]
    silent += [
        f"{module}: {name}"
        for module, tree in modules.items()
        for name, node in public(tree)
        if not ast.get_docstring(node)
    ]
    assert silent == []


def test_the_map_of_a_section_names_every_module(modules: dict[str, ast.Module]) -> None:
    here = "xai_runbook/operations/"
    missing = []
    for name in (name for name in modules if name.startswith(here) and not Path(name).name.startswith("_")):
        described = set(re.findall(r"\w+", ast.get_docstring(modules[f"{Path(name).parent}/__init__.py"]) or ""))
        missing += [] if Path(name).stem in described else [name]
    assert missing == [], "where does somebody new find it?"


def test_limits_are_arguments(modules: dict[str, ast.Module]) -> None:
    """An operation is given the limits that it judges by: it reads none from the settings of its handles."""
    readers = [
        name
        for name, tree in modules.items()
        if name.startswith("xai_runbook/operations/")
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr == "limits"
    ]
    assert readers == []


def test_what_is_committed_names_no_registry_and_no_folder_of_a_machine(checkout: Path) -> None:
    # written so that this file does not name them either
    strange = re.compile(r"py" r"pi\.org|python" r"hosted|reg" r"istry\.npm|/wo" r"rk/|/tmp/b" r"rief|/root" r"/")
    found = []
    for path in committed(checkout):
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(checkout)}: {match[0]}" for match in strange.finditer(text)]
    assert found == []


def test_the_command_line_imports_nothing_heavy() -> None:
    heavy = {
        "IPython", "asyncio", "boto3", "concurrent.futures", "dataclasses", "hashlib", "http", "inspect", "jinja2",
        "matplotlib", "nbformat", "numpy", "orjson", "pandas", "papermill", "psutil", "psycopg", "pydantic", "redis",
        "ssl", "subprocess", "tornado", "zmq",
    }  # fmt: skip
    asked = "import sys, xai_runbook.cli.main; xai_runbook.cli.main.parser(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True).stdout.split()
    assert sorted(heavy & set(loaded)) == []


def test_every_dependency_has_a_reason(checkout: Path) -> None:
    text = (checkout / "pyproject.toml").read_text(encoding="utf-8")
    project: dict[str, Any] = tomllib.loads(text)
    plain = {"pytest", "mypy", "pandas-stubs", "ruff", "build", "hatchling"}  # the names say it
    for table in (project["project"]["dependencies"], *project["project"]["optional-dependencies"].values()):
        for requirement in table:
            (line,) = [line for line in text.splitlines() if line.strip().startswith(f'"{requirement}"')]
            assert re.search(r"#\s+\S", line) or re.split(r"[=<>\[]", requirement)[0] in plain, line


DECODERS = {
    "changes/journal.py": "validated",
    "changes/journal_memory.py": "validated",
    "cli/changes.py": "validated",
    "model/findings.py": "validated",
    "model/plans.py": "validated",
    "reports/acknowledgements.py": "validated",
    "pgbackup/records.py": "validated",
    "settings/loading.py": "validated",
    # what servers answer: each reader checks the fields that it uses, and raises BadAnswer
    "changes/steps/http.py": "answer",
    "clients/http/get.py": "answer",
    "clients/prometheus/samples.py": "answer",
    # notebooks: nbformat's schema is checked, and the engine executes them anyway
    "reports/notebooks/cells.py": "notebook",
    "reports/notebooks/loading.py": "notebook",
    # what this package ships, and what its own processes tell each other
    "dashboards/__init__.py": "own",
    "runbook/coverage.py": "own",
    "reports/runner/worker.py": "own",
    "reports/runner/worker_process.py": "own",
    "system/sandbox_state.py": "own",
    "reports/report.py": "own",  # acknowledgements.py validates the findings of earlier reports
}
DECODES = re.compile(r"\b(?:json|orjson|tomllib)\.loads?\(|\.model_validate_json\(|\bvalidated\(\w+,")
VALIDATES = re.compile(r"\bvalidated\(\w+,|\.from_json\(|\.model_validate(?:_json)?\(")


def test_untrusted_data_is_validated_in_one_way(checkout: Path) -> None:
    """Rule 5. The sandbox's processes, which talk to each other, are left out."""
    package = checkout / "xai_runbook"
    texts = {
        path.relative_to(package).as_posix(): path.read_text(encoding="utf-8")
        for path in package.rglob("*.py")
        if "sandbox" not in path.relative_to(package).parts
    }
    decoders = {name for name, text in texts.items() if DECODES.search(text)} - {"model/validation.py"}
    assert decoders == DECODERS.keys()
    assert [name for name, how in DECODERS.items() if how == "validated" and not VALIDATES.search(texts[name])] == []
    adapters = {
        name for name, text in texts.items() if re.search(r"TypeAdapter\(|^class \w+\(BaseModel", text, re.MULTILINE)
    }
    assert {name for name in adapters if not name.startswith("settings/")} == {
        "model/validation.py", "pgbackup/records.py",
    }  # fmt: skip
