"""F18: two servers with databases of the same name share a folder, and neither uses the other's backups."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support import backed_up
from tests.support.backed_up import done, result_of, step_process, typed
from xai_runbook.environment import Environment
from xai_runbook.errors import InputError, NoData
from xai_runbook.model.findings import Status
from xai_runbook.operations.backups import base_backups, dumps, point_in_time, restores, retention, wal_archive
from xai_runbook.pgbackup import catalog, private_cluster
from xai_runbook.pgbackup.pg_tools import run
from xai_runbook.sandbox.components import programs
from xai_runbook.sandbox.supervisor.component import free_ports
from xai_runbook.settings import loading
from xai_runbook.sql import role_scripts

SUPERUSER = "dba"
pytestmark = pytest.mark.skipif(programs.find("postgres") is None, reason="no PostgreSQL to be found")


@contextmanager
def server(folder: Path, rows: int) -> Iterator[int]:
    """Run a server with a database mv2 and yield its port."""
    found = programs.find("postgres")
    assert found is not None
    port = free_ports(["postgres"])["postgres"]
    options = ["-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-D", folder]
    run([*private_cluster.unprivileged(), found.parent / "initdb", *options], log=folder.with_suffix(".log"))
    private_cluster.configure(folder, {"listen_addresses": "127.0.0.1", "port": str(port)})
    with open(folder / "pg_hba.conf", "a") as access:
        access.write("host all all 127.0.0.1/32 trust\nhost replication all 127.0.0.1/32 trust\n")
    with private_cluster.started(found.parent, folder, log=folder.with_suffix(".log")) as host:
        with psycopg.connect(host=host, port=port, user=SUPERUSER, dbname="postgres", autocommit=True) as session:
            session.execute("CREATE ROLE xai_owner")
            session.execute("CREATE DATABASE mv2")
        with superuser(port) as session:
            for script in role_scripts():
                session.execute(script)
            session.execute("ALTER ROLE xai_operator SUPERUSER")
            session.execute("CREATE TABLE t AS SELECT n FROM generate_series(1, %s) n", [rows])
        yield port


@contextmanager
def superuser(port: int, database: str = "mv2") -> Iterator[psycopg.Connection[Any]]:
    where = {"host": "127.0.0.1", "port": port, "user": SUPERUSER, "dbname": database}
    with psycopg.connect(**where, autocommit=True) as session:  # type: ignore[arg-type]
        yield session


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    folder = tmp_path_factory.mktemp("servers")
    with ExitStack() as stack:
        yield {name: stack.enter_context(server(folder / name, rows)) for name, rows in (("a", 10), ("b", 20))}


@contextmanager
def environment(port: int, folder: Path, **more: Any) -> Iterator[Environment]:
    settings = loading.load("sandbox").model_dump()
    found = programs.find("postgres")
    assert found is not None
    tables = {
        "database": {
            "host": "127.0.0.1", "port": port, "dbname": "mv2", "user": "xai_monitor", "sslmode": "disable",
            "operator": {"user": "xai_operator"},
        } | more,
        "backups": {
            "folder": str(folder / "backups"), "archive": str(folder / "archive"), "programs": str(found.parent),
            "keep_count": 1, "keep_age": "1s",
        },
        "changes": {"headless": backed_up.HEADLESS},
        "outputs": settings["outputs"] | {"journal": str(folder / f"journal-{port}")},
    }  # fmt: skip
    env = Environment(type(loading.load("sandbox")).model_validate({**settings, **tables}))
    yield env
    env.database.close()


@pytest.fixture
def pair(ports: dict[str, int], tmp_path: Path) -> Iterator[tuple[Environment, Environment]]:
    """Two environments whose settings name no server."""
    with environment(ports["a"], tmp_path) as a, environment(ports["b"], tmp_path) as b:
        yield a, b


def dumped(env: Environment) -> str:
    plan = dumps.dump(env.database, env.backups)
    assert done(env, plan).status == "done"
    return env.backups.newest("dump")


def test_f18_a_server_prunes_only_its_own_backups(
    pair: tuple[Environment, Environment], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = pair
    first, second, third = dumped(a), dumped(b), dumped(b)
    assert retention.prunable(a.backups).empty
    assert list(retention.prunable(b.backups)["name"]) == [second]
    # an unverified backup of the other server is not removed either
    (a.backups.folder / first / catalog.VERIFICATION).unlink()
    assert list(retention.prunable(b.backups)["name"]) == [second]
    with pytest.raises(InputError, match=f"{first}: it is of server .* not of "):
        retention.prune(b.backups, names=[first])
    assert typed(b, retention.prune(b.backups), monkeypatch).status == "done"
    assert [backup.name for backup in b.backups.stored()] == [first, third]


def test_f18_only_backups_of_this_server_are_checked(pair: tuple[Environment, Environment]) -> None:
    a, b = pair
    name = dumped(b)
    stored = dumps.stored(a.backups)
    age = dumps.check_age(stored, a.limits.backups.backup_age)
    assert age.status is Status.ALERT and age.severity == "critical"
    assert "no verified backup of this server" in age.summary and f"{name}" in age.summary
    assert dumps.check_restore(stored, a.limits.backups.restore_time).status is Status.UNKNOWN
    (a.backups.folder / name / "database.dump").write_bytes(b"")
    assert dumps.check_intact(dumps.stored(a.backups), a.limits.backups.backups_intact).status is Status.OK
    assert dumps.check_intact(dumps.stored(b.backups), b.limits.backups.backups_intact).status is Status.ALERT
    with pytest.raises(NoData, match="no usable backup"):
        a.backups.newest("dump")
    assert done(b, base_backups.base_backup(b.database, b.backups)).status == "done"
    (b.backups.folder.parent / "archive").mkdir()
    assert len(wal_archive.recoverable(b.backups)) == 1 and wal_archive.recoverable(a.backups).empty


def test_f18_the_settings_may_name_the_server_too(
    pair: tuple[Environment, Environment], ports: dict[str, int], tmp_path: Path
) -> None:
    a, b = pair
    name = dumped(b)
    identifier = b.database.identity()["system_identifier"]
    assert identifier != a.database.identity()["system_identifier"]
    with environment(ports["b"], tmp_path, system_identifier=identifier) as named:
        assert list(dumps.stored(named.backups)["usable"]) == [True]
    manifest = b.backups.named(name).manifest
    assert manifest["system_identifier"] == identifier and manifest["database_oid"]


def test_f18_a_backup_of_another_server_needs_its_name_and_a_new_database(
    pair: tuple[Environment, Environment], ports: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = pair
    name = dumped(b)
    other = str(dumps.stored(a.backups)["server"].iloc[0])
    with superuser(ports["a"]) as session:
        session.execute("CREATE EXTENSION pg_trgm")
    assert f"it is of server {other}" in restores.overwrite(a.database, a.backups, name=name).refused
    assert f"it is of server {other}" in restores.restore(a.database, a.backups, name=name).refused
    assert "is of server" in restores.restore(a.database, a.backups, name=name, from_server="71").refused
    assert "leave --from-server out" in restores.restore(b.database, b.backups, name=name, from_server=other).refused
    plan = restores.restore(a.database, a.backups, name=name, into="seen", from_server=other)
    assert f"a backup of another server, {other}" in plan.note
    assert typed(a, plan, monkeypatch).status == "done"
    restored = restores.database_named(a.database, name="seen").iloc[0]
    assert (restored["restored_from"], restored["from_server"], restored["without"]) == (name, other, "")
    with superuser(ports["a"], "seen") as session:
        assert session.execute("SELECT count(*) FROM t").fetchone() == (20,)
    with superuser(ports["a"]) as session:
        session.execute("DROP DATABASE seen")


def test_f18_the_program_compares_the_servers_itself(
    pair: tuple[Environment, Environment], ports: dict[str, int]
) -> None:
    """Such as when the address belongs to another server since the plan was made."""
    a, b = pair
    dumped(b)
    plan = restores.restore(b.database, b.backups, into="seen")
    with step_process(a, plan) as process:
        code, output = result_of(process)
    assert code == 1 and "the backup is of server" in output
    with superuser(ports["a"]) as session:
        assert session.execute("SELECT count(*) FROM pg_database WHERE datname ~ 'seen'").fetchone() == (0,)


def test_f18_a_server_that_does_not_answer_is_not_taken_for_another(ports: dict[str, int], tmp_path: Path) -> None:
    with environment(ports["a"], tmp_path) as a:
        name = dumped(a)
    with environment(free_ports(["nobody"])["nobody"], tmp_path) as down:
        stored = dumps.stored(down.backups)
        assert list(stored["name"]) == [name] and not stored["usable"].any()
        age = dumps.check_age(stored, down.limits.backups.backup_age)
        assert age.status is Status.UNKNOWN and "our server did not answer" in age.summary
        assert retention.prunable(down.backups).empty


def test_f18_a_backup_of_unknown_origin_is_recoverable_while_the_server_is_down(
    pair: tuple[Environment, Environment], tmp_path: Path
) -> None:
    """A recovery overwrites nothing, so only backups known to be of another server are left out."""
    a, b = pair
    assert done(b, base_backups.base_backup(b.database, b.backups)).status == "done"
    (tmp_path / "archive").mkdir()
    (backup,) = b.backups.stored()
    lsn = backup.manifest["stop_lsn"]
    plan = point_in_time.recover_to(b.backups, lsn=lsn)
    assert plan.steps and "another server" not in plan.note
    with environment(free_ports(["nobody"])["nobody"], tmp_path) as down:
        (row,) = wal_archive.recoverable(down.backups).to_dict("records")
        assert "our server did not answer" in row["doubt"]
        plan = point_in_time.recover_to(down.backups, lsn=lsn)
        assert plan.steps and f"{backup.name} may be of another server" in plan.note
        assert "our server did not answer" in plan.note
    plan = point_in_time.recover_to(a.backups, lsn=lsn)
    assert not plan.steps and f"({backup.name}: it is of server " in plan.refused


def test_f18_a_backup_of_another_server_is_removed_by_hand(pair: tuple[Environment, Environment]) -> None:
    """The hint for a damaged backup of another server is not prune, which refuses it."""
    a, b = pair
    name = dumped(b)
    (b.backups.folder / name / "database.dump").write_bytes(b"")
    assert f"rm -r {b.backups.folder / name}" in dumps.backup_state(a.backups, name=name)["description"].iloc[0]
    assert f"backups.prune --names {name}" in dumps.backup_state(b.backups, name=name)["description"].iloc[0]


def test_f18_a_backup_that_names_no_server_is_neither_pruned_nor_restored_without_consent(
    pair: tuple[Environment, Environment], monkeypatch: pytest.MonkeyPatch
) -> None:
    import json

    a, _ = pair
    first, second = dumped(a), dumped(a)
    path = a.backups.folder / first
    manifest = json.loads((path / catalog.MANIFEST).read_bytes())
    verification = json.loads((path / catalog.VERIFICATION).read_bytes())
    del manifest["system_identifier"], verification["manifest_sha256"]
    (path / catalog.MANIFEST).write_text(json.dumps(manifest))
    catalog.record(path, verification)
    row = dumps.stored(a.backups).set_index("name").loc[first]
    assert row["state"] == "verified" and not row["usable"] and "the manifest names none" in row["why"]
    assert retention.prunable(a.backups).empty
    with pytest.raises(InputError, match="the manifest names none"):
        retention.prune(a.backups, names=[first])
    assert "the manifest names none" in restores.overwrite(a.database, a.backups, name=first).refused
    plan = restores.restore(a.database, a.backups, name=first, into="seen", from_server="unknown")
    assert typed(a, plan, monkeypatch).status == "done"
    assert a.backups.newest("dump") == second


def test_f18_servers_with_a_hidden_identifier_are_distinguished_by_address(
    pair: tuple[Environment, Environment], ports: dict[str, int]
) -> None:
    a, b = pair
    with hidden_identifier(ports["a"]), hidden_identifier(ports["b"]):
        assert a.database.identity()["system_identifier"] == "not readable"
        name = dumped(a)
        assert list(dumps.stored(a.backups)["server"]) == [f"127.0.0.1:{ports['a']}"]
        assert list(dumps.stored(b.backups)["usable"]) == [False] and retention.prunable(b.backups).empty
        assert f"127.0.0.1:{ports['a']}" in restores.overwrite(b.database, b.backups, name=name).refused
    # once the identifier is readable, a backup without it may be of any server
    stored = dumps.stored(a.backups)
    assert not stored["usable"].any() and stored["own"].isna().all()
    assert dumps.check_age(stored, a.limits.backups.backup_age).status is Status.UNKNOWN


@contextmanager
def hidden_identifier(port: int) -> Iterator[None]:
    """Hide the server's identifier from both roles, as hosted servers do."""
    with superuser(port) as session:
        session.execute("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC, pg_monitor")
        session.execute("ALTER ROLE xai_operator NOSUPERUSER")
        session.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO xai_operator")
        try:
            yield
        finally:
            session.execute("GRANT EXECUTE ON FUNCTION pg_control_system() TO PUBLIC")
            session.execute("ALTER ROLE xai_operator SUPERUSER")
