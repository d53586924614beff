"""Indexes on a real server: broken, idle, superfluous and missing ones are told apart, and plans name exactly one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.operations import clusters
from xai_runbook.environment import Environment
from xai_runbook.environments import load
from xai_runbook.errors import InputError
from xai_runbook.findings import Finding, Status
from xai_runbook.operations import indexes
from xai_runbook.plans import Call
from xai_runbook.sandbox import programs

pytestmark = pytest.mark.skipif(programs.find("postgres") is None, reason="no PostgreSQL to be found")
LIMITS = load("sandbox").limits
OPERATOR = {"operator": {"user": "xai_operator"}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[clusters.Cluster]:
    with clusters.primary(tmp_path_factory.mktemp("indexes")) as cluster:
        yield cluster


def invalid(server: clusters.Cluster) -> Finding:
    with server.handle() as handle:
        return indexes.check_invalid_indexes(indexes.indexes(handle), LIMITS.invalid_indexes)


def test_a_healthy_database(env: Environment) -> None:
    told = indexes.indexes(env.database)
    assert len(indexes.indexes(env.database, most=3)) == 3 and (told["of_all"] == len(told)).all()
    finding = indexes.check_invalid_indexes(told, env.limits.invalid_indexes)
    assert (finding.status, finding.targets) == (Status.OK, ())
    assert finding.summary == f"0 of {len(told)} indexes invalid"
    assert "public.blocks_pkey" in set(told["name"]) and not [n for n in told["name"] if n.startswith("pg_")]


def test_what_a_failed_build_leaves_is_named(server: clusters.Cluster) -> None:
    """The real fault: built concurrently, it found two equal rows."""
    with server.superuser() as connection:
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute("CREATE UNIQUE INDEX CONCURRENTLY by_kind ON transactions (kind)")
        finding = invalid(server)
        assert (finding.status, finding.targets) == (Status.ALERT, ("public.by_kind",))
        assert "public.by_kind" in finding.summary and finding.hint
        connection.execute("DROP INDEX by_kind")
    assert invalid(server).status is Status.OK


def test_one_that_is_being_built_is_no_fault(server: clusters.Cluster) -> None:
    """Building waits for a transaction that is open: until then the index is there, and not valid."""

    def build() -> None:
        with server.superuser() as connection:
            connection.execute("CREATE INDEX CONCURRENTLY being_built ON blocks (difficulty)")

    with server.superuser() as other:
        other.execute(
            "BEGIN; UPDATE blocks SET difficulty = difficulty WHERE height = (SELECT max(height) FROM blocks)"
        )
        thread = threading.Thread(target=build)
        thread.start()
        try:

            def seen() -> dict[str, Any] | None:
                with server.handle() as handle:
                    rows = indexes.indexes(handle).query("name == 'public.being_built'").to_dict("records")
                return rows[0] if rows else None

            row = clusters.eventually(seen)
            assert not row["valid"] and row["building"]
            finding = invalid(server)
            assert finding.status is Status.OK and "1 being built" in finding.summary
            with server.handle(**OPERATOR) as handle:
                plan = _drop_invalid(handle, "public.being_built")
                assert "being built right now" in plan.refused
        finally:
            other.execute("ROLLBACK")
            thread.join(30)
    with server.superuser() as connection:
        connection.execute("DROP INDEX being_built")


def _drop_invalid(handle: Any, name: str) -> Any:
    from xai_runbook.operations import maintenance

    return maintenance.drop_invalid_indexes(handle, indexes=[name])


def test_superfluous_ones(server: clusters.Cluster) -> None:
    with server.superuser() as connection:
        connection.execute(
            """
            CREATE TABLE t (a int PRIMARY KEY, b int, c text);
            CREATE INDEX t_a ON t (a);                               -- as the primary key
            CREATE INDEX t_b ON t (b);                               -- begins t_b_c
            CREATE INDEX t_b_c ON t (b, c);
            CREATE INDEX t_b_some ON t (b) WHERE c IS NOT NULL;      -- another condition
            CREATE INDEX t_b_down ON t (b DESC);                     -- another order
            CREATE INDEX t_c ON t (c);
            CREATE INDEX t_c_pattern ON t (c text_pattern_ops);      -- another class
            CREATE INDEX t_c_again ON t (c);                         -- as t_c
            CREATE UNIQUE INDEX t_c_b ON t (c, b);
            CREATE INDEX t_lower ON t (lower(c));
            CREATE INDEX t_lower_again ON t (lower(c));              -- as t_lower
            CREATE INDEX t_upper ON t (upper(c))
            """
        )
    with server.handle() as handle:
        told = indexes.duplicate_indexes(handle)
        unused = set(indexes.unused_indexes(handle, most=100)["name"])
    pairs = {(row["name"], row["covered_by"]) for row in told.to_dict("records")}
    assert ("public.t_a", "public.t_pkey") in pairs and ("public.t_b", "public.t_b_c") in pairs
    assert {("public.t_c_again", "public.t_c"), ("public.t_lower_again", "public.t_lower")} <= pairs
    named = {name for name, _ in pairs}
    assert named == {f"public.t_{short}" for short in ("a", "b", "c", "c_again", "lower_again")}
    assert ("public.t_c", "public.t_c_b") in pairs, "the unique one serves for it too"
    assert {"public.t_b", "public.t_upper"} <= unused
    assert not {"public.t_pkey", "public.t_c_b"} & unused, "what keeps rows apart is not idle"


def test_missing_ones_come_with_their_evidence(server: clusters.Cluster) -> None:
    with server.superuser() as connection:
        connection.execute('CREATE TABLE "Refers" (n int, "To" text REFERENCES wallets, too text REFERENCES wallets)')
        connection.execute('INSERT INTO "Refers" SELECT n, NULL, NULL FROM generate_series(1, 2000) n')
        connection.execute('CREATE INDEX ON "Refers" (too) WHERE too IS NOT NULL')
        connection.execute('ANALYZE "Refers"')
    with server.superuser() as connection:
        for _ in range(12):
            connection.execute('SELECT count(*) FROM "Refers" WHERE n = 5')

    def told() -> list[dict[str, Any]]:
        with server.handle() as handle:
            frame = indexes.suggested_indexes(handle, fewest_reads=10)
        rows: list[dict[str, Any]] = frame[frame["table"] == "public.Refers"].to_dict("records")
        return rows if len(rows) == 2 else []

    key, read = sorted(clusters.eventually(told), key=lambda row: row["statement"] is None)
    assert key["columns"] == ["To"] and key["evidence"].startswith("foreign key ")
    assert key["statement"] == 'CREATE INDEX CONCURRENTLY ON public."Refers" ("To")'
    assert read["columns"] is None and "read from end to end" in read["evidence"] and read["whole_reads"] >= 10
    with server.superuser() as connection:
        connection.execute(key["statement"])
    with server.handle() as handle:
        again = indexes.suggested_indexes(handle, fewest_reads=10)
    assert "To" not in str(again["columns"].to_list())


# --- plans ------------------------------------------------------------------------------------------------------


def test_a_plan_names_columns_that_are_there(server: clusters.Cluster) -> None:
    with server.handle(**OPERATOR) as handle:
        plan = indexes.create_index(handle, table="public.blocks", columns=["miner", "height"])
        assert plan.steps and plan.targets == ("index public.blocks_miner_height_idx on miner, height",)
        assert '"blocks_miner_height_idx" ON "public"."blocks" ("miner", "height")' in str(plan)
        assert plan.undo == Call(
            change="xai_runbook.operations.indexes.drop_index",
            arguments={"index": "public.blocks_miner_height_idx", "table_oid": plan.observed[0]["oid"]},
        )
        for columns in (["no_such"], [], ["miner", "miner"], ["ctid"], ["miner) WHERE (true"]):
            with pytest.raises(InputError, match="no such columns"):
                indexes.create_index(handle, table="public.blocks", columns=columns)
        for table in ("blocks", "public.BLOCKS", "public.no_such", 'public"."blocks', "pg_catalog.pg_stat_activity"):
            with pytest.raises(InputError, match="there are no tables called"):
                indexes.create_index(handle, table=table, columns=["miner"])
        assert indexes.create_index(handle, columns=[]).note == "no table was named"


def test_what_is_there_is_not_made_again(server: clusters.Cluster) -> None:
    with server.handle(**OPERATOR) as handle:
        for columns in (["mined_at"], ["height"]):
            plan = indexes.create_index(handle, table="public.blocks", columns=columns)
            assert not plan.steps and "begins with these columns" in plan.note
        (partial,) = [indexes.create_index(handle, table="public.transactions", columns=["sender"])]
        assert partial.steps, "one with a condition does not serve every statement"


def test_names_are_cut_at_a_character(server: clusters.Cluster) -> None:
    with server.superuser() as connection:
        connection.execute('SET ROLE xai_owner; CREATE TABLE "überlänge" (n int, "%s" int)' % ("ö" * 30))
    with server.handle(**OPERATOR) as handle:
        plan = indexes.create_index(handle, table="public.überlänge", columns=["ö" * 30])
    (name,) = plan.steps[0].identifiers["index"]  # type: ignore[union-attr]
    assert len(name.encode()) in (62, 63) and name.startswith("überlänge_ö") and name.endswith("ö_idx")


def test_who_may_not_is_told_before(server: clusters.Cluster) -> None:
    with server.superuser() as connection:
        connection.execute("CREATE TABLE of_another (n int)")
        connection.execute("CREATE INDEX of_another_n ON of_another (n)")
    with server.handle(**OPERATOR) as handle:
        plan = indexes.create_index(handle, table="public.of_another", columns=["n"])
        assert "its owner is xai_superuser" in plan.refused or "begins with" in plan.note
        plan = indexes.drop_index(handle, index="public.of_another_n")
        assert "does not own" in plan.refused
        assert "a constraint's" in indexes.drop_index(handle, index="public.blocks_pkey").refused
        assert not indexes.drop_index(handle).steps
    with server.handle() as handle:
        assert "operator" in indexes.drop_index(handle, index="public.blocks_mined_at").refused
