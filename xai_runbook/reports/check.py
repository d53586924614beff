"""Run the health report's checks in this process: concurrently, without a kernel and without charts."""

from __future__ import annotations

import ast
import contextlib
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from xai_runbook.environment import Environment, NotConfiguredHandle
from xai_runbook.errors import CannotAsk, InputError, NotConfigured, ReportError, XaiRunbookError, inert
from xai_runbook.model.findings import Finding
from xai_runbook.model.secret import read_only
from xai_runbook.model.window import duration_seconds
from xai_runbook.reports import acknowledgements
from xai_runbook.reports.notebooks.cells import HEALTH_REPORT, Cell, find, read
from xai_runbook.reports.report import Record, findings_of, new_id, record
from xai_runbook.reports.runner.result import CellAnswer, NotebookResult, RunStatus
from xai_runbook.settings.loading import load
from xai_runbook.system import cell_display
from xai_runbook.system.suggestions import suggestion


@dataclass(frozen=True)
class _Question:
    """A health cell without its display calls: the statements to run, and the expression that returns the finding."""

    cell: Cell
    statements: ast.Module
    check: ast.Expression | None


def check(
    environment: str | Environment = "",
    only: Sequence[str] = (),
    *,
    timeout: str = "30s",
    notebook: Path | None = None,
) -> Record:
    """Run the health checks (or those named in `only`) and return the record of their findings; write nothing.

    `environment` is a name, the path of a NAME.toml, or an Environment, of which only the settings are used; by
    default `$XAI_RUNBOOK_ENV`, else the sandbox. `timeout` is the deadline of each check.

    Errors: as `run_questions`; SandboxError when the sandbox is not running; SettingsError also for an invalid file of
    acknowledgements.
    """
    started_at, seconds = datetime.now(UTC), duration_seconds(timeout)
    settings = environment.settings if isinstance(environment, Environment) else load(environment, running=True)
    acknowledged = acknowledgements.read(acknowledgements.path_of(settings))
    result = run_questions(environment, only, seconds=seconds, notebook=notebook)
    return record(
        settings,
        [result],
        id_=new_id(settings.name, started_at),
        started_at=started_at,
        declared={result.name: [answer.name for answer in result.answers]},
        judged=acknowledgements.mark_acknowledged(findings_of([result]), acknowledged, settings.name),
    )


def run_questions(
    environment: str | Environment,
    only: Sequence[str] = (),
    *,
    seconds: float = 30.0,
    notebook: Path | None = None,
) -> NotebookResult:
    """Return the answers of the health cells (or those named in `only`), in their notebook's order.

    The cells run concurrently, so `seconds` is the deadline of each and of all; a cell without an answer by then is
    unknown. Errors: InputError for an unknown name in `only`, SettingsError for the environment, ReportError when a
    set-up cell fails.
    """
    started = time.monotonic()
    path = notebook or find(HEALTH_REPORT)
    cells = read(path)
    chosen = _select([cell for cell in cells if cell.is_question and "health" in cell.tags], only)
    setup = [_parsed(cell) for cell in cells if cell.is_setup]
    display_names = _display_names(setup)
    questions = [_without_display(cell, display_names) for cell in chosen]
    # a cell's prints would mix with the command's own output
    with open(os.devnull, "w", encoding="utf-8") as devnull, contextlib.redirect_stdout(devnull), read_only():
        namespace = _run_setup(setup, questions, environment)
        _share_responses(namespace.get("env"))
        try:
            results = _run_all(questions, namespace, seconds)
        finally:
            _close(namespace.get("env"))
    faults = [f"{answer.name}: {reason}" for answer, reason in results if reason]
    status: RunStatus = "failed" if faults else "completed"
    return NotebookResult(
        name=path.stem,
        path=path,
        status=status,
        seconds=time.monotonic() - started,
        error=faults[0] if faults else "",
        answers=tuple(answer for answer, _ in results),
    )


def _select(questions: list[Cell], only: Sequence[str]) -> list[Cell]:
    names = [cell.id for cell in questions]
    for name in only:
        if name not in names:
            raise InputError(f"there is no question {inert(name, 100)!r}", hint=suggestion(name, names))
    return [cell for cell in questions if not only or cell.id in only]


def _parsed(cell: Cell) -> ast.Module:
    try:
        return ast.parse(cell.source, filename=f"<{cell.id}>")
    except (SyntaxError, ValueError, RecursionError):
        raise ReportError(f"the set-up cell {cell.id} is not valid Python", hint="run make notebooks") from None


def _display_names(setup: Sequence[ast.Module]) -> set[str]:
    """Return `display` and the names under which the set-up cells import the charts."""
    names = {"display"}
    for node in (statement for module in setup for statement in module.body):
        if isinstance(node, ast.ImportFrom):
            from_charts = node.module == "xai_runbook.charts"
            names |= {alias.asname or alias.name for alias in node.names if from_charts or alias.name == "charts"}
    return names


def _without_display(cell: Cell, display_names: set[str]) -> _Question:
    """Return the cell without the tables and charts it shows, and without the queries that only these use."""
    empty = ast.Module(body=[], type_ignores=[])
    try:
        body = ast.parse(cell.source, filename=f"<{cell.id}>").body
    except (SyntaxError, ValueError, RecursionError):
        return _Question(cell, empty, None)
    if not body or not isinstance(body[-1], ast.Expr):
        return _Question(cell, empty, None)
    displays = set(cell_display.display_only(body, display_names.__contains__))
    statements = [statement for position, statement in enumerate(body[:-1]) if position not in displays]
    return _Question(cell, ast.Module(body=statements, type_ignores=[]), ast.Expression(body[-1].value))


def _run_setup(
    setup: Sequence[ast.Module], questions: Sequence[_Question], environment: str | Environment
) -> dict[str, Any]:
    """Run the set-up cells, without imports that no question uses, and return the names they bind."""
    trees = [*(question.statements for question in questions), *(question.check for question in questions)]
    statements = [statement for module in setup for statement in module.body]
    plain = [statement for statement in statements if not isinstance(statement, ast.Import | ast.ImportFrom)]
    used = set[str]().union(*(cell_display.names_read(tree) for tree in (*trees, *plain) if tree))
    namespace: dict[str, Any] = {"__name__": HEALTH_REPORT}
    for statement in statements:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            statement.names = [
                alias for alias in statement.names if (alias.asname or alias.name.partition(".")[0]) in used
            ]
            if not statement.names:
                continue
        bound = cell_display.names_assigned(statement)
        if isinstance(environment, Environment) and "env" in bound:
            namespace["env"] = Environment(environment.settings)  # separate handles: these are closed at the end
            continue
        try:
            exec(compile(ast.Module([statement], []), "<set-up>", "exec"), namespace)  # noqa: S102 - a shipped notebook
        except XaiRunbookError:
            raise
        except Exception as error:
            raise ReportError(
                f"the set-up cells failed: {type(error).__name__}: {inert(str(error), 300)}",
                on=f"line {statement.lineno}",
                hint="run xai-runbook ping, then open the notebook in JupyterLab",
            ) from None
        if "environment" in bound:
            namespace["environment"] = environment.name if isinstance(environment, Environment) else environment
    return namespace


def _run_all(
    questions: Sequence[_Question], namespace: Mapping[str, Any], seconds: float
) -> list[tuple[CellAnswer, str]]:
    """Run each question in a thread of its own; return its answer and the fault of its cell ("" if none).

    Daemon threads, because one that hangs in a library must not keep the process alive.
    """
    end = time.monotonic() + seconds
    answers: dict[str, tuple[CellAnswer, str]] = {}

    def run(question: _Question) -> None:
        answers[question.cell.id] = _run(question, dict(namespace))

    threads = [threading.Thread(target=run, args=(question,), daemon=True) for question in questions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    timeout = f"no answer within {seconds:g} s"
    return [
        answers.get(question.cell.id) or (_unknown(question, timeout, namespace), timeout) for question in questions
    ]


def _share_responses(environment: object) -> None:
    """Let the questions of this run share Prometheus' responses."""
    if isinstance(environment, Environment) and not isinstance(environment.prometheus, NotConfiguredHandle):
        environment.prometheus.cache_requests()


def _close(environment: object) -> None:
    """Close the connections that the questions opened."""
    for handle in list(getattr(environment, "__dict__", {}).values()):
        # look at the class: the handle of a part that is not configured raises for every attribute
        if hasattr(type(handle), "close"):
            handle.close()


def _run(question: _Question, namespace: dict[str, Any]) -> tuple[CellAnswer, str]:
    cell = question.cell
    if question.check is None:
        reason = "NoFinding: the cell does not end with a check"
        return _unknown(question, reason, namespace), reason
    try:
        exec(compile(question.statements, f"<{cell.id}>", "exec"), namespace)  # noqa: S102 - a shipped notebook
        value = eval(compile(question.check, f"<{cell.id}>", "eval"), namespace)  # noqa: S307
    except NotConfigured as error:
        return CellAnswer(name=cell.id, section=cell.section, finding=None, not_configured=error.part), ""
    except CannotAsk as error:
        return _unknown(question, error, namespace), ""
    except BaseException as error:  # also exit() and KeyboardInterrupt: there is no answer
        reason = inert(f"{type(error).__name__}: {_message(error)}", 300)
        return _unknown(question, reason, namespace), reason
    if not isinstance(value, Finding) or value.name != cell.id:
        result = f"the finding {value.name}" if isinstance(value, Finding) else type(value).__name__
        reason = inert(f"NoFinding: the cell returned {result}", 300)
        return _unknown(question, reason, namespace), reason
    return CellAnswer(name=cell.id, section=cell.section, finding=replace(value, section=cell.section)), ""


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "(its message cannot be shown)"


def _unknown(question: _Question, reason: XaiRunbookError | str, namespace: Mapping[str, Any]) -> CellAnswer:
    env = namespace.get("env")
    limit = env.limits.by_name.get(question.cell.id) if isinstance(env, Environment) else None
    finding = replace(Finding.unknown(question.cell.id, reason, limit), section=question.cell.section)
    return CellAnswer(name=question.cell.id, section=question.cell.section, finding=finding)
