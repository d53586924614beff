"""Display-only statements of a notebook cell: a missing answer there does not stop the cell.

A question's cell displays tables and charts and ends in a check. Only what the check needs may decide the verdict, so
`check` skips the other statements, and a notebook shows their error in place of their output.
"""

from __future__ import annotations

import ast
import html
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from xai_runbook.errors import CannotAsk, NotConfigured, inert

NAME = "_xai_display_only"
CHARTS = "xai_runbook.charts"


def display_only(body: Sequence[ast.stmt], displays: Callable[[str], bool]) -> list[int]:
    """Return the indexes of the statements that only display something, or only compute what is displayed.

    `displays` says whether a name displays, such as `display` or `charts`. A body that does not end in an expression
    has no display-only statements.
    """
    if not body or not isinstance(body[-1], ast.Expr):
        return []
    found, needed, displayed = [], names_read(body[-1]), set[str]()
    for position in reversed(range(len(body) - 1)):
        statement = body[position]
        shows = isinstance(statement, ast.Expr | ast.Assign) and any(map(displays, names_read(statement)))
        if shows or (names_assigned(statement) and names_assigned(statement) <= displayed - needed):
            displayed |= names_read(statement)
            found.append(position)
        else:
            needed |= names_read(statement)
    return found[::-1]


def names_read(node: ast.AST) -> set[str]:
    """Return the names that are read in the node."""
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load)}


def names_assigned(node: ast.AST) -> set[str]:
    """Return the names that are assigned in the node."""
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}


def install() -> None:
    """Make this kernel continue after display-only statements without data. Does nothing outside IPython."""
    if "IPython" not in sys.modules:
        return
    from IPython import get_ipython

    shell = get_ipython()
    if shell is not None and NAME not in shell.user_ns:
        transformer = _Transformer(shell.user_ns)
        shell.push({NAME: transformer}, interactive=False)
        shell.ast_transformers.append(transformer)


class _Transformer(ast.NodeTransformer):
    """Wraps each display-only statement of a cell in `with _xai_display_only.errors_in_place(names):`."""

    def __init__(self, namespace: dict[str, Any]) -> None:
        self._namespace = namespace
        self._unavailable: set[str] = set()

    def visit_Module(self, tree: ast.Module) -> ast.Module:
        self._unavailable = set()
        for position in display_only(tree.body, self._displays):
            statement = tree.body[position]
            block = ast.parse(f"with {NAME}.errors_in_place({sorted(names_assigned(statement))!r}): pass").body[0]
            assert isinstance(block, ast.With)
            for node in ast.walk(block):
                ast.copy_location(node, statement)
            block.body = [statement]
            tree.body[position] = block
        return tree

    @contextmanager
    def errors_in_place(self, names: Sequence[str]) -> Iterator[None]:
        """Display CannotAsk and NotConfigured in place of the block's output, and remove the names it assigns."""
        try:
            yield
        except (CannotAsk, NotConfigured) as error:
            self._remove(names)
            _display_error(error)
        except NameError as error:
            if error.name not in self._unavailable:
                raise
            self._remove(names)

    def _remove(self, names: Sequence[str]) -> None:
        self._unavailable.update(names)
        for name in names:  # the value of an earlier run of the cell must not be displayed as this run's
            self._namespace.pop(name, None)

    def _displays(self, name: str) -> bool:
        value = self._namespace.get(name)
        module = getattr(value, "__module__", None) or getattr(value, "__name__", "")
        return name == "display" or str(module).startswith(CHARTS)


def _display_error(error: CannotAsk | NotConfigured) -> None:
    from IPython.display import display

    text = f"no data: {inert(str(error))}"
    display({"text/plain": text, "text/html": f"<p><em>{html.escape(text)}</em></p>"}, raw=True)
