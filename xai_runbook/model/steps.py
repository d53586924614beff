"""The elements of a plan, as data: steps, conditions, and the call that undoes it.

They refer to queries and changes by their public names, SECTION.function (`database.terminate`), which do not depend on
the module of the function; `Condition.of` and `Call.of` take the function itself.

`changes/steps/execute.py` runs the steps: a new kind of step goes into `Step` here and `StepRunner.run` there.
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
    """One statement, `sql/NAME.sql`, run with the operator's role.

    If it returns rows, it returns one with the column `done`: true, or false for a compare-and-set that found its
    target changed and had no effect. Without rows (VACUUM, REINDEX, ALTER), it is done when the server reports success.
    `atomic` says what an error means.
    """

    name: str
    parameters: Mapping[str, str | None]
    """%(name)s in the file. DDL takes no parameters; its names and texts are quoted into it, from the next fields."""
    equivalent: str
    """The equivalent shell command, shown beside the real statement."""
    identifiers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """{name} in the file: a name, perhaps with its schema; quoted."""
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """{name} in the file: several names with commas between them, such as columns; quoted."""
    literals: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """{name} in the file: one or several texts with commas between them (shared_preload_libraries); quoted."""
    precondition: str = ""
    """A query that is run right before, in the same session with the same parameters, for DDL that cannot compare and
    set by itself. It must return one row whose column `done` is true."""
    seconds: str = ""
    """How long it may take, such as "30m", if longer than the connection's timeout."""
    lock_timeout: str = "1s"
    """How long it may wait for a lock. CONCURRENTLY waits for every older transaction."""
    progress: str = ""
    """A query that the reader runs once a second meanwhile, with %(pid)s; it returns the column `description`."""
    atomic: bool = False
    """Whether it is all or nothing, as in a transaction: after any error, nothing was done. Otherwise (VACUUM,
    CONCURRENTLY, functions that send signals) only an error before it began means that; after any other error its
    effect is unknown."""
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
    """One program, without a shell; `python -m MODULE` runs a module of this package with the present Python.

    It must end within `seconds`, and is stopped if this process ends. Exit codes: 0, it succeeded; 4, it failed and
    left behind what its last line names; 3 or a signal, its effect is unknown; any other, it failed without a lasting
    effect.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    seconds: str
    equivalent: str
    roles: tuple[Role, ...] = ()
    """Roles of the settings that the program may use while it runs. It gets their addresses in libpq's variables and
    their passwords in a file that only this user can read; a plan contains neither."""
    effects_survive_kill: bool = False
    """Whether work of the program may continue elsewhere, or stay unseen, after it was killed. Then being able to make
    the same plan again does not prove that it had no effect."""
    kind: Literal["command"] = "command"


@dataclass(frozen=True, kw_only=True)
class HttpCall:
    """One request, sent as the operator of a part of the settings; it contains no address and no credential.

    After status 200 to 299 it is done, after 400 to 499 it certainly had no effect; after any other, or no answer, its
    effect is unknown. It is sent once, and redirects are not followed.
    """

    part: Literal["grafana"]
    method: Literal["POST", "PUT", "PATCH", "DELETE"]
    path: str
    """The path under the part's address: plain segments, no query."""
    equivalent: str
    body: str = ""
    """JSON without secrets: plans and the journal contain none."""
    kind: Literal["http"] = "http"

    def __post_init__(self) -> None:
        if not _SEGMENTS.fullmatch(self.path):
            raise InputError(
                "a request's path must be plain segments on the part's own server", on=inert(self.path, 80)
            )


@dataclass(frozen=True, kw_only=True)
class Edit:
    """A new value for one `key = value` line of a file on this machine; see `xai_runbook.system.config_line`.

    The file is edited only if its SHA-256 is unchanged, and is replaced atomically, with its owner and permissions. The
    plan contains no other line of the file, which may contain passwords.
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
    """A condition on a query: it has rows, and in every row `column` compares as stated with `value`."""

    query: str
    """The query's public name; see `operation_name`."""
    arguments: Mapping[str, Argument]
    column: str
    comparison: Literal["==", "<=", ">="]
    value: str
    within: str = "0s"
    """How long the condition may take to become true."""
    description: str = ""
    """The condition for people, such as "the sessions are gone"."""

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

        If an argument of the query has the name of a parameter here, pass the query as a `functools.partial`.
        Errors: InputError if it is not an operation, or does not take these arguments.
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
        time_limit = f" within {self.within}" if duration_seconds(self.within) else ""
        comparison = f"{self.column} {self.comparison} {self.value}"
        if self.description:
            return f"{self.description}{time_limit} ({comparison})"
        return f"{comparison}{time_limit} ({self.query})"


@dataclass(frozen=True, kw_only=True)
class Call:
    """A change with its arguments, to be planned when it is needed: how a plan is undone."""

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

    Errors: InputError if it is not a public function of xai_runbook.operations.
    """
    name, module = getattr(function, "__qualname__", ""), getattr(function, "__module__", None) or ""
    package, _, inside = module.partition(".operations.")
    if package != "xai_runbook" or not inside or not name.isidentifier() or name.startswith("_"):
        raise InputError(f"{module}.{name} is not an operation", hint="a public function of xai_runbook.operations")
    return f"{inside.partition('.')[0]}.{name}"


def check_arguments(
    function: Callable[..., Any], arguments: Mapping[str, Argument], known: Iterable[str]
) -> dict[str, Argument]:
    """Return the arguments if the function can be called with them. `known` are its parameters that are not handles.

    Errors: InputError for an unknown or a missing argument.
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
    """Return the function's public name and the arguments as a plan holds them. Handles are not keyword-only."""
    function, given = called, dict(arguments)
    if isinstance(called, partial):
        if called.args:
            raise InputError("a plan cannot hold handles", hint="give a partial keyword arguments only")
        function, given = called.func, called.keywords | given
    name = operation_name(function)
    parameters = inspect.signature(function).parameters.values()
    known = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    return name, {key: argument(key, value) for key, value in check_arguments(function, given, known).items()}
