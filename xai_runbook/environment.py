"""One environment's handles, each made when it is first used."""

from __future__ import annotations

import html
from functools import cached_property
from typing import TYPE_CHECKING, Any

from xai_runbook import environments
from xai_runbook.errors import NotConfigured

if TYPE_CHECKING:
    from xai_runbook.clients.cache import Cache
    from xai_runbook.clients.database import Database
    from xai_runbook.clients.nodes import Nodes
    from xai_runbook.clients.operator import Operator
    from xai_runbook.clients.prometheus import Prometheus
    from xai_runbook.clients.sandbox import Sandbox
    from xai_runbook.settings import Limits, Settings


class Environment:
    """A handful of handles with read-only credentials; one whose part has no settings raises NotConfigured."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @property
    def name(self) -> str:
        """The environment's name."""
        return self.settings.name

    @property
    def limits(self) -> Limits:
        """The table of limits."""
        return self.settings.limits

    @cached_property
    def prometheus(self) -> Prometheus:
        """The Prometheus server."""
        from xai_runbook.clients.prometheus import Prometheus

        return Prometheus(self._part("prometheus"), self.settings)

    @cached_property
    def nodes(self) -> Nodes:
        """Our nodes' API, and the reference nodes'."""
        from xai_runbook.clients.nodes import Nodes

        return Nodes(self._part("nodes"))

    @cached_property
    def database(self) -> Database:
        """The PostgreSQL database, as the role that may only read."""
        from xai_runbook.clients.database import Database

        return Database(self._part("database"), environment=self.name, production=self.settings.production)

    @cached_property
    def sandbox(self) -> Sandbox:
        """The sandbox itself, as what load is provoked in; elsewhere a handle that says there is none."""
        from xai_runbook.clients.sandbox import Sandbox

        return Sandbox(self.settings.sandbox, environment=self.name, production=self.settings.production)

    def operator(self) -> Operator:
        """A new session as the role that changes are made with. Only `execution` asks for it (import-linter, tests)."""
        from xai_runbook.clients.operator import Operator

        return Operator(self._part("database"))

    @cached_property
    def cache(self) -> Cache:
        """The Redis or Valkey server."""
        from xai_runbook.clients.cache import Cache

        return Cache(self._part("cache"))

    def _part(self, name: str) -> Any:
        settings = getattr(self.settings, name)
        if settings is None:
            raise NotConfigured(
                f"{name} is not configured in environment {self.name}", on=name, hint=f"a table [{name}] in its file"
            )
        return settings

    def __repr__(self) -> str:
        return f"Environment({self.name}{', PRODUCTION' if self.settings.production else ''})"

    def _repr_html_(self) -> str:
        colour, word = ("#b3001b", "PRODUCTION") if self.settings.production else ("#57606a", "not production")
        notes = [self.settings.description]
        if self.settings.simulated:
            notes.append(f"simulated: {', '.join(self.settings.simulated)}")
        if self.settings.not_configured:
            notes.append(f"not configured: {', '.join(self.settings.not_configured)}")
        described = html.escape("; ".join(note for note in notes if note))
        return (
            f'<div style="border:2px solid {colour};padding:.4em .8em"><strong style="color:{colour}">{word}</strong> '
            f"<strong>{html.escape(self.name)}</strong><br>{described}</div>"
        )


def connect(name: str = "") -> Environment:
    """The Environment of that name; without one, `$XAI_RUNBOOK_ENV`, else the sandbox. Nothing is asked yet.

    Errors: SettingsError, which names the file, table and key; SandboxError where it is the sandbox and none runs.
    """
    return Environment(environments.load(name, running=True))
