"""A change as data: what it saw, what it would do, what must be true afterwards, and the way back. Nothing acts here.

A change is a plain function under `@change` that reads through its handles and returns a Plan:

    @change
    def terminate(database: Database, *, pids: list[int]) -> Plan: ...

Everything in a plan is a plain scalar, so that its JSON is canonical, its digest means something, and planning the same
change again in the same world gives the same plan.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cache, wraps
from typing import Any, ParamSpec, Protocol, cast, runtime_checkable

from xai_runbook.errors import CannotAsk, InputError, NotConfigured
from xai_runbook.model.parts import Parts, touched_parts
from xai_runbook.model.scalars import Argument, argument, fact
from xai_runbook.model.steps import Call, Command, Condition, Edit, HttpCall, Sql, Step, operation_name
from xai_runbook.model.validation import validated

__all__ = [
    "Argument", "Call", "Command", "Condition", "Edit", "Handle", "HttpCall", "Plan", "Risk", "Sql", "Step", "change",
    "refused_plan",
]  # fmt: skip

SCHEMA = "xai-runbook/plan/1"
EXPIRES_AFTER = timedelta(minutes=10)

_BOOT = re.compile(r"[0-9a-f-]+ [0-9]+\.[0-9]+")
P = ParamSpec("P")


@runtime_checkable
class Handle(Protocol):
    """What an environment has for each of its parts. A change's other arguments are data, and stand in the plan."""

    @property
    def environment(self) -> str:
        """The name of its environment."""

    @property
    def production(self) -> bool:
        """Whether the settings say so."""

    def identity(self) -> dict[str, str]:
        """Which server this is."""


class Risk(StrEnum):
    """What a plan can cost. Only `additive` ones (backup, capture, profile) may ever run without a person."""

    ADDITIVE = "additive"
    CHANGE = "change"
    DESTRUCTIVE = "destructive"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one call of a change would do. `@change` fills in the fields after `parts`."""

    verb: str
    scope: str
    """One word for where: the database's name, the sandbox. It is typed in the confirmation."""
    targets: tuple[str, ...]
    observed: tuple[Mapping[str, str | None], ...]
    """The rows that the change saw of exactly its targets; see `fact`. Nothing in them may move by itself."""
    steps: tuple[Step, ...]
    expected: Condition | None
    """What must be true afterwards; None only where there are no steps."""
    undo: Call | str
    risk: Risk
    note: str = ""
    """Why there is nothing to do, or what to know before doing it."""
    refused: str = ""
    """Why this is not done here at all, such as load in production. Such a plan has no steps, and Run All goes on."""
    guards: tuple[Condition, ...] = ()
    """For quantities that always move: looked at right before acting, never compared for equality."""
    parts: Parts = field(default_factory=dict)
    """What it touches, and how: see `model.parts`. A change gives what goes beyond its handles, and `@change`
    makes names of it all. Overlapping plans are never applied at once, nor while the outcome of one is unknown."""
    change: str = ""
    """Its public name, SECTION.function."""
    arguments: Mapping[str, Argument] = field(default_factory=dict)
    environment: str = ""
    production: bool = False
    identity: Mapping[str, str] = field(default_factory=dict)
    created_at: str = ""
    expires_at: str = ""
    boot: str = ""
    """Which boot, and its monotonic clock then: a wall clock that was set is seen against it."""
    version: str = ""

    def __post_init__(self) -> None:
        if bool(self.steps) != (self.expected is not None):
            raise InputError("a plan needs an expected condition if it has steps, and only then", on=self.verb)

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, which covers every field."""
        return hashlib.sha256(self.canonical()).hexdigest()

    @property
    def confirmation(self) -> str:
        """What a person types to confirm: verb, count, scope, and the start of the digest."""
        return f"{self.verb} {len(self.targets)} {self.scope} {self.digest[:4]}"

    @property
    def comparable(self) -> Plan:
        """The plan without what differs each time it is made: equal worlds give equal ones."""
        return replace(self, created_at="", expires_at="", boot="")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, without the digest."""
        fields = asdict(self)
        if not self.parts:  # so that plans of before there were parts, which the journal keeps, read as they were
            del fields["parts"]
        return {"schema": SCHEMA, **fields}

    def canonical(self) -> bytes:
        """The one way in which this plan is written: sorted keys, no white space, UTF-8, finite numbers only."""
        return _canonical(self.to_json())

    def file(self) -> bytes:
        """What `plan --out` writes: the plan and its digest."""
        return (
            json.dumps({"digest": self.digest, "plan": self.to_json()}, indent=1, ensure_ascii=False).encode() + b"\n"
        )

    @classmethod
    def from_json(cls, data: object) -> Plan:
        """The plan that `to_json` gave. Errors: InputError where it is not one."""
        try:
            return _plan(data)
        except (TypeError, ValueError, RecursionError) as error:
            raise InputError(f"this is not a plan: {error}", hint="make a new plan") from None

    def __str__(self) -> str:
        from xai_runbook.model.display.plan import plan_text

        return plan_text(self)

    def _repr_html_(self) -> str:
        from xai_runbook.model.display.plan import plan_html

        return plan_html(self)


def _plan(data: Any) -> Plan:
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise ValueError(f"its schema is not {SCHEMA}")
    plan = validated(Plan, data)
    # nothing was left out, filled in or taken for something else on the way
    if plan.canonical() != _canonical(data):
        raise ValueError("it has fields or values that a plan does not have")
    times = [datetime.fromisoformat(text) for text in (plan.created_at, plan.expires_at)]
    if None in [time.tzinfo for time in times] or not _BOOT.fullmatch(plan.boot):
        raise ValueError("its times must have a zone, and `boot` a boot id and seconds")
    return plan


def _canonical(data: object) -> bytes:
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def change(function: Callable[P, Plan]) -> Callable[P, Plan]:
    """Marks a change: the Plan it returns also says how it was called, on which servers, and until when it holds."""
    signature = inspect.signature(function)
    name = operation_name(function)

    @wraps(function)
    def planned(*args: P.args, **kwargs: P.kwargs) -> Plan:
        from xai_runbook.system import clock

        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        handles = {key: value for key, value in bound.arguments.items() if isinstance(value, Handle)}
        arguments = {
            key: argument(key, value) for key, value in bound.arguments.items() if key not in (*handles, "limits")
        }
        identity: dict[str, str] = {}
        try:
            for key, handle in handles.items():
                identity |= {f"{key}.{told}": value for told, value in handle.identity().items()}
            plan = function(*args, **kwargs)
        except (CannotAsk, NotConfigured) as error:
            # not raised: in a notebook the cells below would fall with it, and Run All must go on
            plan = refused_plan(function.__name__, f"it cannot be planned, because {error}")
        now = datetime.now(UTC)
        environments = {handle.environment for handle in handles.values()}
        if len(environments) != 1:
            raise InputError(f"{name} needs the handles of one environment", hint="all of them from one connect()")
        return replace(
            plan,
            change=name,
            arguments=arguments,
            environment=environments.pop(),
            production=any(handle.production for handle in handles.values()),
            identity=identity,
            parts=touched_parts(identity, plan.parts),
            created_at=cast("str", fact(now)),
            expires_at=cast("str", fact(now + EXPIRES_AFTER)),
            boot=clock.boot(),
            version=_version(),
        )

    planned.is_change = True  # type: ignore[attr-defined]
    return planned


def refused_plan(verb: str, why: str) -> Plan:
    """The Plan of a change that is not done here at all, and why."""
    return Plan(
        verb=verb, scope="nothing", targets=(), observed=(), steps=(), expected=None, undo="nothing was done",
        risk=Risk.CHANGE, refused=why,
    )  # fmt: skip


@cache
def _version() -> str:
    from importlib.metadata import version

    return version("xai_runbook")
