"""What a plan is made of, as data: its steps, what must be true, and what would be planned as the way back.

Queries and changes stand in it by their public names, SECTION.function (`database.terminate`), which do not depend on
the module that holds the function: `Condition.of` and `Call.of` take the function itself.

How each kind of step acts is in `changes/steps/execute.py`. A new kind goes into `Step` here and `Actor.act` there.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from xai_runbook.errors import InputError, inert
from xai_runbook.model.scalars import Argument, argument
from xai_runbook.model.window import duration_seconds

MOST_NAME_BYTES = 63  # NAMEDATALEN - 1

Role = Literal["database.operator", "backups.scratch"]


@dataclass(frozen=True, kw_only=True)
class Sql:
    """One statement, `sql/NAME.sql`, with the operator's role.

    One that answers with rows answers with one, whose column `done` is true; false is a compare-and-set that found the
    world changed: known to have had no effect. One without rows (VACUUM, REINDEX, ALTER) is done when the server says
    so. What an error on the way means: see `atomic`.
    """

    name: str
    parameters: Mapping[str, str | None]
    """%(name)s in the file. DDL takes none; what it needs is quoted into it: the three below."""
    equivalent: str
    """The equivalent line for a shell, shown beside the real call."""
    identifiers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """{name} in the file: a name, perhaps with its schema before it; quoted."""
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """{name} in the file: several names with commas between, such as columns; quoted."""
    literals: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """{name} in the file: a text, or several with commas between (shared_preload_libraries); quoted."""
    precondition: str = ""
    """A query asked right before, in the same session with the same parameters, for DDL that cannot compare and set by
    itself: it must answer with one row whose column `done` is true."""
    seconds: str = ""
    """How long it may take, where that is longer than the connection's timeout: "30m"."""
    lock_timeout: str = "1s"
    """How long it may wait for a lock. CONCURRENTLY waits for every transaction that was there before it."""
    progress: str = ""
    """A query that the reader runs once a second meanwhile, with %(pid)s; its column is `description`."""
    atomic: bool = False
    """All or nothing, as in a transaction: whatever error ends it, nothing was done. Otherwise (VACUUM, CONCURRENTLY,
    functions that signal) only an error of before it began says so; any other leaves open how far it got."""
    kind: Literal["sql"] = "sql"

    def __post_init__(self) -> None:
        for part in (part for parts in (*self.identifiers.values(), *self.names.values()) for part in parts):
            if not part or "\0" in part or len(part.encode(errors="replace")) > MOST_NAME_BYTES:
                raise InputError(
                    f"a name must have 1 to {MOST_NAME_BYTES} bytes, PostgreSQL truncates longer ones",
                    on=inert(part, 80),
                )


@dataclass(frozen=True, kw_only=True)
class Command:
    """One program, without a shell; `python -m MODULE` runs a module of this package with the Python that runs us.

    It ends by itself within `seconds`, is ended with us, and succeeds by exit code 0. By exit code 4 it failed and left
    something behind, which its last line names; exit code 3 or an end by a signal leaves open what it did; any other
    failed without a lasting effect.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    seconds: str
    equivalent: str
    roles: tuple[Role, ...] = ()
    """The roles of the settings that it is lent: their address comes in libpq's variables, their passwords in a file
    that only it and its like can read, for as long as it runs. Neither stands here."""
    effects_survive_kill: bool = False
    """Whether what it began may go on elsewhere, or stay unseen, where it is ended by force: that the plan can be made
    again does not tell then that nothing happened."""
    kind: Literal["command"] = "command"


@dataclass(frozen=True, kw_only=True)
class HttpCall:
    """One request, as the operator of a part of the settings: no address and no credential stand here.

    An answer of 200 to 299 is done, one of 400 to 499 is known to have had no effect; any other, and none at all,
    leaves open what it did. It is sent once, and redirects are not followed.
    """

    part: Literal["grafana"]
    method: Literal["POST", "PUT", "PATCH", "DELETE"]
    path: str
    """Under the part's address: plain segments, no query."""
    equivalent: str
    body: str = ""
    """JSON; holds no secret, as plans and the journal do not."""
    kind: Literal["http"] = "http"

    def __post_init__(self) -> None:
        if not _SEGMENTS.fullmatch(self.path):
            raise InputError(
                "a request's path must be plain segments on the part's own server", on=inert(self.path, 80)
            )


@dataclass(frozen=True, kw_only=True)
class Edit:
    """One value of one `key = value` line of a file on this machine; see `xai_runbook.system.config_line`.

    Only while the file is, byte for byte, what was seen; written whole, with its owner and rights. The plan holds no
    other line of the file, which may hold passwords.
    """

    path: str
    sha256: str
    key: str
    before: str
    after: str
    equivalent: str
    kind: Literal["edit"] = "edit"


_SEGMENTS = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+")

Step = Sql | Command | HttpCall | Edit


@dataclass(frozen=True, kw_only=True)
class Condition:
    """True when a query has rows and, in every row, `column` compares so with `value`."""

    query: str
    """The query's public name; see `operation_name`."""
    arguments: Mapping[str, Argument]
    column: str
    comparison: Literal["==", "<=", ">="]
    value: str
    within: str = "0s"
    """How long it may take to become true."""
    description: str = ""
    """The same for a person: "the sessions have gone"."""

    @classmethod
    def of(
        cls,
        query: Callable[..., object],
        /,
        *,
        column: str,
        comparison: Literal["==", "<=", ">="],
        value: str,
        within: str = "0s",
        description: str = "",
        **arguments: Argument,
    ) -> Condition:
        """Return the Condition on this query with these arguments.

        A query with an argument called as one of ours is given as a `functools.partial`.
        Errors: InputError where it is no operation, or does not take these arguments.
        """
        name, known = _name_and_arguments(query, arguments)
        return cls(
            query=name,
            arguments=known,
            column=column,
            comparison=comparison,
            value=value,
            within=within,
            description=description,
        )

    def __str__(self) -> str:
        late = f" within {self.within}" if duration_seconds(self.within) else ""
        told = f"{self.column} {self.comparison} {self.value}"
        return f"{self.description}{late} ({told})" if self.description else f"{told}{late} ({self.query})"


@dataclass(frozen=True, kw_only=True)
class Call:
    """A change that would be planned when it is wanted: the way back."""

    change: str
    """The change's public name; see `operation_name`."""
    arguments: Mapping[str, Argument]

    @classmethod
    def of(cls, change: Callable[..., object], /, **arguments: Argument) -> Call:
        """Return the Call of this change with these arguments. Errors: as `Condition.of`."""
        name, known = _name_and_arguments(change, arguments)
        return cls(change=name, arguments=known)


def operation_name(function: Callable[..., Any]) -> str:
    """Return the public name of a query, check or change: SECTION.function, whichever module of the section has it.

    Errors: InputError for what is no public function of xai_runbook.operations.
    """
    name, module = getattr(function, "__qualname__", ""), getattr(function, "__module__", None) or ""
    package, _, inside = module.partition(".operations.")
    if package != "xai_runbook" or not inside or not name.isidentifier() or name.startswith("_"):
        raise InputError(f"{module}.{name} is not an operation", hint="a public function of xai_runbook.operations")
    return f"{inside.partition('.')[0]}.{name}"


def check_arguments(
    function: Callable[..., Any], arguments: Mapping[str, Argument], known: Iterable[str]
) -> dict[str, Argument]:
    """Return the arguments where the function can be called with them; of its parameters, `known` are no handles.

    Errors: InputError for one that it does not take, and for one that it needs and that is not there.
    """
    names, parameters = list(known), inspect.signature(function).parameters
    for name in names:
        if name not in arguments and parameters[name].default is inspect.Parameter.empty:
            raise InputError(f"{function.__name__} needs {name}")
    for name in arguments:
        if name not in names:
            raise InputError(
                f"{function.__name__} takes no {name!r:.60}", hint=f"it takes {', '.join(names) or 'none'}"
            )
    return dict(arguments)


def _name_and_arguments(
    called: Callable[..., Any], arguments: Mapping[str, Argument]
) -> tuple[str, dict[str, Argument]]:
    """The function's public name, and these arguments as a plan holds them; what is not keyword-only is a handle."""
    function, given = called, dict(arguments)
    if isinstance(called, partial):
        if called.args:
            raise InputError("a plan cannot hold handles", hint="give a partial keyword arguments only")
        function, given = called.func, called.keywords | given
    name = operation_name(function)
    parameters = inspect.signature(function).parameters.values()
    known = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    return name, {key: argument(key, value) for key, value in check_arguments(function, given, known).items()}
