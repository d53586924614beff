"""Statements that take long, cannot run in a transaction, or contain names: on real PostgreSQL."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.changes.test_apply import at, carried_out
from tests.support.changing import Session
from tests.support.pace import stretched
from xai_runbook.changes.interrupts import DeferredInterrupt
from xai_runbook.changes.journal import Journal
from xai_runbook.changes.reconcile import reconcile, undo
from xai_runbook.changes.steps.execute import StepRunner
from xai_runbook.changes.steps.result import OutcomeUnknown, StepResult
from xai_runbook.environment import Environment
from xai_runbook.errors import InputError, Refused
from xai_runbook.model.findings import Status
from xai_runbook.model.plans import Plan, Sql
from xai_runbook.model.secret import write_access
from xai_runbook.model.sql_text import compose
from xai_runbook.operations.database import indexes, maintenance, statements

Opens = Callable[..., Session]


@pytest.fixture
def superuser(sandbox: dict[str, Any]) -> Iterator[Any]:
    from xai_runbook.sandbox.components import postgres_template

    where = Path(os.environ["XAI_RUNBOOK_SANDBOX"]) / "postgres" / "data"
    with postgres_template.connect(where, sandbox["overlay"]["database"]["port"], "xai_blockchain") as connection:
        yield connection


@pytest.fixture
def table(superuser: Any) -> Iterator[str]:
    """A table of this test's own, of the owner that the operator may act for, with one index."""
    name = f"Own {random.getrandbits(32):x}"
    superuser.execute("SET ROLE xai_owner")
    superuser.execute(f'CREATE TABLE "{name}" (n int, m int)')
    superuser.execute(f'INSERT INTO "{name}" SELECT n, n % 7 FROM generate_series(1, 3000) n')
    superuser.execute(f'CREATE INDEX "{name} n" ON "{name}" (n)')
    superuser.execute(f'GRANT SELECT, INSERT, UPDATE ON "{name}" TO xai_app')
    superuser.execute("RESET ROLE")
    yield name
    superuser.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'holder'")
    superuser.execute(f'DROP TABLE IF EXISTS "{name}"')


def acted(env: Environment, step: Sql, interrupt: DeferredInterrupt | None = None) -> tuple[StepResult, list[str]]:
    messages: list[str] = []
    with write_access(), closing(StepRunner(env)) as runner:
        runner.open({f"database.{key}": value for key, value in env.database.identity().items()}, {})
        return runner.run(step, messages.append, interrupt or DeferredInterrupt()), messages


def rebuilding(env: Environment, table: str, **more: Any) -> Sql:
    """The step that rebuilds the table's index, with other values for some of its fields."""
    plan = maintenance.reindex(env.database, index=f"public.{table} n", disk_space_checked=True)
    (step,) = plan.steps
    assert isinstance(step, Sql)
    return replace(step, **more)


def broken(env: Environment, table: str) -> list[str]:
    """The invalid indexes on that table."""
    frame = indexes.indexes(env.database)
    return [str(name) for name in frame[(frame["table"] == f"public.{table}") & ~frame["valid"]]["name"]]


def held(session: Opens, table: str) -> Session:
    """A transaction that has written there and stays open: whoever builds an index concurrently waits for it."""
    other = session("holder")
    other.execute("BEGIN")
    other.execute(f'UPDATE "{table}" SET m = m WHERE n = 1'.encode())
    return other


def once_running(superuser: Any, condition: str, act: Callable[[], None]) -> threading.Thread:
    """Act as soon as a session meets the condition, from another thread."""
    query = f"SELECT 1 FROM pg_stat_activity WHERE {condition}"

    def watch() -> None:
        end = time.monotonic() + 30
        while superuser.execute(query).fetchone() is None:
            assert time.monotonic() < end, f"no session has {condition}"
            time.sleep(0.02)
        act()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


# --- names ------------------------------------------------------------------------------------------------------

PIECES = [
    '"', '""', "'", "\\", "%", "%s", "%(x)s", "{", "}", "{index}", ";", "--", "/*", "$$", "\n", " ", "ü", "表", "E'",
    "\N{RIGHT-TO-LEFT OVERRIDE}", "dbname=x host=y", "postgresql://h/d", "DROP TABLE blocks", 'U&"', "a",
]  # fmt: skip


def hostile(rng: random.Random) -> str:
    name = "".join(rng.choices(PIECES, k=rng.randint(1, 6)))
    return name.encode()[:63].decode(errors="ignore") or "x"


@pytest.mark.parametrize("number", [5_000, pytest.param(100_000, marks=pytest.mark.torture)])
def test_hostile_names_stay_names(superuser: Any, number: int) -> None:
    """The server itself reads back what was quoted: it is that one name, and nothing else."""
    rng = random.Random(7)
    for _ in range(0, number, 1000):
        names = [hostile(rng) for _ in range(1000)]
        quoted = [
            drop(name).as_string(superuser).partition("DROP INDEX CONCURRENTLY ")[2].rstrip("\n") for name in names
        ]
        read = superuser.execute(
            "SELECT parse_ident(q) = ARRAY['public', n] FROM unnest(%s::text[], %s::text[]) AS t(q, n)", [quoted, names]
        )
        assert {row[0] for row in read.fetchall()} == {True}


def drop(name: str) -> Any:
    return compose(Sql(name="drop_index", parameters={}, equivalent="", identifiers={"index": ("public", name)}), 15)


def test_hostile_texts_stay_texts(superuser: Any) -> None:
    from psycopg.sql import SQL, Literal

    rng = random.Random(8)
    texts = [hostile(rng) for _ in range(2000)]
    listed = SQL("SELECT * FROM (VALUES {}) AS t").format(SQL(", ").join(SQL("({})").format(Literal(t)) for t in texts))
    assert [row[0] for row in superuser.execute(listed).fetchall()] == texts


def test_an_index_with_a_hostile_name_is_dropped_and_no_other(here: Environment, superuser: Any, table: str) -> None:
    """Sent with bound parameters too, where psycopg reads every % as the start of one."""
    name = """ "50%" %s {index} '; DROP TABLE blocks; --"""
    superuser.execute("SET ROLE xai_owner")
    superuser.execute(f"""CREATE INDEX "{name.replace('"', '""')}" ON "{table}" (m)""".replace("%", "%%"), [])
    superuser.execute("RESET ROLE")
    (oid,) = superuser.execute("SELECT oid FROM pg_class WHERE relname = %s", [name]).fetchone()
    step = Sql(
        name="drop_index", parameters={"oid": str(oid), "schema": "public", "name": name}, equivalent="",
        precondition="relation_unchanged", identifiers={"index": ("public", name)},
    )  # fmt: skip
    done, _ = acted(here, step)
    assert done.had_effect, done
    assert superuser.execute("SELECT count(*) FROM pg_class WHERE oid = %s", [oid]).fetchone() == (0,)
    assert superuser.execute("SELECT count(*) > 0 FROM blocks").fetchone() == (True,)


@pytest.mark.parametrize("name", ["", "x" * 64, "ü" * 32, "nul\0"])
def test_names_that_the_server_would_truncate_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="1 to 63 bytes"):
        drop(name)
    with pytest.raises(InputError, match="1 to 63 bytes"):
        Sql(name="create_index", parameters={}, equivalent="", names={"columns": ("a", name)})


def test_the_plan_shows_what_is_sent(here: Environment, table: str) -> None:
    plan = indexes.create_index(here.database, table=f"public.{table}", columns=["m"], disk_space_checked=True)
    assert f'CREATE INDEX CONCURRENTLY "{table}_m_idx" ON "public"."{table}" ("m")' in str(plan)
    assert f"&quot;{table}_m_idx&quot;" in plan._repr_html_()
    assert Plan.from_json(plan.to_json()) == plan


# --- maintenance -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("terminal")
def test_vacuum_is_seen_in_the_statistics(here: Environment, superuser: Any, table: str) -> None:
    superuser.execute(f'DELETE FROM "{table}" WHERE n > 1000')
    outcome = carried_out(maintenance.vacuum(here.database, tables=[f"public.{table}"]), here)
    assert outcome.status == "done" and outcome.observed[0]["vacuum_count"] == "1"
    row = superuser.execute(
        "SELECT n_dead_tup, last_vacuum IS NOT NULL, last_analyze IS NOT NULL FROM pg_stat_user_tables"
        " WHERE relname = %s",
        [table],
    ).fetchone()
    assert row == (0, True, True)


@pytest.mark.usefixtures("terminal")
def test_a_locked_table_is_skipped_with_a_notice(here: Environment, session: Opens, superuser: Any, table: str) -> None:
    plan = maintenance.vacuum(here.database, tables=[f"public.{table}"])
    superuser.execute(f'BEGIN; LOCK TABLE "{table}" IN SHARE UPDATE EXCLUSIVE MODE')
    try:
        outcome = carried_out(plan, here)
    finally:
        superuser.execute("ROLLBACK")
    assert outcome.status == "failed" and "another session has locked it" in outcome.summary
    assert (
        len(outcome.notices) == 1 and "skipping vacuum of" in outcome.notices[0] and "notice: WARNING" in str(outcome)
    )
    assert carried_out(maintenance.vacuum(here.database, tables=[f"public.{table}"]), here).status == "done"


@pytest.mark.usefixtures("terminal")
def test_reindex_leaves_a_new_index_under_the_old_name(here: Environment, superuser: Any, table: str) -> None:
    find = "SELECT oid FROM pg_class WHERE relname = %s"
    before = superuser.execute(find, [f"{table} n"]).fetchone()
    outcome = carried_out(maintenance.reindex(here.database, index=f"public.{table} n"), here)
    assert outcome.status == "done" and outcome.observed[0]["rebuilt"] == "true"
    assert outcome.observed[0]["leftover_count"] == "0"
    assert superuser.execute(find, [f"{table} n"]).fetchone() != before
    assert broken(here, table) == []


@pytest.mark.usefixtures("terminal")
def test_an_index_is_created_and_dropped_by_undo(here: Environment, table: str) -> None:
    plan = indexes.create_index(here.database, table=f"public.{table}", columns=["m", "n"])
    outcome = carried_out(plan, here)
    assert outcome.status == "done", outcome
    again = indexes.create_index(here.database, table=f"public.{table}", columns=["m"])
    assert "begins with these columns" in again.note, "it serves for the first column alone as well"
    back = undo(here, outcome.entry)
    assert back.targets == (f"index public.{table}_m_n_idx",)
    assert carried_out(back, here).status == "done"
    assert f"public.{table}_m_n_idx" not in set(indexes.indexes(here.database)["name"])


@pytest.mark.usefixtures("terminal")
def test_a_rebuild_does_not_block_readers_and_writers(
    here: Environment, session: Opens, superuser: Any, table: str
) -> None:
    """While the rebuild waits for a transaction, others read and write. REINDEX without CONCURRENTLY blocks them."""
    holder, reader = held(session, table), session("reader")
    reader.execute("SET lock_timeout = '300ms'")
    went_on, longest, kept = 0, 0.0, threading.Event()

    def let_go(message: str) -> None:
        nonlocal went_on, longest
        if "waiting for" not in message or kept.is_set():
            return
        for _ in range(20):
            began = time.monotonic()
            reader.execute(f'SELECT count(*) FROM "{table}" WHERE n = 5'.encode())
            reader.execute(f'UPDATE "{table}" SET m = m WHERE n = 2'.encode())
            longest, went_on = max(longest, time.monotonic() - began), went_on + 1
        holder.execute("ROLLBACK")
        kept.set()

    outcome = carried_out(maintenance.reindex(here.database, index=f"public.{table} n"), here, progress=let_go)
    assert outcome.status == "done" and went_on == 20, outcome

    holder = held(session, table)
    plain = threading.Thread(target=_plain_reindex, args=(superuser, table))
    plain.start()
    try:
        blocked = 0
        for _ in range(100):
            time.sleep(0.02)
            try:
                reader.execute(f'UPDATE "{table}" SET m = m WHERE n = 2'.encode())
            except psycopg.errors.LockNotAvailable:
                blocked += 1
                break
        assert blocked, "REINDEX without CONCURRENTLY lets no writer by"
    finally:
        holder.execute("ROLLBACK")
        plain.join(30)


@pytest.mark.usefixtures("terminal")
def test_a_reader_never_waits_as_long_as_its_lock_timeout(
    here: Environment, session: Opens, superuser: Any, table: str
) -> None:
    """Measured in every phase of the rebuild, from before the plan until after it."""
    holder, reader = held(session, table), session("reader")
    reader.execute("SET lock_timeout = '1s'")
    over = threading.Event()
    waits: list[float] = []

    def read() -> None:
        while not over.is_set():
            began = time.monotonic()
            reader.execute(f'SELECT count(*) FROM "{table}" WHERE n < 50'.encode())  # LockNotAvailable ends the thread
            waits.append(time.monotonic() - began)
            time.sleep(0.002)

    def let_go(message: str) -> None:
        if "waiting for" in message and len(waits) > 50:
            holder.execute("ROLLBACK")

    reading = threading.Thread(target=read)
    reading.start()
    try:
        outcome = carried_out(maintenance.reindex(here.database, index=f"public.{table} n"), here, progress=let_go)
        assert outcome.status == "done", outcome
        assert reading.is_alive(), "no reader waited too long"
    finally:
        over.set()
        reading.join(30)
    assert len(waits) > 50 and max(waits) < stretched(1)


def _plain_reindex(superuser: Any, table: str) -> None:
    superuser.execute(f'REINDEX TABLE "{table}"')


# --- what ends early --------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("terminal")
def test_an_interrupted_reindex_is_found_and_repaired(here: Environment, session: Opens, table: str) -> None:
    """P19: the check names the invalid index that it leaves, and its plan drops it."""
    holder = held(session, table)

    def interrupt(message: str) -> None:
        if "waiting for" in message:
            os.kill(os.getpid(), signal.SIGINT)

    outcome = carried_out(maintenance.reindex(here.database, index=f"public.{table} n"), here, progress=interrupt)
    holder.execute("ROLLBACK")
    assert (outcome.status, outcome.interrupted) == ("unknown", True)
    assert "its effect is unknown: interrupted by Ctrl-C" in outcome.summary
    assert broken(here, table) == [f"public.{table} n_ccnew"]
    finding = indexes.check_invalid_indexes(indexes.indexes(here.database), here.limits.database.indexes_valid)
    assert finding.status is Status.ALERT and finding.targets == (f"public.{table} n_ccnew",)
    # until it is reconciled, nothing else is done there
    mending = maintenance.drop_invalid_indexes(here.database, indexes=list(finding.targets))
    with pytest.raises(Refused, match="is unknown"):
        carried_out(mending, here)
    assert reconcile(here, outcome.entry, status="failed", why="seen: the old index serves").status == "failed"
    again = "left by an interrupted rebuild"
    assert again in maintenance.reindex(here.database, index=finding.targets[0]).refused
    assert carried_out(mending, here).status == "done"
    assert broken(here, table) == []


def test_a_lock_timeout_leaves_the_effect_unknown(here: Environment, session: Opens, table: str) -> None:
    holder = held(session, table)
    with pytest.raises(OutcomeUnknown, match="its effect is unknown"):
        acted(here, rebuilding(here, table, lock_timeout="200ms"))
    holder.execute("ROLLBACK")
    assert broken(here, table) == [f"public.{table} n_ccnew"]


def test_a_statement_has_its_own_deadline(here: Environment, session: Opens, table: str) -> None:
    """On the server: longer than the connection's timeout, and no longer than the step says."""
    step = Sql(
        name="analyze_rolled_back", parameters={"statement": "SELECT pg_sleep(60)"}, equivalent="",
        precondition="store_statement", seconds="1s", atomic=True,
    )  # fmt: skip
    began = time.monotonic()
    done, _ = acted(here, step)
    assert not done.had_effect and "statement timeout" in done.summary
    assert time.monotonic() - began < stretched(6)
    holder = held(session, table)
    with pytest.raises(OutcomeUnknown, match="statement timeout"):
        acted(here, rebuilding(here, table, seconds="500ms", lock_timeout="60s"))
    holder.execute("ROLLBACK")


@pytest.mark.usefixtures("acting")
def test_a_stopped_server_is_not_waited_for(here: Environment, session: Opens, superuser: Any, table: str) -> None:
    """The client keeps the deadline too."""
    holder = held(session, table)
    runner = StepRunner(here)
    runner.open({f"database.{key}": value for key, value in here.database.identity().items()}, {})
    (pid,) = superuser.execute(
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'xai-runbook apply'"
        " ORDER BY backend_start DESC LIMIT 1"  # those of tests before may still be ending
    ).fetchone()
    stopping = once_running(
        superuser, f"pid = {pid} AND wait_event_type = 'Lock'", lambda: os.kill(pid, signal.SIGSTOP)
    )
    began = time.monotonic()
    try:
        with pytest.raises(OutcomeUnknown, match="no whole answer within 5 s"):
            runner.run(rebuilding(here, table, seconds="5s", lock_timeout="60s"), lambda _: None, DeferredInterrupt())
        assert time.monotonic() - began < 13, "six seconds, and what a busy machine takes"
    finally:
        stopping.join()
        os.kill(pid, signal.SIGCONT)
        holder.execute("ROLLBACK")
        runner.close()


@pytest.mark.usefixtures("acting")
def test_a_terminated_session_leaves_the_effect_unknown(
    here: Environment, session: Opens, superuser: Any, table: str
) -> None:
    holder = held(session, table)

    def end(message: str) -> None:
        superuser.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'xai-runbook apply'"
        )

    runner = StepRunner(here)
    runner.open({f"database.{key}": value for key, value in here.database.identity().items()}, {})
    try:
        with pytest.raises(OutcomeUnknown, match="the connection was lost during the statement"):
            runner.run(rebuilding(here, table), end, DeferredInterrupt())
    finally:
        runner.close()
        holder.execute("ROLLBACK")


@pytest.mark.usefixtures("terminal")
def test_another_table_under_the_name_is_left_alone(here: Environment, superuser: Any, table: str) -> None:
    def exchange() -> None:
        superuser.execute(f'ALTER TABLE "{table}" RENAME TO "{table} old"')
        superuser.execute(f'CREATE TABLE "{table}" (n int, m int)')

    plan = indexes.create_index(here.database, table=f"public.{table}", columns=["m"], disk_space_checked=True)
    try:
        outcome = carried_out(plan, here, progress=at("step 1 of 1", exchange))
    finally:
        superuser.execute(f'DROP TABLE IF EXISTS "{table} old"')
    assert outcome.status == "failed" and "the server found its target changed" in outcome.summary
    assert superuser.execute("SELECT count(*) FROM pg_class WHERE relname = %s", [f"{table}_m_idx"]).fetchone() == (0,)


@pytest.mark.usefixtures("terminal")
def test_no_index_is_built_during_an_open_transaction(
    here: Environment, session: Opens, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xai_runbook.operations.database import _relations

    monkeypatch.setattr(_relations, "MAX_TRANSACTION_SECONDS", "0.1")
    holder = held(session, table)
    time.sleep(0.2)
    plan = maintenance.reindex(here.database, index=f"public.{table} n")
    with pytest.raises(Refused, match="no transaction in this database is open"):
        carried_out(plan, here)
    holder.execute("ROLLBACK")
    assert broken(here, table) == []


# --- a statement that is analyzed ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("terminal")
def test_an_update_is_analyzed_and_rolled_back(here: Environment, superuser: Any, table: str) -> None:
    text = f"""UPDATE public."{table}" SET m = 99 WHERE n <= 10 AND 'a%' LIKE '%%' OR $${{x}}$$ = 'y'"""
    outcome = carried_out(statements.analyze(here.database, statement=text), here)
    assert outcome.status == "done", outcome
    assert "Update on" in outcome.notices[0] and "actual time" in outcome.notices[0]
    assert any("Execution Time" in line for line in outcome.notices) and "notice: NOTICE" in str(outcome)
    assert superuser.execute(f'SELECT count(*) FROM "{table}" WHERE m = 99').fetchone() == (0,)


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1; DROP TABLE public.blocks",
        "SELECT 1) TO PROGRAM 'true'",
        "INSERT INTO public.no_such VALUES (1)",
        "SELECT 1 / 0",
        "SELECT pg_sleep(60)",
    ],
)
def test_an_analysis_that_fails_did_nothing(here: Environment, text: str) -> None:
    outcome = carried_out(statements.analyze(here.database, statement=text, within="1s"), here)
    assert outcome.status == "failed" and "nothing was done" in outcome.summary


@pytest.mark.usefixtures("terminal")
def test_ctrl_c_during_an_atomic_statement_had_no_effect(here: Environment, superuser: Any) -> None:
    plan = statements.analyze(here.database, statement="SELECT pg_sleep(60)", within="15s")
    running = "application_name = 'xai-runbook apply' AND wait_event = 'PgSleep'"
    once_running(superuser, running, lambda: os.kill(os.getpid(), signal.SIGINT))
    with suppress(KeyboardInterrupt):
        outcome = carried_out(plan, here)
    assert (outcome.status, outcome.interrupted) == ("failed", True) and "interrupted by Ctrl-C" in outcome.summary
    assert "due to user request" in outcome.summary, "the server was asked to end it, before its time was up"


def test_only_statements_that_can_be_explained_are_planned(here: Environment, journal: Journal) -> None:
    with pytest.raises(InputError, match="not a supported statement"):
        statements.analyze(here.database, statement="VACUUM")
    assert statements.analyze(here.database).note == "no statement was named"
