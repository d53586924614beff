"""What names lead to may change: databases are replaced, put back and looked for by their oids (S4, S7)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.operations import backed_up
from tests.operations.backed_up import doer, done, said, typed
from tests.operations.postgres_server import Server, running
from xai_runbook.environment import Environment
from xai_runbook.errors import Refused
from xai_runbook.execution.reconcile import reconcile, undo
from xai_runbook.operations import backups, database, maintenance, restores
from xai_runbook.plans import Plan
from xai_runbook.sandbox import programs

pytestmark = pytest.mark.skipif(programs.find("postgres") is None, reason="no PostgreSQL to be found")
LIVE, BACKUP = "xai_blockchain", "xai_blockchain-000002"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("replacing")) as found:
        backed_up.smaller(found)
        yield found


@pytest.fixture(scope="module")
def backed(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    found = backed_up.environment(server, tmp_path_factory.mktemp("journal") / "journal")
    assert done(found, backups.dump(found.database, found.backups)).status == "done"
    yield found
    found.database.close()


def oids(server: Server) -> dict[str, int]:
    with server.superuser() as session:
        return dict(session.execute("SELECT datname, oid::bigint FROM pg_database WHERE NOT datistemplate").fetchall())


def put(server: Server, *statements: str) -> None:
    """Does something to databases, from another one, once nobody is in them."""
    from xai_runbook.sandbox import template

    with template.connect(server.data, server.port, "postgres") as session:
        session.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname <> 'postgres'")
        for statement in statements:
            session.execute(statement.encode())


@pytest.fixture(autouse=True)
def only_the_live_one(server: Server, backed: Environment) -> Iterator[None]:
    """The database that was live before is so afterwards, and no other one stays."""
    was = oids(server)[LIVE]
    yield
    backed.database.close()
    now = oids(server)
    if now.get(LIVE) != was:
        old = next(name for name, oid in now.items() if oid == was)
        put(server, *([f'ALTER DATABASE "{LIVE}" RENAME TO away'] if LIVE in now else []),
            f'ALTER DATABASE "{old}" RENAME TO "{LIVE}"')  # fmt: skip
    put(server, *(f'DROP DATABASE "{name}"' for name in oids(server) if name not in ("postgres", LIVE)))


def another(server: Server, name: str) -> None:
    put(server, f'CREATE DATABASE "{name}" OWNER xai_owner')


# --- S4: renamed between the plan and the act ---------------------------------------------------------------------


@pytest.mark.parametrize("renamed", ["proof", LIVE])
def test_s4_a_swap_of_another_database_under_the_name(server: Server, backed: Environment, renamed: str) -> None:
    """The act itself: whatever was looked at before it, it renames these two databases or none."""
    another(server, "proof")
    plan = restores.swap(backed.database, restored="proof")
    backed.database.close()
    put(server, f'ALTER DATABASE "{renamed}" RENAME TO moved')
    another(server, renamed)
    before = oids(server)
    with doer(backed, plan) as process:
        code, told = said(process)
    assert code == 1 and "as planned" in told, told
    assert oids(server) == before


def test_s4_and_apply_refuses_it_before(server: Server, backed: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    another(server, "proof")
    swap = restores.swap(backed.database, restored="proof")
    put(server, "ALTER DATABASE proof RENAME TO moved")
    another(server, "proof")
    with pytest.raises(Refused, match="the world has moved"):
        typed(backed, swap, monkeypatch)


def test_s4_no_change_acts_in_another_database_of_the_name(
    server: Server, backed: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server.session():
        (pid,) = (row["pid"] for _, row in database.sessions(backed.database).iterrows() if row["role"] == "xai_app")
        plans: list[Plan] = [
            database.terminate(backed.database, pids=[int(pid)]),
            maintenance.vacuum(backed.database, tables=["public.wallets"]),
            maintenance.reindex(backed.database, table="public.wallets", room_seen=True),
            backups.dump(backed.database, backed.backups),
            restores.overwrite(backed.database, backed.backups, name=BACKUP),
        ]
    backed.database.close()
    put(server, f"ALTER DATABASE {LIVE} RENAME TO moved", f"CREATE DATABASE {LIVE} TEMPLATE moved OWNER xai_owner")
    for plan in plans:
        assert plan.steps
        with pytest.raises(Refused, match="another database answers: database_oid was"):
            typed(backed, plan, monkeypatch)


def test_s4_what_was_restored_is_what_takes_the_place(
    server: Server, backed: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another database under the name between the two steps of an overwrite: even one from the same backup."""
    plan = restores.overwrite(backed.database, backed.backups, name=BACKUP)
    was = oids(server)[LIVE]

    def rename(words: str) -> None:
        if words == "step 2 of 2":
            put(server, "ALTER DATABASE xai_blockchain_restored_1 RENAME TO moved",
                "CREATE DATABASE xai_blockchain_restored_1 OWNER xai_owner",
                f"COMMENT ON DATABASE xai_blockchain_restored_1 IS 'restored from {BACKUP}'")  # fmt: skip

    outcome = typed(backed, plan, monkeypatch, rename)
    assert outcome.status == "unknown" and "as planned" in outcome.summary, outcome
    assert oids(server)[LIVE] == was
    reconcile(backed, outcome.entry, told="failed", why="looked")


def test_s4_the_way_back_leads_to_the_same_database_or_nowhere(
    server: Server, backed: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    another(server, "proof")
    was = oids(server)
    outcome = typed(backed, restores.swap(backed.database, restored="proof"), monkeypatch)
    assert outcome.status == "done", outcome
    put(server, "ALTER DATABASE xai_blockchain_before_1 RENAME TO moved")
    another(server, "xai_blockchain_before_1")
    back = undo(backed, outcome.entry)
    assert not back.steps and "is another database now" in back.refused
    put(server, "DROP DATABASE xai_blockchain_before_1", "ALTER DATABASE moved RENAME TO xai_blockchain_before_1")
    assert typed(backed, undo(backed, outcome.entry), monkeypatch).status == "done"
    assert oids(server) == was


def test_s4_the_way_back_of_an_overwrite(server: Server, backed: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    was = oids(server)[LIVE]
    outcome = typed(backed, restores.overwrite(backed.database, backed.backups, name=BACKUP), monkeypatch)
    assert outcome.status == "done" and outcome.observed[0]["oid"] == str(oids(server)[LIVE]) != str(was)
    back = undo(backed, outcome.entry)
    assert str(was) in back.steps[0].argv  # type: ignore[union-attr]
    assert typed(backed, back, monkeypatch).status == "done"
    assert oids(server)[LIVE] == was
