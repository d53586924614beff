"""EXPLAIN ANALYZE that is rolled back: effects that survive a rollback are refused or announced (S6)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import backed_up
from tests.support.backed_up import typed
from tests.support.postgres_server import Server, running
from xai_runbook.environment import Environment
from xai_runbook.errors import InputError, Refused
from xai_runbook.model.plans import Risk
from xai_runbook.operations.database import _effects, statements
from xai_runbook.sandbox.components import programs

pytestmark = pytest.mark.skipif(programs.find("postgres") is None, reason="no PostgreSQL found")

MADE = """
CREATE EXTENSION tablefunc;
CREATE EXTENSION pg_trgm;
SET ROLE xai_owner;
CREATE SEQUENCE public.numbers;
CREATE TABLE public.plain (n int, m int);
CREATE TABLE public.counted (n serial, m int);
CREATE TABLE public.always (n int GENERATED ALWAYS AS IDENTITY, m int);
CREATE FUNCTION public.tidy() RETURNS int LANGUAGE sql
    AS 'SELECT count(pg_terminate_backend(pid))::int FROM pg_stat_activity';
CREATE FUNCTION public.tidied(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN public.tidy(); END';
CREATE FUNCTION public."Do It!"() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION public.fired() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0); RETURN new; END';
CREATE TABLE public.triggered (n int);
CREATE TRIGGER t BEFORE INSERT ON public.triggered FOR EACH ROW EXECUTE FUNCTION public.fired();
CREATE TABLE public.parted (n int) PARTITION BY LIST (n);
CREATE TABLE public.part_1 PARTITION OF public.parted FOR VALUES IN (1);
CREATE TRIGGER t BEFORE INSERT ON public.part_1 FOR EACH ROW EXECUTE FUNCTION public.fired();
CREATE TABLE public.halves (n int UNIQUE DEFERRABLE) PARTITION BY LIST (n);
CREATE TABLE public.half_1 PARTITION OF public.halves FOR VALUES IN (1);
CREATE TRIGGER t BEFORE INSERT ON public.halves FOR EACH ROW EXECUTE FUNCTION public.fired();
CREATE TABLE public.parent (n int PRIMARY KEY);
CREATE TABLE public.child (n int REFERENCES public.parent ON DELETE CASCADE);
CREATE TRIGGER t BEFORE DELETE ON public.child FOR EACH ROW EXECUTE FUNCTION public.fired();
CREATE TABLE public.defaulted (n int DEFAULT public.tidy(), m int);
CREATE VIEW public.ending AS SELECT pg_terminate_backend(pid) FROM pg_stat_activity;
CREATE VIEW public.over AS SELECT * FROM public.ending;
CREATE VIEW public.calling AS SELECT public.tidy();
CREATE TABLE public.guarded (n int);
CREATE POLICY p ON public.guarded USING (public.tidy() > 0);
CREATE RULE r AS ON INSERT TO public.guarded DO ALSO SELECT pg_advisory_lock(1);
CREATE DOMAIN public.strict AS int CHECK (public.tidied(VALUE) > 0);
CREATE FUNCTION public.summed(int, int) RETURNS int LANGUAGE sql AS 'SELECT public.tidy()';
CREATE AGGREGATE public.total(int) (SFUNC = public.summed, STYPE = int);
CREATE OPERATOR public.@#@ (FUNCTION = public.summed, LEFTARG = int, RIGHTARG = int);
RESET ROLE;
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("effects")) as found:
        with found.superuser() as session:
            session.execute(MADE.encode())
        yield found


@pytest.fixture(scope="module")
def there(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    found = backed_up.environment(server, tmp_path_factory.mktemp("journal") / "journal")
    yield found
    found.database.close()


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity",
        "select PG_Terminate_Backend /* now */ (1)",
        'select "pg_terminate_backend"(1)',
        "SELECT pg_catalog . pg_terminate_backend(1)",
        """SELECT '"', "pg_terminate_backend"(1), '"'""",
        "SELECT pg_cancel_backend(1)",
        "SELECT setval('public.numbers', 99)",
        "SELECT pg_advisory_lock(1)",
        "SELECT pg_try_advisory_lock_shared(1)",
        "SELECT pg_switch_wal()",
        "SELECT pg_reload_conf()",
        "SELECT pg_notify('a', 'b')",
        "SELECT lo_export(1, '/tmp/x')",
        "SELECT lo_unlink(1)",
        "SELECT query_to_xml('select 1', true, true, '')",
        "SELECT schema_to_xml('public', true, true, '')",
        "SELECT query_to_xmlschema('select 1', true, true, '')",
        "SELECT query_to_xml_and_xmlschema('select 1', true, true, '')",
        "SELECT cursor_to_xml('c', 1, true, true, '')",
        "SELECT ts_stat('select ''a''::tsvector')",
        "SELECT ts_rewrite('a'::tsquery, 'select ''a''::tsquery, ''b''::tsquery')",
        "SELECT set_config('work_mem', '1MB', false)",
        "WITH gone AS (SELECT pg_terminate_backend(1)) SELECT * FROM gone",
        "INSERT INTO public.plain SELECT pg_stat_reset_shared('bgwriter')::text::int",
        "UPDATE public.plain SET n = 1 WHERE pg_terminate_backend(m)",
        "SELECT * FROM public.ending",
        "TABLE public.over",
        "INSERT INTO public.guarded VALUES (1)",
        "SELECT pg_read_file('postgresql.conf')",
        "SELECT pg_logical_emit_message(false, 'a', 'b')",
        "VALUES (pg_terminate_backend(1))",
    ],
)
def test_s6_effects_that_survive_a_rollback_are_refused(there: Environment, statement: str) -> None:
    plan = statements.analyze(there.database, statement=statement)
    assert not plan.steps and "a rollback does not undo all effects of pg_catalog." in plan.refused, plan


@pytest.mark.parametrize(
    ("statement", "function"),
    [
        ("SELECT public.tidy()", "public.tidy"),
        ("SELECT public.tidied(1)", "public.tidied"),
        ('SELECT public."Do It!"()', "public.Do It!"),
        ("INSERT INTO public.triggered VALUES (1)", "public.fired"),
        ("INSERT INTO public.parted VALUES (1)", "public.fired"),
        ("INSERT INTO public.half_1 VALUES (1)", "public.fired"),
        ("DELETE FROM public.parent", "public.fired"),
        ("INSERT INTO public.defaulted (m) VALUES (1)", "public.tidy"),
        ("SELECT * FROM public.calling", "public.tidy"),
        ("SELECT * FROM public.guarded", "public.tidy"),
        ("SELECT 1::public.strict", "public.tidied"),
        ("SELECT public.total(n) FROM public.plain", "public.total"),
        ("SELECT 1 OPERATOR(public.@#@) 2", "public.summed"),
        (
            "SELECT * FROM crosstab('select ''a'', ''b'', pg_termi' || 'nate_backend(1)::text') AS t(a text, b text)",
            "public.crosstab",
        ),
        ("SELECT * FROM connectby('plain', 'n', 'm', '1', 0) AS t(n int, m int, level int)", "public.connectby"),
        ("WITH made AS (INSERT INTO public.triggered VALUES (1) RETURNING n) SELECT * FROM made", "public.fired"),
    ],
)
def test_s6_user_functions_make_the_plan_destructive(there: Environment, statement: str, function: str) -> None:
    plan = statements.analyze(there.database, statement=statement)
    assert plan.steps and plan.risk is Risk.DESTRUCTIVE, plan
    assert "a rollback may not undo" in plan.note and function in plan.note
    assert "cannot be undone" in str(plan.undo)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT count(*), now(), clock_timestamp(), random(), gen_random_uuid() FROM public.wallets",
        "SELECT * FROM public.triggered",
        "UPDATE public.plain SET m = m + 1 WHERE n BETWEEN 1 AND 10",
        "DELETE FROM public.plain USING public.wallets WHERE false",
        "SELECT pg_sleep(0)",
        "SELECT * FROM public.halves",
        "SELECT upper(left('x', 1)) || to_char(now(), 'YYYY') FROM generate_series(1, 3)",
        "SELECT pid, state FROM pg_stat_activity",
        "SELECT 'abc' OPERATOR(public.%) 'ab', public.similarity('abc', 'ab')",
        "SELECT relation::regclass FROM pg_locks",
        "SELECT pg_size_pretty(pg_total_relation_size('public.wallets'))",
    ],
)
def test_s6_what_rolls_back_is_a_change(there: Environment, monkeypatch: pytest.MonkeyPatch, statement: str) -> None:
    plan = statements.analyze(there.database, statement=statement)
    assert plan.note == "the statement runs, holds its locks, and is rolled back" and plan.risk is Risk.CHANGE, plan
    assert typed(there, plan, monkeypatch).status == "done"


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO public.counted (m) VALUES (1)",
        "INSERT INTO public.always (m) VALUES (1)",
        "SELECT nextval('public.numbers')",
    ],
)
def test_s6_sequences_are_not_moved_back(there: Environment, monkeypatch: pytest.MonkeyPatch, statement: str) -> None:
    plan = statements.analyze(there.database, statement=statement)
    assert "sequences that it advances are not moved back" in plan.note and plan.risk is Risk.CHANGE
    assert typed(there, plan, monkeypatch).status == "done"


def test_s6_escaped_names_are_refused(there: Environment) -> None:
    with pytest.raises(InputError, match="Unicode escapes"):
        _effects.lasting_effects(there.database, statement='SELECT U&"pg\\005fterminate_backend"(1)')


def test_s6_a_trigger_created_after_planning_is_noticed(
    server: Server, there: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The change is planned again under the lock; a new trigger makes the plan differ."""
    plan = statements.analyze(there.database, statement="INSERT INTO public.plain VALUES (1, 2)")
    assert plan.risk is Risk.CHANGE
    with server.superuser() as session:
        session.execute("SET ROLE xai_owner")
        session.execute("CREATE TRIGGER t BEFORE INSERT ON public.plain FOR EACH ROW EXECUTE FUNCTION public.fired()")
    try:
        with pytest.raises(Refused, match="the system has changed"):
            typed(there, plan, monkeypatch)
    finally:
        with server.superuser() as session:
            session.execute("DROP TRIGGER t ON public.plain")
