"""An environment and its handles, each created at its first use."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, TypeVar, cast

from xai_runbook.errors import NotConfigured, PartMissing, XaiRunbookError
from xai_runbook.model.display.html_fragments import badge, box, line, strong, text
from xai_runbook.settings import loading
from xai_runbook.system import cell_display

if TYPE_CHECKING:
    from xai_runbook.clients.alertmanager import Alertmanager
    from xai_runbook.clients.backups import Backups
    from xai_runbook.clients.cache import Cache
    from xai_runbook.clients.grafana import Grafana
    from xai_runbook.clients.nodes import Nodes
    from xai_runbook.clients.postgres.operator import Operator
    from xai_runbook.clients.postgres.pgbouncer import Pooler
    from xai_runbook.clients.postgres.reader import Database
    from xai_runbook.clients.prometheus.client import Prometheus
    from xai_runbook.clients.sandbox import Sandbox
    from xai_runbook.settings.limits import Limits
    from xai_runbook.settings.models import Settings

T = TypeVar("T")


class NotConfiguredHandle:
    """The handle of a part that the settings do not declare: its queries raise NotConfigured."""

    def __init__(self, part: str, environment: str, production: bool) -> None:
        self.part, self.environment, self.production = part, environment, production

    def identity(self) -> dict[str, str]:
        """Return nothing: there is no server."""
        return {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # IPython and pickle look for optional methods
            raise AttributeError(name)
        raise self._error()

    def _error(self) -> XaiRunbookError:
        return NotConfigured(
            f"{self.part} is not configured in environment {self.environment}",
            on=self.part,
            hint=f"add a table [{self.part}] to its settings file",
        )


class MissingHandle(NotConfiguredHandle):
    """The handle of a part that the sandbox could not start: its queries raise PartMissing."""

    def __init__(self, part: str, environment: str, production: bool, reason: str) -> None:
        super().__init__(part, environment, production)
        self._reason = reason

    def _error(self) -> XaiRunbookError:
        return PartMissing(self._reason)


class Environment:
    """The handles of one environment, with read-only credentials. A part without settings raises NotConfigured."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @property
    def name(self) -> str:
        """The environment's name."""
        return self.settings.name

    @property
    def limits(self) -> Limits:
        """The limits of the environment."""
        return self.settings.limits

    @cached_property
    def prometheus(self) -> Prometheus:
        """The Prometheus server."""
        from xai_runbook.clients.prometheus.client import Prometheus

        missing = self.settings.sandbox.missing if self.settings.sandbox else ()
        return self._handle(
            "prometheus",
            lambda part: Prometheus(part, self.settings.promql_settings, **self._labels, missing_exporters=missing),
        )

    @cached_property
    def alertmanager(self) -> Alertmanager:
        """The Alertmanager that Prometheus sends to."""
        from xai_runbook.clients.alertmanager import Alertmanager

        return self._handle("alertmanager", lambda part: Alertmanager(part, **self._labels))

    @cached_property
    def nodes(self) -> Nodes:
        """The API of our nodes and of the reference nodes."""
        from xai_runbook.clients.nodes import Nodes

        return self._handle("nodes", lambda part: Nodes(part, **self._labels))

    @cached_property
    def database(self) -> Database:
        """The PostgreSQL database, as the read-only role."""
        from xai_runbook.clients.postgres.reader import Database

        return self._handle("database", lambda part: Database(part, **self._labels))

    @cached_property
    def pooler(self) -> Pooler:
        """The console of PgBouncer."""
        from xai_runbook.clients.postgres.pgbouncer import Pooler

        return self._handle("pooler", lambda part: Pooler(part, **self._labels))

    @cached_property
    def cache(self) -> Cache:
        """The Redis or Valkey server."""
        from xai_runbook.clients.cache import Cache

        return self._handle("cache", lambda part: Cache(part, **self._labels))

    @cached_property
    def grafana(self) -> Grafana:
        """The Grafana server, as a viewer."""
        from xai_runbook.clients.grafana import Grafana

        return self._handle("grafana", lambda part: Grafana(part, self.settings.promql_settings, **self._labels))

    @cached_property
    def backups(self) -> Backups:
        """The folder of backups, read-only."""
        from xai_runbook.clients.backups import Backups, Source
        from xai_runbook.pgbackup.origin import named_address

        database = self.settings.database
        source = None
        if database is not None:
            tunnelled = database.bastion is not None
            address = named_address(database.service, database.host, database.port, tunnelled=tunnelled)
            source = Source(database.dbname, database.system_identifier, address, lambda: self.database.identity())
        return self._handle("backups", lambda part: Backups(part, source, **self._labels))

    @cached_property
    def sandbox(self) -> Sandbox:
        """The sandbox itself, in which load can be provoked."""
        from xai_runbook.clients.sandbox import Sandbox

        return self._handle("sandbox", lambda part: Sandbox(part, **self._labels))

    def operator(self) -> Operator:
        """Return a new session with the operator's role. Errors: Refused unless a plan is being applied."""
        from xai_runbook.clients.postgres.operator import Operator

        return self._handle("database", Operator)

    @property
    def _labels(self) -> dict[str, Any]:
        return {"environment": self.name, "production": self.settings.production}

    def _handle(self, part: str, make: Callable[[Any], T]) -> T:
        settings = getattr(self.settings, part)
        if settings is None:
            return cast("T", NotConfiguredHandle(part, **self._labels))
        if reason := self.settings.missing(part):
            return cast("T", MissingHandle(part, **self._labels, reason=reason))
        return make(settings)

    def __repr__(self) -> str:
        return f"Environment({self.name}{', PRODUCTION' if self.settings.production else ''})"

    def _repr_html_(self) -> str:
        production = self.settings.production
        label = badge("critical", "PRODUCTION") if production else badge("neutral", "not production")
        notes = [self.settings.description]
        if self.settings.simulated:
            notes.append(f"simulated: {', '.join(self.settings.simulated)}")
        if self.settings.not_configured:
            notes.append(f"not configured: {', '.join(self.settings.not_configured)}")
        description = line(text("; ".join(note for note in notes if note)))
        return box("critical" if production else "neutral", label, strong(self.name), description, framed=True)


@cache
def handles() -> frozenset[str]:
    """Return the names of Environment's handles: its cached properties."""
    return frozenset(name for name, value in vars(Environment).items() if isinstance(value, cached_property))


def environment_parameters() -> frozenset[str]:
    """Return the names of the parameters that an environment provides to operations: its handles and its limits."""
    return handles() | {"limits"}


def connect(name: str = "") -> Environment:
    """Return the Environment of that name; by default `$XAI_RUNBOOK_ENV`, else the sandbox. Connects to nothing yet.

    Errors: SettingsError, with the file, table and key; SandboxError if it is the sandbox and none is running.
    """
    cell_display.install()
    return Environment(loading.load(name, running=True))
