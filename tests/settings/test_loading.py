"""Settings of environments, and their errors: with file, table, key and example, and without the value."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from xai_runbook.environment import Environment, connect
from xai_runbook.errors import NotConfigured, SandboxError, SettingsError
from xai_runbook.model.findings import Severity
from xai_runbook.settings import loading
from xai_runbook.settings.limits import Limits, Signals
from xai_runbook.settings.models import PARTS, Settings

SECRET = "hunter2-Tr0ub4dor"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a user's environments, with nothing else of the machine in sight."""
    monkeypatch.setenv("XAI_RUNBOOK_CONFIG", str(tmp_path / "chosen"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("XAI_RUNBOOK_SANDBOX", str(tmp_path / "no-sandbox"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    (tmp_path / "chosen").mkdir()
    return tmp_path / "chosen"


def load(folder: Path, text: str, name: str = "mine") -> Settings:
    (folder / f"{name}.toml").write_text(text, encoding="utf-8")
    return loading.load(name)


def error_of(folder: Path, text: str) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        load(folder, text)
    assert SECRET not in f"{caught.value} {caught.value!r}"
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    return caught.value


@pytest.mark.parametrize(
    ("text", "where", "what", "example"),
    [
        (f'[prometheus]\nurl = "http://me:{SECRET}@host"', "table [prometheus], key url", "auth_value", "url = "),
        (f'[prometheus]\nurl = "http://host:{SECRET}"', "table [prometheus], key url", "port", "url = "),
        (f'[prometheus]\nurl = "{SECRET}"', "table [prometheus], key url", "http://", "url = "),
        (f'[prometheus]\nurl = "http://{SECRET} x"', "table [prometheus], key url", "spaces", "url = "),
        (f'[prometheus]\nurl = "http://h?token={SECRET}"', "table [prometheus], key url", "query", "url = "),
        (f'[prometheus]\ntimeout = "{SECRET}"', "table [prometheus], key timeout", "duration", 'timeout = "10s"'),
        ('[prometheus]\ntimeout = "0s"', "table [prometheus], key timeout", "100ms", 'timeout = "10s"'),
        ('[prometheus]\nstep = "0s"', "table [prometheus], key step", "greater than 0s", 'step = "15s"'),
        (f'[prometheus]\nauth_value = "{SECRET}"', "table [prometheus], key auth_value", "reference", "env:NAME"),
        (f"[prometheus]\nauth_value = ['{SECRET}']", "table [prometheus], key auth_value", "reference", "env:NAME"),
        (f'[prometheus]\nauth_header = "X {SECRET}"', "table [prometheus], key auth_header", "pattern", "auth_header"),
        (f'[prometheus]\npassword = "{SECRET}"', "table [prometheus], key password", "unknown key", "auth_value"),
        (f'[prometheus]\ntimeuot = "{SECRET}"', "table [prometheus], key timeuot", "unknown key", 'timeout = "10s"'),
        (f'prometheus = "{SECRET}"', "key prometheus", "dictionary", "url"),
        (f'[database]\npassword = "{SECRET}"', "table [database], key password", "reference", "env:NAME"),
        (f'[database]\nport = "{SECRET}"', "table [database], key port", "integer", "port = 5432"),
        ("[database]\nport = 70000", "table [database], key port", "65535", "port = 5432"),
        (f'[database]\ndbname = "postgresql://u:{SECRET}@h/d"', "key dbname", "connection string", "xai_blockchain"),
        (f'[database]\ndbname = "host=h password={SECRET}"', "key dbname", "connection string", "xai_blockchain"),
        (
            f'[database]\nsslmode = "{SECRET}"',
            "table [database], key sslmode",
            "verify-full",
            'sslmode = "verify-full"',
        ),
        (
            f'[database.operator]\nuser = "o"\npassword = "{SECRET}"',
            "table [database.operator], key password",
            "ref",
            "env:",
        ),
        (f'[databse]\nhost = "{SECRET}"', "key databse", "unknown key", "database"),
        (f'[cache]\nport = "{SECRET}"', "table [cache], key host", "required", "host = "),
        ("[nodes]\nrequests_per_second = 0", "table [nodes], key node", "required", "[nodes.node]"),
        (
            f'[[nodes.node]]\nname = "a"\n[[nodes.node]]\nname = "b"\nurl = "{SECRET}"',
            "table [nodes.node.1], key url",
            "",
            "url = ",
        ),
        (f'[[nodes.node]]\nname = "a b {SECRET}"', "table [nodes.node.0], key name", "pattern", "name = "),
        (
            '[[nodes.node]]\nname = "a"\n[[nodes.reference]]\nname = "a"',
            "table [nodes.reference.0], key name",
            "two nodes",
            "name = ",
        ),
        (
            '[[nodes.node]]\nname = "a"\n[nodes.facts.height]\npath = "/x"\npointer = "block~height"',
            "key pointer",
            "pattern",
            "/block_height",
        ),
        (
            '[[nodes.node]]\nname = "a"\n[nodes.facts.height]\npath = "/x y"\npointer = "/a"',
            "table [nodes.facts.height], key path",
            "pattern",
            "path = ",
        ),
        ("[limits.monitoring.cpu_used]\nthreshold = 80", "cpu_used", "between 0 and 1", "cpu_used"),
        (
            f'[limits.monitoring.cpu_used]\nthreshold = "{SECRET}"',
            "table [limits.monitoring.cpu_used], key threshold",
            "number",
            "threshold = 0.8",
        ),
        (f'[limits.monitoring.cpu_used]\nduration = "{SECRET}"', "cpu_used", "duration", "cpu_used"),
        (
            f'[limits.monitoring.cpu_used]\nseverity = "{SECRET}"',
            "table [limits.monitoring.cpu_used], key severity",
            "'critical'",
            "severity = ",
        ),
        (
            f'[limits.monitoring.cpu_usd]\nhint = "{SECRET}"',
            "table [limits.monitoring], key cpu_usd",
            "unknown key",
            "cpu_used",
        ),
        ("[limits.monitoring.cpu_used]\nthreshold = nan", "cpu_used", "finite", "cpu_used"),
        ('[signals]\ncpu_used = "up{${nothing}}"', "table [signals], key cpu_used", "${nothing}", "cpu_used = "),
        ('[metrics]\nheight = "a-b"', "table [metrics], key height", "pattern", 'height = "blockchain_height"'),
        (f'[windows]\nrate = "{SECRET}"', "table [windows], key rate", "duration", 'rate = "2m"'),
        (f'production = "{SECRET}"', "key production", "boolean", "production = true"),
    ],
)
def test_an_error_names_file_table_and_key_and_shows_an_example(
    folder: Path, text: str, where: str, what: str, example: str
) -> None:
    error = error_of(folder, text)
    assert str(folder / "mine.toml") in error.on
    assert where in error.on
    assert what in error.what
    assert example in error.hint


def test_several_errors_are_counted(folder: Path) -> None:
    assert error_of(folder, "[database]\nport = 'x'\nhosst = 'y'").what.endswith("(and 1 more)")


@pytest.mark.parametrize(
    "content", [f'[database]\npassword = "{SECRET}'.encode(), b"a = ", b"[x]\n[x]", b"\xff\xfe", b"a\x00 = 1"]
)
def test_a_file_that_is_not_toml(folder: Path, content: bytes) -> None:
    (folder / "mine.toml").write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        loading.load("mine")
    assert str(folder / "mine.toml") in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("name", ["nowhere", "../mine", "/etc/passwd", "a b", "defaults", "", ".", "x\x1b"])
def test_unknown_environment(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "mine.toml").write_text("")
    monkeypatch.setenv("XAI_RUNBOOK_ENV", "also-nowhere")
    with pytest.raises(SettingsError) as caught:
        loading.load(name)
    assert "mine, sandbox" in caught.value.hint
    assert "\x1b" not in str(caught.value)


def test_the_folders_that_are_searched(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """$XAI_RUNBOOK_CONFIG, then the XDG folder, then what is shipped."""
    places = [folder, folder.parent / "xdg" / "xai-runbook"]
    for place in places:
        place.mkdir(exist_ok=True, parents=True)
        (place / "mine.toml").write_text(f'description = "{place.name}"')
    for place in places:
        assert loading.load("mine").description == place.name
        (place / "mine.toml").unlink()
    assert loading.load("sandbox").simulated == ["nodes", "grafana"]
    monkeypatch.delenv("XAI_RUNBOOK_CONFIG")
    assert loading.folders() == [places[1], loading.SHIPPED]


def test_names(folder: Path) -> None:
    (folder / "mine.toml").write_text("")
    assert loading.names() == ["mine", "sandbox"]


def test_the_environment_in_the_variable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "mine.toml").write_text("")
    assert loading.load().name == "sandbox"
    monkeypatch.setenv("XAI_RUNBOOK_ENV", "mine")
    assert loading.load().name == "mine"
    assert loading.load("sandbox").name == "sandbox"


def test_a_sandbox_that_does_not_run(folder: Path) -> None:
    with pytest.raises(SandboxError, match="sandbox up"):
        connect("sandbox")


def test_a_running_sandbox_gives_the_ports(sandbox: dict[str, Any]) -> None:
    settings = loading.load("sandbox", running=True)
    assert settings.database is not None
    assert settings.database.port == sandbox["overlay"]["database"]["port"]
    assert settings.not_configured == []


def test_another_name_in_the_file(folder: Path) -> None:
    with pytest.raises(SettingsError, match="key name"):
        load(folder, 'name = "other"')
    assert load(folder, 'name = "mine"').name == "mine"


def test_overrides(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XAI_RUNBOOK_PROMETHEUS__URL", "http://override:9090")
    monkeypatch.setenv("XAI_RUNBOOK_DATABASE__PORT", "6000")
    monkeypatch.setenv("XAI_RUNBOOK_DATABASE__SYSTEM_IDENTIFIER", "7300000000000000001")
    monkeypatch.setenv("XAI_RUNBOOK_LIMITS__MONITORING__CPU_USED__THRESHOLD", "0.5")
    monkeypatch.setenv("XAI_RUNBOOK_NODES__NODE", '[{name = "a", url = "http://a"}]')
    settings = load(folder, '[prometheus]\nurl = "http://file:9090"\nstep = "30s"\n[database]\nport = 5000')
    assert settings.prometheus is not None
    assert settings.database is not None
    assert settings.nodes is not None
    assert (settings.prometheus.url, settings.prometheus.step) == ("http://override:9090", "30s")
    assert (settings.database.port, settings.database.system_identifier) == (6000, "7300000000000000001")
    assert settings.limits.monitoring.cpu_used.threshold == 0.5
    assert settings.limits.monitoring.cpu_used.duration == "5m"
    assert [node.name for node in settings.nodes.node] == ["a"]


def test_a_wrong_override_names_the_variable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XAI_RUNBOOK_DATABASE__PASSWORD", SECRET)
    error = error_of(folder, "[database]\nport = 5000")
    assert "variable XAI_RUNBOOK_DATABASE__PASSWORD" in error.on
    assert "mine.toml" not in error.on


def test_parts_without_a_table_are_not_configured(folder: Path) -> None:
    settings = load(folder, "")
    assert settings.not_configured == list(PARTS)
    env = Environment(settings)
    for part in settings.not_configured:
        handle = getattr(env, part)  # a notebook may bind it; asking it is what cannot be done
        with pytest.raises(NotConfigured) as caught:
            handle.ask()
        assert caught.value.part == part
        assert "mine" in caught.value.what


def test_no_reference_node_is_not_configured(folder: Path) -> None:
    settings = load(folder, '[[nodes.node]]\nname = "a"')
    assert "nodes.reference" in settings.not_configured


def test_production_is_shown(folder: Path) -> None:
    env = Environment(load(folder, 'production = true\ndescription = "<b>x</b>"'))
    assert repr(env) == "Environment(mine, PRODUCTION)"
    assert "PRODUCTION" in env._repr_html_()
    assert "<b>" not in env._repr_html_()
    other = Environment(load(folder, ""))
    assert "PRODUCTION" not in repr(other) + other._repr_html_()
    assert "not production" in other._repr_html_()


def test_the_production_example_holds_the_runbooks_facts(folder: Path) -> None:
    settings = loading.load("production.example")
    assert settings.production
    assert settings.prometheus is not None
    assert settings.nodes is not None
    assert settings.database is not None
    assert settings.prometheus.url == "http://localhost:9091"
    assert settings.nodes.node[0].url == "http://localhost:8080"
    assert settings.nodes.facts.height.path == "/api/v1/blockchain/info"
    assert settings.nodes.facts.peers.path == "/api/v1/network/info"
    assert (settings.database.host, settings.database.port, settings.database.dbname) == (
        "xai-db.internal",
        5432,
        "xai_blockchain",
    )
    assert settings.database.sslmode == "verify-full"
    assert settings.contacts["on_call"] == "PagerDuty"
    text = (loading.SHIPPED / "production.example.toml").read_text()
    for fact in ("xai-node", "12030", "xai-db-proxy.internal", "deploy/terraform", "xai-db-instance", "sg-12345678"):
        assert fact in text


def test_the_alert_table_of_the_runbook(folder: Path) -> None:
    limits = load(folder, "").limits
    table = {
        "cpu_used": ("above 80 % for 5m", Severity.CRITICAL),
        "disk_free": ("below 10 % for 1m", Severity.CRITICAL),
        "memory_used": ("above 85 % for 5m", Severity.HIGH),
        "api_errors": ("above 1 % for 5m", Severity.HIGH),
        "database_connections": ("above 80 % for 5m", Severity.HIGH),
        "peer_count": ("below 3 peers for 5m", Severity.MEDIUM),
        "block_growth": ("below 1 block for 30m", Severity.HIGH),
        "sync_lag": ("above 10 blocks for 5m", Severity.MEDIUM),
    }
    actual = {name: (limits.by_name[name].describe(), limits.by_name[name].severity) for name in table}
    assert actual == table
    for name, limit in limits.by_name.items():
        assert limit.name == name
        assert limit.hint


def test_a_limit_has_one_name_over_all_sections() -> None:
    """Acknowledgements, rules and links know a finding by its name alone."""
    limits = loading.shipped().limits
    names = [name for _, section in limits for name, _ in section]
    assert sorted(names) == sorted(limits.by_name)
    assert not set(names) & set(Limits.model_fields)
    assert set(Signals.model_fields) <= set(names)


def test_the_limits_of_a_section_stand_in_its_file() -> None:
    found = {path.stem: tomllib.loads(path.read_text()) for path in loading.DEFAULTS.glob("*.toml")}
    assert list(found.pop("promql")) == ["windows", "metrics", "signals"]
    assert {name: list(tables) for name, tables in found.items()} == {name: ["limits"] for name in Limits.model_fields}
    for section, tables in found.items():
        assert list(tables["limits"]) == [section]


@pytest.mark.parametrize("table", ["limits", "limits.monitoring"])
def test_a_limit_in_the_wrong_section_names_the_right_one(folder: Path, table: str) -> None:
    error = error_of(folder, f"[{table}]\npool.threshold = 0.5")
    assert error.what == "unknown key"
    assert error.hint == "that limit is the table [limits.database.pool]"


def test_an_unknown_section_is_refused(folder: Path) -> None:
    error = error_of(folder, "[limits.databases.pool]\nthreshold = 0.5")
    assert "table [limits], key databases" in error.on
    assert "database" in error.hint


def test_placeholders_of_the_signals(folder: Path) -> None:
    settings = load(folder, '[metrics]\npeers = "my:peers"\n[windows]\nrate = "7m"')
    assert settings.promql("peer_count") == "my:peers"
    assert "[7m]" in settings.promql("cpu_used")
    for name in Signals.model_fields:
        assert "${" not in settings.promql(name)


def test_secrets_stay_references(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_PASSWORD", SECRET)
    settings = load(folder, '[database]\npassword = "env:MY_PASSWORD"\n[prometheus]\nauth_value = "file:/run/token"')
    assert settings.database is not None
    assert settings.database.password is not None
    assert settings.database.password.reveal() == SECRET
    everything = f"{settings!r} {settings.model_dump_json()} {settings.model_dump()}"
    assert SECRET not in everything
    assert json.loads(settings.model_dump_json())["database"]["password"] == "env:MY_PASSWORD"


def test_settings_cannot_be_changed(folder: Path) -> None:
    settings = load(folder, "")
    with pytest.raises(ValueError, match="frozen"):
        settings.production = True


@pytest.mark.parametrize(("text", "url"), [("http://h/", "http://h"), ("https://h:1/p/", "https://h:1/p")])
def test_an_address_has_no_last_slash(folder: Path, text: str, url: str) -> None:
    settings = load(folder, f'[prometheus]\nurl = "{text}"')
    assert settings.prometheus is not None
    assert settings.prometheus.url == url
