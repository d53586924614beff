"""A change as data: what it observed, its steps, the expected condition afterwards, and its undo. Nothing acts here.

A change is a plain function under `@change` that reads through its handles and returns a Plan:

    @change
    def terminate(database: Database, *, pids: list[int]) -> Plan: ...

Everything in a plan is a plain scalar, so its JSON is canonical, its digest is reproducible, and planning the same
change again gives the same plan if the system has not changed.
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
    """An environment's handle for one of its parts. A change's other arguments are data, kept in the plan."""

    @property
    def environment(self) -> str:
        """The name of the environment."""

    @property
    def production(self) -> bool:
        """Whether the environment is a production environment."""

    def identity(self) -> dict[str, str]:
        """Return what identifies the server."""


class Risk(StrEnum):
    """The risk of a plan. Only `additive` plans (backup, capture, profile) may run without a person."""

    ADDITIVE = "additive"
    CHANGE = "change"
    DESTRUCTIVE = "destructive"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one call of a change would do. `@change` sets the fields after `parts`."""

    verb: str
    scope: str
    """One word for the place of the change, such as the database's name; part of the confirmation."""
    targets: tuple[str, ...]
    observed: tuple[Mapping[str, str | None], ...]
    """The rows of exactly its targets that the change read; see `fact`. Without values that change by themselves."""
    steps: tuple[Step, ...]
    expected: Condition | None
    """The condition that must hold afterwards; None only if there are no steps."""
    undo: Call | str
    risk: Risk
    note: str = ""
    """Why there is nothing to do, or what to know before applying it."""
    refused: str = ""
    """Why the change is refused, such as load in production. Such a plan has no steps, and Run All continues."""
    guards: tuple[Condition, ...] = ()
    """Conditions on quantities that always change: checked right before acting, never compared for equality."""
    parts: Parts = field(default_factory=dict)
    """The parts that it touches, with their modes: see `model.parts`. A change declares those beyond its handles;
    `@change` turns all into names. A plan is not applied while an overlapping one acts or has an unknown outcome."""
    change: str = ""
    """Its public name, SECTION.function."""
    arguments: Mapping[str, Argument] = field(default_factory=dict)
    environment: str = ""
    production: bool = False
    identity: Mapping[str, str] = field(default_factory=dict)
    created_at: str = ""
    expires_at: str = ""
    boot: str = ""
    """The boot's id and monotonic clock when the plan was made: they reveal a wall clock that was set since."""
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
        """The text that a person types to confirm: verb, number of targets, scope, start of the digest."""
        return f"{self.verb} {len(self.targets)} {self.scope} {self.digest[:4]}"

    @property
    def comparable(self) -> Plan:
        """The plan without times: equal for two plans of the same change if the system has not changed."""
        return replace(self, created_at="", expires_at="", boot="")

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain JSON values, without the digest."""
        fields = asdict(self)
        if not self.parts:  # keeps the digests of plans in the journal that were made before plans had parts
            del fields["parts"]
        return {"schema": SCHEMA, **fields}

    def canonical(self) -> bytes:
        """Return the canonical JSON: sorted keys, no white space, UTF-8, finite numbers only."""
        return _canonical(self.to_json())

    def file(self) -> bytes:
        """Return the content of a plan file: the plan and its digest."""
        return (
            json.dumps({"digest": self.digest, "plan": self.to_json()}, indent=1, ensure_ascii=False).encode() + b"\n"
        )

    @classmethod
    def from_json(cls, data: object) -> Plan:
        """Return the plan of this JSON data, as `to_json` writes it. Errors: InputError if the data is not a plan."""
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
    # validation dropped, added or converted nothing
    if plan.canonical() != _canonical(data):
        raise ValueError("it has fields or values that a plan does not have")
    times = [datetime.fromisoformat(text) for text in (plan.created_at, plan.expires_at)]
    if None in [time.tzinfo for time in times] or not _BOOT.fullmatch(plan.boot):
        raise ValueError("its times must have a zone, and `boot` a boot id and seconds")
    return plan


def _canonical(data: object) -> bytes:
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def change(function: Callable[P, Plan]) -> Callable[P, Plan]:
    """Mark a function as a change: its Plan records the call, the servers, and when it was made and expires."""
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
                identity |= {f"{key}.{item}": value for item, value in handle.identity().items()}
            plan = function(*args, **kwargs)
        except (CannotAsk, NotConfigured) as error:
            # not raised: Run All of a notebook must continue
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
            boot=clock.boot_stamp(),
            version=_version(),
        )

    planned.is_change = True  # type: ignore[attr-defined]
    return planned


def refused_plan(verb: str, why: str) -> Plan:
    """Return a Plan without steps that says why the change is refused."""
    return Plan(
        verb=verb, scope="nothing", targets=(), observed=(), steps=(), expected=None, undo="nothing was done",
        risk=Risk.CHANGE, refused=why,
    )  # fmt: skip


@cache
def _version() -> str:
    from importlib.metadata import version

    return version("xai_runbook")
