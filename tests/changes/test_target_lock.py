"""The parts that plans touch: one name for each part, and which plans exclude each other (S3)."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import psycopg
import pytest

from tests.support import backed_up
from tests.support.backed_up import done, typed
from tests.support.changing import with_journal
from tests.support.postgres_server import Server, running
from tests.support.written_plans import written
from xai_runbook import apply
from xai_runbook.changes.journal import Journal
from xai_runbook.changes.journals import journal_of
from xai_runbook.changes.preflight import Case, refuse_unknown_outcome
from xai_runbook.changes.reconcile import reconcile
from xai_runbook.changes.registry import make_plan
from xai_runbook.changes.target_lock import Lock, lock_in_server
from xai_runbook.environment import Environment
from xai_runbook.errors import JournalError, Refused
from xai_runbook.model.parts import UNKNOWN_IDENTIFIER, Mode, overlap, server_name, touched_parts
from xai_runbook.operations.backups import base_backups, dumps, restores
from xai_runbook.operations.database import configuration, maintenance, statements
from xai_runbook.pgbackup.fingerprint import fetch_rows
from xai_runbook.sandbox.components import postgres_template, programs

IDENTITY = {
    "database.system_identifier": "7", "database.server_address": "10.1.2.3", "database.server_port": "5432",
    "database.database": "live", "database.database_oid": "16384", "backups.folder": "/b", "backups.machine": "m",
}  # fmt: skip
DATABASE = {key: value for key, value in IDENTITY.items() if key.startswith("database.")}
needs_postgres = pytest.mark.skipif(programs.find("postgres") is None, reason="no PostgreSQL to be found")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if programs.find("postgres") is None:
        pytest.skip("no PostgreSQL to be found")
    with running(tmp_path_factory.mktemp("parts"), max_connections="") as found:
        backed_up.smaller(found)
        yield found


@pytest.fixture(scope="module")
def backed(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    found = backed_up.environment(server, tmp_path_factory.mktemp("journal") / "journal")
    assert done(found, dumps.dump(found.database, found.backups)).status == "done"
    yield found
    found.database.close()


def test_s3_what_overlaps_and_what_does_not() -> None:
    vacuum = touched_parts(DATABASE, {})
    restore = touched_parts(IDENTITY, {"database": "exclusive"})
    dump = touched_parts(IDENTITY, {"database": "read"})
    slots = touched_parts(IDENTITY, {"server": "exclusive", "database": "read"})
    elsewhere = touched_parts(
        IDENTITY | {"database.database": "other", "database.database_oid": "99", "backups.folder": "/c"},
        {"database": "exclusive"},
    )
    another = touched_parts(IDENTITY | {"database.system_identifier": "8"}, {"backups": "read"})
    beside = touched_parts(IDENTITY | {"database.server_port": "5433"}, {"backups": "read"})
    swap = touched_parts(IDENTITY, {"database": "exclusive", "database 99": "exclusive"})
    assert vacuum == {"database 7:5432/16384": "change", "database 7:5432/name live": "change", "server 7:5432": "read"}
    for one, other in (
        (vacuum, vacuum), (vacuum, restore), (restore, restore), (restore, dump), (dump, dump), (slots, vacuum),
        (slots, dump), (slots, restore), (slots, slots), (slots, elsewhere), (swap, elsewhere), (swap, vacuum),
    ):  # fmt: skip
        assert overlap(one, other) and overlap(other, one)
    for one, other in (
        (vacuum, dump), (vacuum, elsewhere), (restore, elsewhere), (another, vacuum), (another, slots),
        (beside, vacuum), (beside, slots),
    ):  # fmt: skip
        assert not overlap(one, other) and not overlap(other, one)
    by_name, by_address = {"prometheus.url": "http://LOCALHOST:80/"}, {"prometheus.url": "http://[::1]"}
    assert touched_parts(by_name, {}) == touched_parts(by_address, {})
    file = touched_parts({}, {f"file {__file__}": "change"})
    assert file == touched_parts({}, {f"file {os.path.relpath(__file__)}": "change"})


MODES: tuple[Mode, ...] = ("read", "change", "exclusive")


@pytest.mark.parametrize("one", MODES)
@pytest.mark.parametrize("other", MODES)
def test_s3_files_and_the_server_lock_what_overlaps(
    one: Mode, other: Mode, env: Environment, journal: Journal, server: Server
) -> None:
    """Each pair of modes, by files and, from two databases of one server, by its advisory locks."""
    first = touched_parts(IDENTITY, {"database": one})
    second = touched_parts(IDENTITY, {"database": other, "backups": "read"})
    first = {name: mode for name, mode in first.items() if "backups" not in name}
    free = not overlap(first, second)

    def tried(take: Callable[[], object]) -> bool:
        with suppress(Refused):
            take()
            return True
        return False

    def files() -> None:
        with Lock(journal.folder, second):
            pass

    with Lock(journal.folder, first) as lock:
        lock.report("step 1 of 1")
        assert tried(files) is free
        if not free:
            with pytest.raises(Refused, match=r"is locked by .* step 1 of 1.*database 7:5432/16384"):
                files()
    assert tried(files), "it lets go"

    for database in ("postgres", "xai_blockchain"):
        with (
            postgres_template.connect(server.data, server.port, "xai_blockchain") as holder,
            postgres_template.connect(server.data, server.port, database) as comer,
        ):
            lock_in_server(Asking(holder), first, server_name(IDENTITY))  # type: ignore[arg-type]
            taken = tried(lambda c=comer: lock_in_server(Asking(c), second, server_name(IDENTITY)))  # type: ignore[misc, arg-type]
            assert taken is free


class Asking:
    """Asks as an Operator does, by a session of the test's choice."""

    def __init__(self, session: psycopg.Connection[Any]) -> None:
        self.session = session

    def rows(self, name: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
        return fetch_rows(self.session, name, parameters)


def test_s3_one_database_has_one_name_whatever_the_address(backed: Environment, server: Server) -> None:
    """By name and number of the loopback address, and by the socket."""
    settings = backed.settings.database
    assert settings is not None
    names = set()
    plan = maintenance.vacuum(backed.database, tables=["public.wallets"])
    names.add(tuple(plan.parts))
    for host in ("localhost", "127.0.0.1", "/"):
        where = settings.model_copy(update={"host": host})
        if host == "/":
            with postgres_template.connect(server.data, server.port, settings.dbname) as session:
                row = session.execute(
                    "SELECT system_identifier::text, current_setting('port'), d.oid::text"
                    " FROM pg_control_system(), pg_database d WHERE datname = current_database()"
                ).fetchone()
            assert row is not None
            identity = dict(zip(("system_identifier", "server_port", "database_oid"), row, strict=True))
            identity |= {"server_address": "socket", "database": settings.dbname}
        else:
            handle = type(backed.database)(where, environment="sandbox")
            identity = handle.identity()
            handle.close()
        names.add(tuple(touched_parts({f"database.{key}": value for key, value in identity.items()}, {})))
    assert len(names) == 1, names


def test_s3_each_change_of_one_database_touches_the_same_part(backed: Environment) -> None:
    plans = [
        maintenance.vacuum(backed.database, tables=["public.wallets"]),
        maintenance.reindex(backed.database, table="public.wallets", disk_space_checked=True),
        statements.analyze(backed.database, statement="SELECT 1"),
        restores.restore(backed.database, backed.backups),
        restores.overwrite(backed.database, backed.backups, name="xai_blockchain-000002"),
    ]
    slots = configuration.set_max_connections(backed.database, value=77)
    for plan in plans:
        assert plan.steps, plan
        for other in (*plans, slots):
            assert overlap(plan.parts, other.parts), (plan.verb, other.verb)
    dump = dumps.dump(backed.database, backed.backups)
    assert [bool(overlap(dump.parts, plan.parts)) for plan in plans] == [False, False, False, True, True]
    copy = base_backups.base_backup(backed.database, backed.backups)
    assert overlap(copy.parts, slots.parts) and not overlap(copy.parts, plans[0].parts)


ADDRESSES = ("10.1.2.3", "fd00::7", "172.17.0.2", "127.0.0.1", "::1", "socket")
"""One server as it says where it is: directly, by IPv6, inside Docker, behind a bastion, by its socket."""


@pytest.mark.parametrize("address", ADDRESSES)
def test_s3_an_unknown_restore_blocks_a_vacuum_by_another_address(
    address: str, nowhere: Environment, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From another machine too: the names contain neither the machine's identifier nor the address."""
    monkeypatch.setattr("xai_runbook.model.parts.machine", lambda: "a laptop")
    restore = touched_parts(IDENTITY | {"database.server_address": address}, {"database": "exclusive"})
    journal.append("intent", digest="another", target="", plan=written(parts=restore).to_json())
    monkeypatch.setattr("xai_runbook.model.parts.machine", lambda: "another laptop")
    for other in ADDRESSES:
        vacuum = touched_parts(DATABASE | {"database.server_address": other}, {})
        with pytest.raises(Refused, match="is unknown"):
            refuse_unknown_outcome(Case(written(parts=vacuum), "", "", nowhere, journal, ""))
        with Lock(journal.folder, restore), pytest.raises(Refused, match="is locked by"), Lock(journal.folder, vacuum):
            raise AssertionError


def test_s3_a_server_that_does_not_show_its_identifier_is_named_by_its_address() -> None:
    """All loopback addresses count as one, since nothing distinguishes servers behind them."""
    unknown = DATABASE | {"database.system_identifier": UNKNOWN_IDENTIFIER}
    names = [tuple(touched_parts(unknown | {"database.server_address": address}, {})) for address in ADDRESSES]
    assert len(set(names[:3])) == 3 and len(set(names[3:])) == 1 and names[3] not in names[:3]


def test_s3_two_databases_that_had_one_name_overlap() -> None:
    """After a swap the name leads to another oid, which no part of the earlier plan names."""
    before, after = (
        touched_parts(DATABASE, {"database": "exclusive"}),
        touched_parts(DATABASE | {"database.database_oid": "99"}, {}),
    )
    assert overlap(before, after) == overlap(after, before) == ["database 7:5432/name live"]
    renamed = touched_parts(DATABASE | {"database.database": "live_before_1"}, {})
    assert overlap(before, renamed) == ["database 7:5432/16384"]
    another = touched_parts(DATABASE | {"database.database": "16384", "database.database_oid": "99"}, {})
    assert not overlap(before, another), "a name is not taken for an oid"
    dump = touched_parts(DATABASE | {"database.database_oid": "99"}, {"database": "read"})
    assert overlap(before, dump) and not overlap(after, dump)


class Applying:
    """An apply of its own process, as of a person at a terminal, to be killed; a fork, which starts at once."""

    def __init__(self, env: Environment, change: str, **arguments: str) -> None:
        env.database.close()  # a fork must not inherit a connection
        read, write = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            try:
                sys.stdin = os.fdopen(os.openpty()[1])
                plan = make_plan(env, change, arguments)
                outcome = apply(plan, env, confirm=plan.confirmation, progress=lambda message: print_to(write, message))
                print_to(write, str(outcome))
            finally:
                os._exit(0)
        os.close(write)
        self.output = os.fdopen(read)

    def until(self, text: str) -> None:
        for line in self.output:
            if text in line:
                return
        raise AssertionError(f"it ended without {text!r}")

    def killed(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.ended()

    def ended(self) -> str:
        with self.output:
            rest = self.output.read()
        os.waitpid(self.pid, 0)
        return rest


def print_to(pipe: int, line: str) -> None:
    os.write(pipe, f"{line}\n".encode())


@needs_postgres
def test_s3_an_unknown_restore_blocks_a_vacuum_of_that_database(
    backed: Environment, monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    process = Applying(backed, "backups.restore", into="proof")
    process.until("restoring into")
    with pytest.raises(Refused, match="is locked by"):
        typed(backed, maintenance.vacuum(backed.database, tables=["public.wallets"]), monkeypatch)
    process.killed()
    time.sleep(0.5)
    with pytest.raises(Refused, match="the outcome of an earlier change is unknown") as refused:
        typed(backed, maintenance.vacuum(backed.database, tables=["public.wallets"]), monkeypatch)
    assert str(refused.value.on).startswith("database ")
    entry = journal_of(backed).entries()[-1]
    assert reconcile(backed, entry.number).status == "failed"
    plan = maintenance.vacuum(backed.database, tables=["public.wallets"])
    assert typed(backed, plan, monkeypatch).status == "done"
    with server.superuser() as session:
        session.execute("DROP DATABASE IF EXISTS xai_restoring_proof WITH (FORCE)")


@needs_postgres
def test_s3_a_swap_while_it_is_overwritten_is_refused(
    backed: Environment, monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    with server.superuser() as session:
        session.execute("CREATE DATABASE other OWNER xai_owner")
    process = Applying(backed, "backups.overwrite", name="xai_blockchain-000002")
    try:
        process.until("restoring into")
        with pytest.raises(Refused, match=r"is locked by .* step 1 of 2"):
            typed(backed, restores.swap(backed.database, restored="other"), monkeypatch)
        another = with_journal(backed, Journal(journal_of(backed).folder.parent / "another"))
        with pytest.raises(Refused, match="seen in the database itself"):
            typed(another, maintenance.vacuum(another.database, tables=["public.wallets"]), monkeypatch)
        another.database.close()
    finally:
        assert "DONE" in process.ended()
    with server.superuser() as session:
        (name,) = session.execute("SELECT datname FROM pg_database WHERE datname LIKE '%before%'").fetchone() or ("",)
        session.execute(f"DROP DATABASE {name}".encode())
        session.execute("DROP DATABASE other")


@needs_postgres
def test_s3_an_unknown_overwrite_blocks_a_vacuum_of_what_has_the_name_now(
    backed: Environment, monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    """The databases were renamed, and the outcome could not be written: the name now leads to an oid in no plan."""
    overwrite = restores.overwrite(backed.database, backed.backups, name="xai_blockchain-000002")
    append = Journal.append

    def disk_full(self: Journal, kind: str, **payload: Any) -> int:
        if kind == "outcome":
            raise JournalError("cannot be written: No space left on device", on=str(self.folder))
        return append(self, kind, **payload)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", disk_full)
        with pytest.raises(JournalError, match="the plan was carried out, but"):
            typed(backed, overwrite, monkeypatch)
    vacuum = maintenance.vacuum(backed.database, tables=["public.wallets"])
    assert vacuum.identity["database.database_oid"] != overwrite.identity["database.database_oid"]
    with pytest.raises(Refused, match="the outcome of an earlier change is unknown") as refused:
        typed(backed, vacuum, monkeypatch)
    assert str(refused.value.on).endswith("/name xai_blockchain")
    entry = journal_of(backed).entries()[-1]
    assert reconcile(backed, entry.number).status == "done"
    vacuum = maintenance.vacuum(backed.database, tables=["public.wallets"])
    assert typed(backed, vacuum, monkeypatch).status == "done"
    with server.superuser() as session:
        (name,) = session.execute("SELECT datname FROM pg_database WHERE datname LIKE '%before%'").fetchone() or ("",)
        session.execute(f"DROP DATABASE {name}".encode())


def earlier(parts: dict[str, str] | None) -> dict[str, Any]:
    """A plan as an earlier version wrote it: without parts, or with another name of its server."""
    found = written(identity=DATABASE).to_json() | {"parts": parts}
    return {key: value for key, value in found.items() if value is not None}


@pytest.mark.parametrize("parts", [None, {"database 7@m:5432/16384": "exclusive", "server 7@m:5432": "read"}])
def test_s3_an_unknown_outcome_of_an_older_version_blocks_all(
    parts: dict[str, str] | None, nowhere: Environment, journal: Journal
) -> None:
    plan = earlier(parts)
    journal.append("intent", digest="another", target="database.database=x", plan=plan)
    with pytest.raises(Refused, match="is unknown"):
        refuse_unknown_outcome(Case(written(), "", "", nowhere, journal, ""))
