"""X3: an interrupted backup says what remains of it; "nothing was done" only if that is true."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.support import backed_up
from tests.support.backed_up import done, typed
from tests.support.postgres_server import Server, running
from tests.support.postgres_tools import replaced_tools
from xai_runbook.changes.journals import journal_of
from xai_runbook.changes.reconcile import reconcile
from xai_runbook.environment import Environment
from xai_runbook.operations.backups import base_backups, dumps
from xai_runbook.pgbackup import catalog
from xai_runbook.sandbox.components import programs

pytestmark = pytest.mark.skipif(programs.find("postgres") is None, reason="no PostgreSQL to be found")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("interrupted")) as found:
        backed_up.smaller(found)
        yield found


@pytest.fixture
def env(server: Server, tmp_path: Path) -> Iterator[Environment]:
    found = backed_up.environment(server, tmp_path / "journal", folder=str(tmp_path / "backups"))
    yield found
    found.database.close()


def backup_pid() -> int:
    """Return the pid of the backup program that this process has started."""
    (found,) = [child.pid for child in psutil.Process().children() if "xai_runbook.pgbackup" in child.cmdline()]
    return found


def ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


def terminate() -> None:
    os.kill(backup_pid(), signal.SIGTERM)


def kill() -> None:
    os.kill(backup_pid(), signal.SIGKILL)


def once(text: str, act: Callable[[], None]) -> Callable[[str], None]:
    """Return a progress callback that acts on the first line with this text."""
    acted: list[str] = []

    def listen(line: str) -> None:
        if text in line and not acted:
            acted.append(line)
            act()

    return listen


def names(env: Environment) -> list[str]:
    return sorted(path.name for path in env.backups.folder.iterdir() if path.is_dir())


@contextmanager
def held_verification(env: Environment, folder: Path) -> Iterator[Environment]:
    """Yield the environment with a pg_verifybackup that waits until the end of the block."""
    real, hold = env.backups.programs(major(env)), folder / "hold"
    waiting = f'[ -e "{hold}" ] && exec sleep 600\nexec "{real}/pg_verifybackup" "$@"'
    tools = replaced_tools(real, folder / "tools", pg_verifybackup=waiting)
    hold.touch()
    settings = env.settings.model_dump()
    settings["backups"] |= {"programs": str(tools)}
    found = Environment(type(env.settings).model_validate(settings))
    try:
        yield found
    finally:
        hold.unlink()
        found.database.close()


def major(env: Environment) -> int:
    return int(env.database.rows("identity")[0]["version"].split(".")[0])


@pytest.mark.parametrize(
    ("change", "act"), [("dump", ctrl_c), ("dump", terminate), ("dump", kill), ("base_backup", ctrl_c)]
)
def test_x3_interrupted_during_verification_the_backup_is_unverified(
    change: str,
    act: Callable[[], None],
    server: Server,
    env: Environment,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # verification waits, however late its progress is seen
    if change == "dump":
        with server.superuser() as session, session.transaction():
            session.execute("LOCK TABLE pg_database IN SHARE MODE")
            outcome = typed(env, dumps.dump(env.database, env.backups), monkeypatch, once("reading roles", act))
    else:
        with held_verification(env, tmp_path) as held:
            plan = base_backups.base_backup(held.database, held.backups)
            outcome = typed(held, plan, monkeypatch, once("reading data/backup_manifest", act))
    (name,) = [name for name in names(env) if not name.startswith(".")]
    assert outcome.status == ("unknown" if act is kill else "failed"), outcome
    assert outcome.interrupted is (act is ctrl_c)
    assert "nothing was done" not in str(outcome)
    assert f"{name} exists, unverified" in outcome.summary
    assert act is kill or "ended by SIGTERM" in outcome.summary, "the program's own last line is shown"
    assert f"xai-runbook plan backups.verify --name {name}" in outcome.summary
    assert f"xai-runbook plan backups.prune --names {name}" in outcome.summary
    (entry,) = journal_of(env).entries()
    assert entry.status == outcome.status and entry.outcome is not None
    assert entry.outcome["summary"] == outcome.summary
    if act is kill:
        reconciled = reconcile(env, outcome.entry)
        assert reconciled.status == "failed" and "exists, unverified" in reconciled.summary
    assert done(env, dumps.verify(env.backups, name=name)).status == "done", "the hint works"


@pytest.mark.parametrize("act", [ctrl_c, terminate])
def test_x3_interrupted_during_the_dump_nothing_remains(
    act: Callable[[], None], server: Server, env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server.superuser() as session, session.transaction():
        session.execute("LOCK TABLE utxos IN ACCESS EXCLUSIVE MODE")  # it waits here
        outcome = typed(env, dumps.dump(env.database, env.backups), monkeypatch, once("counting public.utxos", act))
    assert outcome.status == "failed" and "nothing was done" in outcome.summary, outcome
    assert names(env) == []


def test_x3_killed_during_the_dump_the_unfinished_folder_is_named(
    server: Server, env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server.superuser() as session, session.transaction():
        session.execute("LOCK TABLE utxos IN ACCESS EXCLUSIVE MODE")
        outcome = typed(env, dumps.dump(env.database, env.backups), monkeypatch, once("counting public.utxos", kill))
    (name,) = names(env)
    assert outcome.status == "unknown" and f"{name} exists, unfinished" in outcome.summary, outcome
    assert reconcile(env, outcome.entry).status == "failed"
    assert done(env, dumps.dump(env.database, env.backups)).status == "done"
    assert catalog.leftovers(env.backups.folder) == {}


def test_x3_finding_a_damaged_backup_is_an_effect(env: Environment) -> None:
    assert done(env, dumps.dump(env.database, env.backups)).status == "done"
    (name,) = names(env)
    dump = env.backups.folder / name / "database.dump"
    content = bytearray(dump.read_bytes())
    content[-1] ^= 1
    dump.write_bytes(content)
    outcome = done(env, dumps.verify(env.backups, name=name))
    assert outcome.status == "failed" and "nothing was done" not in outcome.summary
    assert f"{name} exists, damaged" in outcome.summary


def test_x3_a_prune_that_stops_in_the_middle_is_unknown(
    env: Environment, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from xai_runbook.pgbackup import __main__ as program

    for _ in range(3):
        assert done(env, dumps.dump(env.database, env.backups)).status == "done"
    sums = [f"{name}={catalog.sha256(env.backups.folder / name / catalog.MANIFEST)}" for name in names(env)[:2]]
    remove, removed = shutil.rmtree, []

    def fails(path: Path, *arguments: object, **options: object) -> None:
        removed.append(path)
        if len(removed) == 2:
            raise PermissionError(13, "Permission denied", str(path))
        remove(path)

    with monkeypatch.context() as patch:  # cannot be provoked on a real file system
        patch.setattr(shutil, "rmtree", fails)
        prune = ["prune", "--folder", str(env.backups.folder), "--server", env.backups.server()]
        assert program.main([*prune, *sums]) == 3
    assert "removed: xai_blockchain-000001, xai_blockchain-000002" in capsys.readouterr().out
