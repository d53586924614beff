"""The models of one environment's settings: `environments/NAME.toml` over `defaults/`.

Every table is a model that refuses unknown keys. A part (prometheus, nodes, database, cache) that has no table is not
configured. Hosts, names and limits live here; secrets never do, only references to them (`Secret`). A password that
somebody wrote into the wrong key must not come back in a complaint: no message here repeats a value.
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
    MisplacedKey,
    Model,
    Path,
    Pointer,
    Step,
    Timeout,
    Url,
    WriteCredential,
)


class Access(Model):
    """How an HTTP part is reached and how we prove who we are."""

    timeout: Timeout = "10s"
    """For a whole answer, not for a single read."""
    auth_header: HeaderName = "Authorization"
    auth_value: Secret | None = None
    ca_file: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None


class PrometheusSettings(Access):
    """One Prometheus server."""

    url: Url = "http://localhost:9091"
    """The runbook's port, which is normally the Pushgateway's: what answers is identified before it is believed."""
    step: Step = "15s"
    """The evaluation interval of its rules; alerts are judged on the same grid."""
    lookback: Duration = "5m"
    most_series: Annotated[int, Field(gt=0)] = 5000


class AlertmanagerSettings(Access):
    """The Alertmanager that Prometheus sends its alerts to; only silences and what it was told are read."""

    url: Url = "http://localhost:9093"


class Fact(Model):
    """Where one fact stands in a node's API, and what it counts."""

    path: Path
    pointer: Pointer
    """An RFC 6901 JSON pointer into the answer."""
    height_is: HeightIs = "index"
    includes_self: bool = False
    """Whether the node counts itself among its peers."""


class FactsSettings(Model):
    """The facts that the runbook asks of a node."""

    height: Fact = Fact(path="/api/v1/blockchain/info", pointer="/block_height")
    synced: Fact = Fact(path="/api/v1/blockchain/info", pointer="/is_synced")
    peer_count: Fact = Fact(path="/api/v1/network/info", pointer="/peer_count")
    peers: Fact = Fact(path="/api/v1/network/info", pointer="/peers")


class NodeSettings(Access):
    """One node's API."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=63)]
    url: Url = "http://localhost:8080"
    timeout: Timeout = "5s"
    facts: FactsSettings | None = None
    """Only where this node's API differs from the others'."""


class NodesSettings(Model):
    """Our nodes, and the reference nodes that tell how far the network is."""

    node: Annotated[list[NodeSettings], Field(min_length=1)]
    reference: list[NodeSettings] = []
    facts: FactsSettings = FactsSettings()
    informative_statuses: list[Annotated[int, Field(ge=300, le=599)]] = [503]
    """Non-2xx answers whose bodies still carry facts, such as "503, still syncing"."""
    requests_per_second: Annotated[float, Field(gt=0)] = 10.0

    @model_validator(mode="after")
    def _distinct(self) -> NodesSettings:
        seen: set[str] = set()
        for table, nodes in (("node", self.node), ("reference", self.reference)):
            for place, node in enumerate(nodes):
                if node.name in seen:
                    raise MisplacedKey("two nodes share this name", "nodes", table, place, "name")
                seen.add(node.name)
        return self


class CacheSettings(Model):
    """One Redis or Valkey server."""

    host: str
    port: Annotated[int, Field(ge=1, le=65535)] = 6379
    password: Secret | None = None
    tls: bool = False
    timeout: Timeout = "3s"


class Dashboard(Model):
    """A dashboard that is to be there: by its title, which is not unique, unless a uid or a folder says which."""

    title: Annotated[str, Field(min_length=1, max_length=200)]
    uid: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,40}$")] | None = None
    folder: Annotated[str, Field(min_length=1)] | None = None
    """The title of the folder it lies in; without one, anywhere, and what we import lies in none."""


class Requester(WriteCredential):
    """Who changes are made as where they are HTTP requests."""

    auth_header: HeaderName = "Authorization"
    auth_value: Secret


class GrafanaSettings(Access):
    """One Grafana, as one who may only view (a service account's token), and the dashboards that are to be there."""

    url: Url = "http://localhost:12030"
    """The runbook's port; Grafana's own is 3000."""
    dashboard: list[Dashboard] = [
        Dashboard(title="Blockchain Node"),
        Dashboard(title="Network Status"),
        Dashboard(title="Database Performance"),
        Dashboard(title="System Resources"),
        Dashboard(title="Application Metrics"),
    ]
    operator: Requester | None = None


class Outputs(Model):
    """Where runs are kept; relative to the folder the command runs in."""

    folder: str = "outputs"
    acknowledgements: str = "outputs/acknowledgements.toml"
    journal: str = "journal"
    """A folder; a relative one lies in this user's state folder. Those who change one environment share an absolute
    one: "applied before" and "unknown blocks" hold among them."""


class Changes(Model):
    """What may change without a person."""

    headless: list[str] = []
    """Changes of risk additive that `xai-runbook apply FILE` may carry out unasked, such as "backups.dump"."""


class SandboxSettings(Model):
    """The running sandbox; set by itself, never in a file."""

    folder: str
    quota_url: Url
    mark: dict[str, str]
    """The environment variable by which the sandbox knows processes as its own."""
    missing: dict[str, str] = {}
    """Its parts that could not be started, with the reason and how to get what is lacking."""


class Settings(PromqlSettings):
    """One environment, whole."""

    name: str
    source: str = ""
    """The file that it was read from; set by itself, never in a file."""
    description: str = ""
    production: bool = False
    """No provoked faults, and every output says so."""
    simulated: list[str] = []
    """Parts that are not the real thing, said in every report."""
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
    changes: Changes = Changes()
    contacts: dict[str, str] = {}
    outputs: Outputs = Outputs()

    @property
    def promql_settings(self) -> PromqlSettings:
        """What handles that write PromQL get of it."""
        return PromqlSettings(windows=self.windows, metrics=self.metrics, signals=self.signals, rules=self.rules)

    @property
    def rule_step(self) -> str:
        """How far apart rules are judged."""
        return self.prometheus.step if self.prometheus else PrometheusSettings().step

    @property
    def not_configured(self) -> list[str]:
        """Parts that this environment does not declare."""
        missing = [part for part in PARTS if getattr(self, part) is None]
        if self.nodes is not None and not self.nodes.reference:
            missing.append("nodes.reference")
        return missing

    def missing(self, part: str) -> str:
        """Why the sandbox has no server of that part ("" where it has): "prometheus is missing: ..."."""
        own = {"database": "postgres", "backups": "postgres"}.get(part, part)
        reason = self.sandbox.missing.get(own) if self.sandbox else None
        return f"{own} is missing: {reason}" if reason else ""


PARTS = tuple(
    name
    for name, field in Settings.model_fields.items()
    if type(None) in get_args(field.annotation) and name != "sandbox"
)
"""The parts that an environment may have: the tables that may be missing. A file never declares the sandbox."""


def table(part: str) -> type[Model]:
    """The model of a part's table."""
    model, _ = get_args(Settings.model_fields[part].annotation)
    return cast("type[Model]", model)
