"""Coverage of the runbook: the operation, notebook and tests of each item."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

    from xai_runbook.runbook.call_graph import FunctionCall


class Row(NamedTuple):
    """One item of the runbook and what covers it; `tests` is None when there is no checkout with tests."""

    item: int
    line: int
    literal: str
    operation: str | None
    notebook: str | None
    tests: list[str] | None
    errata: list[str]

    @property
    def answered(self) -> bool:
        """Return whether it has an operation, a notebook that calls it and, if known, a test that calls it."""
        return bool(self.operation and self.notebook and self.tests != [])


@cache
def runbook() -> dict[str, Any]:
    """Return runbook.toml: `item`, a list in the runbook's order, and `errata` by id."""
    import tomllib

    with open(f"{__file__.removesuffix('coverage.py')}runbook.toml", "rb") as file:
        return tomllib.load(file)


def coverage() -> list[Row]:
    """Return a Row for each item of the runbook, in its order."""
    from xai_runbook.runbook.call_graph import calls

    notebook_calls = {path.stem: calls(_code(path)) for path in _notebooks()}
    test_calls = {module: calls(path.read_text(encoding="utf-8")) for module, path in _test_modules().items()}
    return [
        Row(
            item["item"], item["line"], item["literal"], item.get("operation"),
            _notebook(item, notebook_calls), _tests(item, test_calls) if test_calls else None, item.get("errata", []),
        )
        for item in runbook()["item"]
    ]  # fmt: skip


def _notebook(item: dict[str, Any], notebook_calls: dict[str, list[FunctionCall]]) -> str | None:
    return next((name for name, calls in notebook_calls.items() if any(_covers(call, item) for call in calls)), None)


def _tests(item: dict[str, Any], test_calls: dict[str, list[FunctionCall]]) -> list[str]:
    tests = {
        f"{module}::{call.test}" if call.test else module
        for module, calls in test_calls.items() for call in calls if _covers(call, item)
    }  # fmt: skip
    return sorted(tests)


def _covers(call: FunctionCall, item: dict[str, Any]) -> bool:
    return _public_name(call.function) == item.get("operation") and item.get("context", "") in {"", *call.names}


def _public_name(function: str) -> str:
    """Return an operation's name as `model.steps.operation_name` does; empty for other functions."""
    package, _, inside = function.partition(".operations.")
    return f"{inside.partition('.')[0]}.{function.rpartition('.')[2]}" if package == "xai_runbook" else ""


def _notebooks() -> list[Path]:
    """Return the notebooks without the health report; 00_start_here comes last, because it points to the others."""
    from xai_runbook.reports.notebooks import cells

    notebooks = [path for path in cells.folder().glob("*.ipynb") if path.stem != cells.HEALTH_REPORT]
    return sorted(notebooks, key=lambda path: (path.stem.startswith("00"), path.stem))


def _code(path: Path) -> str:
    from xai_runbook.reports.notebooks import cells

    return "\n".join(cell.source for cell in cells.read(path) if cell.kind == "code")


def _test_modules() -> dict[str, Path]:
    """Return the checkout's test modules by name; none in an installed package."""
    from pathlib import Path

    checkout = Path(__file__).parent.parent.parent
    if not (checkout / "pyproject.toml").is_file():
        return {}
    return {path.relative_to(checkout).as_posix(): path for path in sorted((checkout / "tests").rglob("test_*.py"))}
