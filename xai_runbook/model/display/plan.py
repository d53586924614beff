"""Display of a plan: as text for a terminal, as HTML for a notebook."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Protocol

from xai_runbook.errors import inert
from xai_runbook.model.display.html_fragments import Fragment, Tone, badge, box, code, line, table, text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from xai_runbook.model.steps import Call, Condition, Sql, Step

_NEWEST = 1000  # a server version above all variants
_TONES: dict[str, Tone] = {"destructive": "critical", "change": "medium", "additive": "ok"}  # by risk


class _Plan(Protocol):
    """The attributes of `plans.Plan` that are displayed; `plans` imports this module, not the reverse."""

    @property
    def verb(self) -> str: ...
    @property
    def scope(self) -> str: ...
    @property
    def targets(self) -> Sequence[str]: ...
    @property
    def observed(self) -> Sequence[Mapping[str, str | None]]: ...
    @property
    def steps(self) -> Sequence[Step]: ...
    @property
    def expected(self) -> Condition | None: ...
    @property
    def undo(self) -> Call | str: ...
    @property
    def risk(self) -> str: ...
    @property
    def note(self) -> str: ...
    @property
    def refused(self) -> str: ...
    @property
    def guards(self) -> Sequence[Condition]: ...
    @property
    def environment(self) -> str: ...
    @property
    def production(self) -> bool: ...
    @property
    def identity(self) -> Mapping[str, str]: ...
    @property
    def expires_at(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def confirmation(self) -> str: ...


def plan_text(plan: _Plan) -> str:
    """Return the plan as text for one screen; control characters in texts of servers are replaced."""
    lines = [f"PLAN {inert(plan.verb)}: {len(plan.targets)} target(s) in {inert(plan.scope)}, risk {plan.risk}"]
    if plan.production:
        lines[0] = f"PRODUCTION {lines[0]}"
    lines += [f"  {name:<13}{text}" for name, text in _parts(plan)]
    if plan.steps:
        lines.append(f"  to apply     type: {inert(plan.confirmation)}")
    return "\n".join(lines)


def plan_html(plan: _Plan) -> Fragment:
    """Return the plan as HTML, with all texts escaped."""
    tone = _TONES[plan.risk]
    production = [badge("critical", "PRODUCTION")] if plan.production else []
    summary = text(f"{len(plan.targets)} target(s) in {inert(plan.scope)}, risk {plan.risk}")
    confirmation = [line(text("To apply it, type:"), code(inert(plan.confirmation), selectable=True))]
    return box(
        tone,
        *production,
        badge(tone, f"PLAN {inert(plan.verb)}"),
        summary,
        table(_parts(plan)),
        *(confirmation if plan.steps else []),
        framed=True,
    )


def _parts(plan: _Plan) -> Iterable[tuple[str, str]]:
    yield "where", inert(f"{plan.environment}: " + ", ".join(f"{key} {text}" for key, text in plan.identity.items()))
    for target in plan.targets:
        yield "target", inert(target, 200)
    for row in plan.observed:
        yield "seen", inert(", ".join(f"{key} {text}" for key, text in row.items()), 400)
    if plan.refused:
        yield "REFUSED", inert(plan.refused)
    elif not plan.steps:
        yield "steps", "none: there is nothing to do"
    for number, step in enumerate(plan.steps, 1):
        yield f"step {number}", _action(step)
        yield "  in a shell", inert(step.equivalent, 400)
    for guard in plan.guards:
        yield "only while", inert(str(guard))
    if plan.expected:
        yield "afterwards", inert(str(plan.expected))
    undo = plan.undo if isinstance(plan.undo, str) else f"{plan.undo.change} (xai-runbook undo)"
    yield "undo", inert(undo)
    if plan.note:
        yield "note", inert(plan.note)
    yield "holds until", inert(f"{plan.expires_at[:19].replace('T', ' ')} UTC")
    yield "digest", plan.digest


def _action(step: Step) -> str:
    """Return what the step does: the statement, the command line, the request or the edit."""
    from xai_runbook.sql import path_of

    if step.kind == "http":
        digest = hashlib.sha256(step.body.encode()).hexdigest()[:12]
        content = f" with {len(step.body.encode())} bytes of JSON, sha256 {digest}..." if step.body else ""
        return inert(f"{step.method} {step.path} of {step.part}{content}", 400)
    if step.kind == "edit":
        return inert(f"in {step.path}: {step.key} {step.before} becomes {step.after}", 400)
    if step.kind != "sql":
        roles = f" (with the credentials of {', '.join(step.roles)})" if step.roles else ""
        return inert(" ".join(step.argv), 400) + roles
    text = _statement(step) if step.identifiers or step.names or step.literals else path_of(step.name)
    given = ", ".join(f"{key}={value}" for key, value in step.parameters.items())
    parameters = f" with {given}" if given else ""
    if step.precondition:
        return inert(f"only if {path_of(step.precondition)}{parameters} returns done: {text}", 600)
    return inert(text + parameters, 600)


def _statement(step: Sql) -> str:
    """Return the statement with its names quoted as they are sent; of several variants, the newest server's."""
    from xai_runbook.model.sql_text import compose

    lines = compose(step, _NEWEST).as_string(None).splitlines()
    return " ".join(line.strip() for line in lines if not line.startswith("--"))
