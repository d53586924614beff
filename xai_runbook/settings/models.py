"""The models of one environment's settings: `environments/NAME.toml` over `defaults/`.

Every table is a model that refuses unknown keys. A part (prometheus, nodes, database, cache) without a table is not
configured. Settings never contain secrets, only references to them (`Secret`). No error message repeats a value,
because a password may have been written into the wrong key.
"""

from __future__ import annotations

from typing import Annotated, cast, get_args

from pydantic import Field, model_validator

from xai_runbook.model.secret import Secret
from xai_runbook.settings.backups import BackupSettings
from xai_runbook.settings.database import DatabaseSettings, PoolerSettings
from xai_runbook.settings.limits import Limits
from xai_runbook.settings.promql import PromqlSettings
from xai_runbook.settings.types import (
    Duration,
    HeaderName,
    HeightIs,
    InvalidKey,
    Model,
    Path,
    Pointer,
    Step,
    Timeout,
    Url,
    WriteCredential,
)


class AccessSettings(Model):
    """How to connect and authenticate to an HTTP server."""

    timeout: Timeout = "10s"
    """Deadline of a whole answer, not of a single read."""
    auth_header: HeaderName = "Authorization"
    auth_value: Secret | None = None
    ca_file: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None


class PrometheusSettings(AccessSettings):
    """One Prometheus server."""

    url: Url = "http://localhost:9091"
    """The runbook's port, which is normally the Pushgateway's; the client checks that a Prometheus answers."""
    step: Step = "15s"
    """The evaluation interval of its rules; alerts are evaluated at the same instants."""
    lookback: Duration = "5m"
    max_series: Annotated[int, Field(gt=0)] = 5000


class AlertmanagerSettings(AccessSettings):
    """The Alertmanager that Prometheus sends its alerts to; only its alerts and silences are read."""

    url: Url = "http://localhost:9093"


class FactSettings(Model):
    """Where a node's API reports one fact, and what the number counts."""

    path: Path
    pointer: Pointer
    """An RFC 6901 JSON pointer into the answer."""
    height_is: HeightIs = "index"
    includes_self: bool = False
    """True if the node counts itself as a peer."""


class FactsSettings(Model):
    """The facts that are read from a node."""

    height: FactSettings = FactSettings(path="/api/v1/blockchain/info", pointer="/block_height")
    synced: FactSettings = FactSettings(path="/api/v1/blockchain/info", pointer="/is_synced")
    peer_count: FactSettings = FactSettings(path="/api/v1/network/info", pointer="/peer_count")
    peers: FactSettings = FactSettings(path="/api/v1/network/info", pointer="/peers")


class NodeSettings(AccessSettings):
    """One node's API."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=63)]
    url: Url = "http://localhost:8080"
    timeout: Timeout = "5s"
    facts: FactsSettings | None = None
    """Only for a node whose API differs from the others'."""


class NodesSettings(Model):
    """Our nodes, and the reference nodes that report the height of the network."""

    node: Annotated[list[NodeSettings], Field(min_length=1)]
    reference: list[NodeSettings] = []
    facts: FactsSettings = FactsSettings()
    informative_statuses: list[Annotated[int, Field(ge=300, le=599)]] = [503]
    """Statuses other than 2xx whose bodies still carry facts, such as 503 of a node that is syncing."""
    requests_per_second: Annotated[float, Field(gt=0)] = 10.0

    @model_validator(mode="after")
    def _names_are_unique(self) -> NodesSettings:
        seen: set[str] = set()
        for table, nodes in (("node", self.node), ("reference", self.reference)):
            for index, node in enumerate(nodes):
                if node.name in seen:
                    raise InvalidKey("two nodes have this name", "nodes", table, index, "name")
                seen.add(node.name)
        return self


class CacheSettings(Model):
    """One Redis or Valkey server."""

    host: str
    port: Annotated[int, Field(ge=1, le=65535)] = 6379
    password: Secret | None = None
    tls: bool = False
    timeout: Timeout = "3s"


class DashboardSettings(Model):
    """A dashboard that must exist. Titles are not unique in Grafana: a uid or a folder says which one is meant."""

    title: Annotated[str, Field(min_length=1, max_length=200)]
    uid: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,40}$")] | None = None
    folder: Annotated[str, Field(min_length=1)] | None = None
    """The title of its folder. Without one, the dashboard may be in any folder, and is imported into none."""


class HttpOperatorSettings(WriteCredential):
    """The credential of changes that are HTTP requests."""

    auth_header: HeaderName = "Authorization"
    auth_value: Secret


class GrafanaSettings(AccessSettings):
    """One Grafana, read with a viewer's token, and the dashboards that must exist in it."""

    url: Url = "http://localhost:12030"
    """The runbook's port; Grafana's own is 3000."""
    dashboard: list[DashboardSettings] = [
        DashboardSettings(title="Blockchain Node"),
        DashboardSettings(title="Network Status"),
        DashboardSettings(title="Database Performance"),
        DashboardSettings(title="System Resources"),
        DashboardSettings(title="Application Metrics"),
    ]
    operator: HttpOperatorSettings | None = None


class OutputSettings(Model):
    """Where runs are stored; relative paths start at the working folder."""

    folder: str = "outputs"
    acknowledgements: str = "outputs/acknowledgements.toml"
    journal: str = "journal"
    """A folder; a relative one is in this user's state folder. All who change one environment must share one folder
    (an absolute path), because the journal is what prevents a plan from being applied twice."""


class ChangeSettings(Model):
    """Which changes may be applied without a person."""

    headless: list[str] = []
    """Changes of risk additive that `xai-runbook apply FILE` applies without a confirmation, such as backups.dump."""


class SandboxSettings(Model):
    """The running sandbox; set by the sandbox, never in a file."""

    folder: str
    quota_url: Url
    mark: dict[str, str]
    """The environment variable that marks the sandbox's own processes."""
    missing: dict[str, str] = {}
    """Its parts that could not be started, with the reason and how to get the program."""


class Settings(PromqlSettings):
    """All settings of one environment."""

    name: str
    source: str = ""
    """The file that it was read from; set by `load`, never in a file."""
    description: str = ""
    production: bool = False
    """True: faults cannot be provoked, and every output says PRODUCTION."""
    simulated: list[str] = []
    """Parts that are simulated; every report names them."""
    limits: Limits
    prometheus: PrometheusSettings | None = None
    alertmanager: AlertmanagerSettings | None = None
    nodes: NodesSettings | None = None
    database: DatabaseSettings | None = None
    pooler: PoolerSettings | None = None
    cache: CacheSettings | None = None
    grafana: GrafanaSettings | None = None
    backups: BackupSettings | None = None
    sandbox: SandboxSettings | None = None
    changes: ChangeSettings = ChangeSettings()
    contacts: dict[str, str] = {}
    outputs: OutputSettings = OutputSettings()

    @property
    def promql_settings(self) -> PromqlSettings:
        """The part of the settings that handles which write PromQL receive."""
        return PromqlSettings(windows=self.windows, metrics=self.metrics, signals=self.signals, rules=self.rules)

    @property
    def rule_step(self) -> str:
        """The evaluation interval of rules."""
        return self.prometheus.step if self.prometheus else PrometheusSettings().step

    @property
    def not_configured(self) -> list[str]:
        """The parts that this environment does not declare."""
        missing = [part for part in PARTS if getattr(self, part) is None]
        if self.nodes is not None and not self.nodes.reference:
            missing.append("nodes.reference")
        return missing

    def missing(self, part: str) -> str:
        """Return why the sandbox could not start that part, "prometheus is missing: ..."; "" if it could."""
        own = {"database": "postgres", "backups": "postgres"}.get(part, part)
        reason = self.sandbox.missing.get(own) if self.sandbox else None
        return f"{own} is missing: {reason}" if reason else ""


PARTS = tuple(
    name
    for name, field in Settings.model_fields.items()
    if type(None) in get_args(field.annotation) and name != "sandbox"
)
"""The parts that an environment may have: the optional tables. A file never declares the sandbox."""


def table(part: str) -> type[Model]:
    """Return the model of a part's table."""
    model, _ = get_args(Settings.model_fields[part].annotation)
    return cast("type[Model]", model)
