"""Invalid, unused, duplicate and missing indexes on a real server, and plans that create or drop one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.support import clusters
from xai_runbook.environment import Environment
from xai_runbook.errors import InputError
from xai_runbook.model.findings import Finding, Status
from xai_runbook.model.plans import Call
from xai_runbook.operations.database import indexes
from xai_runbook.sandbox.components import programs
from xai_runbook.settings.loading import load
from xai_runbook.sql import statement

pytestmark = pytest.mark.skipif(programs.find("postgres") is None, reason="no PostgreSQL found")
LIMITS = load("sandbox").limits
OPERATOR = {"operator": {"user": "xai_operator"}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[clusters.Cluster]:
    with clusters.primary(tmp_path_factory.mktemp("indexes")) as cluster:
        yield cluster


def invalid(server: clusters.Cluster) -> Finding:
    with server.handle() as handle:
        return indexes.check_invalid_indexes(indexes.indexes(handle), LIMITS.database.indexes_valid)


def test_a_healthy_database(env: Environment) -> None:
    frame = indexes.indexes(env.database)
    assert len(indexes.indexes(env.database, max_rows=3)) == 3 and (frame["total_count"] == len(frame)).all()
    finding = indexes.check_invalid_indexes(frame, env.limits.database.indexes_valid)
    assert (finding.status, finding.targets) == (Status.OK, ())
    assert finding.summary == f"0 of {len(frame)} indexes invalid"
    assert "public.blocks_pkey" in set(frame["name"]) and not [n for n in frame["name"] if n.startswith("pg_")]


def test_an_index_of_a_failed_build_is_named(server: clusters.Cluster) -> None:
    """A concurrent build of a unique index that found two equal rows."""
    with server.superuser() as connection:
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute("CREATE UNIQUE INDEX CONCURRENTLY by_kind ON transactions (kind)")
        finding = invalid(server)
        assert (finding.status, finding.targets) == (Status.ALERT, ("public.by_kind",))
        assert "public.by_kind" in finding.summary and finding.hint
        connection.execute("DROP INDEX by_kind")
    assert invalid(server).status is Status.OK


def test_an_index_being_built_is_ok(server: clusters.Cluster) -> None:
    """The build waits for an open transaction; until then the index exists and is not valid."""

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

            def new_index() -> dict[str, Any] | None:
                with server.handle() as handle:
                    rows = indexes.indexes(handle).query("name == 'public.being_built'").to_dict("records")
                return rows[0] if rows else None

            row = clusters.eventually(new_index)
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
    from xai_runbook.operations.database import maintenance

    return maintenance.drop_invalid_indexes(handle, indexes=[name])


def test_duplicate_and_unused_indexes(server: clusters.Cluster) -> None:
    with server.superuser() as connection:
        connection.execute(
            """
            CREATE TABLE t (a int PRIMARY KEY, b int, c text);
            CREATE INDEX t_a ON t (a);                               -- as the primary key
            CREATE INDEX t_b ON t (b);                               -- the first column of t_b_c
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
        duplicates = indexes.duplicate_indexes(handle)
        unused = set(indexes.unused_indexes(handle, max_rows=100)["name"])
    pairs = {(row["name"], row["covered_by"]) for row in duplicates.to_dict("records")}
    assert ("public.t_a", "public.t_pkey") in pairs and ("public.t_b", "public.t_b_c") in pairs
    assert {("public.t_c_again", "public.t_c"), ("public.t_lower_again", "public.t_lower")} <= pairs
    named = {name for name, _ in pairs}
    assert named == {f"public.t_{short}" for short in ("a", "b", "c", "c_again", "lower_again")}
    assert ("public.t_c", "public.t_c_b") in pairs, "a unique index covers it too"
    assert {"public.t_b", "public.t_upper"} <= unused
    assert not {"public.t_pkey", "public.t_c_b"} & unused, "a unique index is never unused"


F16_PAIRS = {
    "the replica identity": "CREATE UNIQUE INDEX one ON f (a); CREATE UNIQUE INDEX two ON f (a);"
    " ALTER TABLE f REPLICA IDENTITY USING INDEX one",
    "the replica identity beside the key": "ALTER TABLE f ADD PRIMARY KEY (a); CREATE UNIQUE INDEX one ON f (a);"
    " ALTER TABLE f REPLICA IDENTITY USING INDEX one",
    "clustered on": "CREATE INDEX one ON f (a); CREATE INDEX two ON f (a, b); ALTER TABLE f CLUSTER ON one",
    "NULLS NOT DISTINCT": "CREATE UNIQUE INDEX one ON f (a); CREATE UNIQUE INDEX two ON f (a) NULLS NOT DISTINCT",
    "deferrable": "ALTER TABLE f ADD UNIQUE (a) DEFERRABLE; CREATE UNIQUE INDEX one ON f (a)",
    "class": "CREATE INDEX one ON f (c); CREATE INDEX two ON f (c text_pattern_ops)",
    "parameters of a class": "CREATE INDEX one ON f USING gist (v tsvector_ops (siglen = 12));"
    " CREATE INDEX two ON f USING gist (v tsvector_ops (siglen = 256))",
    "parameters of BRIN": "CREATE INDEX one ON f USING brin (a) WITH (pages_per_range = 4);"
    " CREATE INDEX two ON f USING brin (a) WITH (pages_per_range = 128)",
    "parameters of a class of BRIN": "CREATE INDEX one ON f USING brin (a int4_bloom_ops (false_positive_rate = 0.01));"
    " CREATE INDEX two ON f USING brin (a int4_bloom_ops)",
    "options of GIN": "CREATE INDEX one ON f USING gin (v) WITH (fastupdate = off);"
    " CREATE INDEX two ON f USING gin (v)",
    "collation": 'CREATE INDEX one ON f (c); CREATE INDEX two ON f (c COLLATE "POSIX")',
    "order": "CREATE INDEX one ON f (a, b); CREATE INDEX two ON f (a, b DESC)",
    "NULLS FIRST": "CREATE INDEX one ON f (a); CREATE INDEX two ON f (a NULLS FIRST)",
    "INCLUDE": "CREATE INDEX one ON f (a) INCLUDE (b); CREATE INDEX two ON f (a)",
    "condition": "CREATE INDEX one ON f (a) WHERE b > 0; CREATE INDEX two ON f (a) WHERE b > 1",
    "expression": "CREATE INDEX one ON f ((a + 1)); CREATE INDEX two ON f ((a + 2))",
    "an expression's statistics": "CREATE INDEX two ON f ((a + 1)); CREATE INDEX one ON f ((a + 1));"
    " ALTER INDEX one ALTER COLUMN 1 SET STATISTICS 1000; ALTER INDEX two ALTER COLUMN 1 SET STATISTICS 10",
    "unique": "CREATE UNIQUE INDEX one ON f (a); CREATE UNIQUE INDEX two ON f (a, b); CREATE INDEX three ON f (b, a)",
    "method": "CREATE INDEX one ON f (a); CREATE INDEX two ON f USING hash (a)",
    "the first of several, in an unordered method": "CREATE INDEX one ON f USING gin (v);"
    " CREATE INDEX two ON f USING gin (v, w)",
    "a foreign key's target": "CREATE UNIQUE INDEX two ON f (a); CREATE TABLE g (a int REFERENCES f (a));"
    " CREATE UNIQUE INDEX one ON f (a); ALTER TABLE f REPLICA IDENTITY USING INDEX one",
    "of a partitioned table": "CREATE TABLE g (a int, b int) PARTITION BY LIST (b);"
    " CREATE TABLE g1 PARTITION OF g DEFAULT; CREATE INDEX one ON g (a); CREATE INDEX two ON g (a)",
}
"""Differences that make two indexes no duplicates of each other."""


@pytest.fixture
def own_table(server: clusters.Cluster) -> Iterator[psycopg.Connection[Any]]:
    with server.superuser() as connection:
        connection.execute("CREATE SCHEMA own AUTHORIZATION xai_owner")
        connection.execute("SET search_path = own")
        connection.execute("SET ROLE xai_owner")
        connection.execute("CREATE TABLE f (a int NOT NULL, b int, c text, v tsvector, w tsvector)")
        yield connection
        connection.execute("DROP SCHEMA own CASCADE")


def named_in_own(frame: Any) -> set[str]:
    return {name for name in frame["name"] if name.startswith("own.")}


@pytest.mark.parametrize("difference", F16_PAIRS)
def test_f16_an_index_that_differs_or_is_required_is_no_duplicate(
    server: clusters.Cluster, own_table: psycopg.Connection[Any], difference: str
) -> None:
    if "NULLS NOT" in difference and own_table.info.server_version < 150000:
        pytest.skip("since 15")
    for each in F16_PAIRS[difference].split("; "):
        own_table.execute(each.encode())
    with server.handle() as handle:
        listed = named_in_own(indexes.duplicate_indexes(handle, max_rows=100))
    # of two equal indexes of which one is required, the other is a duplicate
    assert listed == ({"own.two"} if difference == "the replica identity" else set())


def test_f16_the_required_one_of_equal_indexes_covers_the_others(
    server: clusters.Cluster, own_table: psycopg.Connection[Any]
) -> None:
    own_table.execute("CREATE INDEX older ON f (a) WITH (fillfactor = 70); CREATE INDEX younger ON f (a)")
    own_table.execute("ALTER TABLE f CLUSTER ON younger")
    own_table.execute("CREATE INDEX siglen ON f USING gist (v tsvector_ops (siglen = 12))")
    own_table.execute("CREATE INDEX siglen_again ON f USING gist (v tsvector_ops (siglen = 12))")
    with server.handle() as handle:
        duplicates = indexes.duplicate_indexes(handle, max_rows=100)
    pairs = {(row["name"], row["covered_by"]) for row in duplicates.to_dict("records")}
    assert {("own.older", "own.younger"), ("own.siglen_again", "own.siglen")} <= pairs
    assert named_in_own(duplicates) == {"own.older", "own.siglen_again"}


F16_HELD = {
    "CREATE UNIQUE INDEX i ON f (a); ALTER TABLE f REPLICA IDENTITY USING INDEX i": "the replica identity of own.f",
    "CREATE INDEX i ON f (a); ALTER TABLE f CLUSTER ON i": "own.f is clustered on it",
    "ALTER TABLE f ADD CONSTRAINT i UNIQUE (a)": "it backs a constraint: drop i instead",
    "ALTER TABLE f ADD CONSTRAINT i EXCLUDE USING btree (a WITH =)": "it backs a constraint",
    "CREATE UNIQUE INDEX i ON f (a); CREATE TABLE g (a int CONSTRAINT fk REFERENCES f (a))": "foreign key fk of own.g",
    "CREATE TABLE g (a int) PARTITION BY LIST (a); CREATE INDEX i ON g (a)": "a partitioned table",
    "CREATE TABLE g (a int) PARTITION BY LIST (a); CREATE TABLE p PARTITION OF g DEFAULT; CREATE INDEX i ON p (a);"
    " CREATE INDEX whole ON g (a)": "part of the partitioned index own.whole",
    "CREATE INDEX i ON f ((a + 1)); ALTER INDEX i ALTER COLUMN 1 SET STATISTICS 1000": "its own statistics target",
    "CREATE MATERIALIZED VIEW m AS SELECT a FROM f; CREATE UNIQUE INDEX i ON m (a)": "REFRESH MATERIALIZED VIEW",
    "CREATE INDEX i ON f (a); RESET ROLE; ALTER EXTENSION amcheck ADD TABLE f": "it belongs to extension amcheck",
}
"""Statements after which index own.i is required, and why."""


@pytest.mark.parametrize("statements", F16_HELD)
def test_f16_a_required_index_is_not_dropped(
    server: clusters.Cluster, own_table: psycopg.Connection[Any], statements: str
) -> None:
    for each in statements.split("; "):
        own_table.execute(each.encode())
    try:
        with server.handle(**OPERATOR) as handle:
            plan = indexes.drop_index(handle, index="own.i")
            assert not plan.steps and F16_HELD[statements] in plan.refused
            assert "own.i" not in named_in_own(indexes.unused_indexes(handle, max_rows=1000))
    finally:
        if "EXTENSION" in statements:
            own_table.execute("ALTER EXTENSION amcheck DROP TABLE f")


def test_f16_requirements_are_checked_again_before_dropping(
    server: clusters.Cluster, own_table: psycopg.Connection[Any]
) -> None:
    own_table.execute("CREATE UNIQUE INDEX i ON f (a)")
    with server.handle(**OPERATOR) as handle:
        (step,) = indexes.drop_index(handle, index="own.i").steps
    assert step.kind == "sql"
    precondition = statement(step.precondition, own_table.info.server_version // 10000)

    def holds() -> bool:
        (row,) = own_table.execute(precondition, step.parameters).fetchall()
        return bool(row[0])

    assert holds()
    own_table.execute("ALTER TABLE f REPLICA IDENTITY USING INDEX i")
    assert not holds()


def test_f16_an_index_of_another_class_or_order_is_not_the_same(
    server: clusters.Cluster, own_table: psycopg.Connection[Any]
) -> None:
    for other in ("(c text_pattern_ops)", '(c COLLATE "POSIX")', "(a) INCLUDE (c)", "(a, c DESC)", "(a) WHERE a > 0"):
        own_table.execute(f"CREATE INDEX i ON f {other}".encode())
        with server.handle(**OPERATOR) as handle:
            assert indexes.create_index(handle, table="own.f", columns=["c"]).steps
            assert indexes.create_index(handle, table="own.f", columns=["a", "c"]).steps, other
        own_table.execute("DROP INDEX i")


def test_suggested_indexes_have_evidence(server: clusters.Cluster) -> None:
    with server.superuser() as connection:
        connection.execute('CREATE TABLE "Refers" (n int, "To" text REFERENCES wallets, too text REFERENCES wallets)')
        connection.execute('INSERT INTO "Refers" SELECT n, NULL, NULL FROM generate_series(1, 2000) n')
        connection.execute('CREATE INDEX ON "Refers" (too) WHERE too IS NOT NULL')
        connection.execute('ANALYZE "Refers"')
    with server.superuser() as connection:
        for _ in range(12):
            connection.execute('SELECT count(*) FROM "Refers" WHERE n = 5')

    def suggested() -> list[dict[str, Any]]:
        with server.handle() as handle:
            frame = indexes.suggested_indexes(handle, min_seq_scans=10)
        rows: list[dict[str, Any]] = frame[frame["table"] == "public.Refers"].to_dict("records")
        return rows if len(rows) == 2 else []

    key, read = sorted(clusters.eventually(suggested), key=lambda row: row["statement"] is None)
    assert key["columns"] == ["To"] and key["evidence"].startswith("foreign key ")
    assert key["statement"] == 'CREATE INDEX CONCURRENTLY ON public."Refers" ("To")'
    assert read["columns"] is None and "sequential scans" in read["evidence"] and read["seq_scans"] >= 10
    with server.superuser() as connection:
        connection.execute(key["statement"])
    with server.handle() as handle:
        again = indexes.suggested_indexes(handle, min_seq_scans=10)
    assert "To" not in str(again["columns"].to_list())


# --- plans ------------------------------------------------------------------------------------------------------


def test_a_plan_needs_existing_columns(server: clusters.Cluster) -> None:
    with server.handle(**OPERATOR) as handle:
        plan = indexes.create_index(handle, table="public.blocks", columns=["miner", "height"])
        assert plan.steps and plan.targets == ("index public.blocks_miner_height_idx on miner, height",)
        assert '"blocks_miner_height_idx" ON "public"."blocks" ("miner", "height")' in str(plan)
        assert plan.undo == Call(
            change="database.drop_index",
            arguments={"index": "public.blocks_miner_height_idx", "table_oid": plan.observed[0]["oid"]},
        )
        for columns in (["no_such"], [], ["miner", "miner"], ["ctid"], ["miner) WHERE (true"]):
            with pytest.raises(InputError, match=r"has no columns|needs at least one column"):
                indexes.create_index(handle, table="public.blocks", columns=columns)
        for table in ("blocks", "public.BLOCKS", "public.no_such", 'public"."blocks', "pg_catalog.pg_stat_activity"):
            with pytest.raises(InputError, match="there are no tables named"):
                indexes.create_index(handle, table=table, columns=["miner"])
        assert indexes.create_index(handle, columns=[]).note == "no table was named"


def test_an_existing_index_is_not_created_again(server: clusters.Cluster) -> None:
    with server.handle(**OPERATOR) as handle:
        for columns in (["mined_at"], ["height"]):
            plan = indexes.create_index(handle, table="public.blocks", columns=columns)
            assert not plan.steps and "begins with these columns" in plan.note
        (partial,) = [indexes.create_index(handle, table="public.transactions", columns=["sender"])]
        assert partial.steps, "a partial index does not serve every statement"


def test_long_names_are_shortened_between_characters(server: clusters.Cluster) -> None:
    with server.superuser() as connection:
        connection.execute('SET ROLE xai_owner; CREATE TABLE "überlänge" (n int, "%s" int)' % ("ö" * 30))
    with server.handle(**OPERATOR) as handle:
        plan = indexes.create_index(handle, table="public.überlänge", columns=["ö" * 30])
    (name,) = plan.steps[0].identifiers["index"]  # type: ignore[union-attr]
    assert len(name.encode()) in (62, 63) and name.startswith("überlänge_ö") and name.endswith("ö_idx")


def test_missing_ownership_is_noticed_when_planning(server: clusters.Cluster) -> None:
    with server.superuser() as connection:
        connection.execute("CREATE TABLE of_another (n int)")
        connection.execute("CREATE INDEX of_another_n ON of_another (n)")
    with server.handle(**OPERATOR) as handle:
        plan = indexes.create_index(handle, table="public.of_another", columns=["n"])
        assert "its owner is xai_superuser" in plan.refused or "begins with" in plan.note
        plan = indexes.drop_index(handle, index="public.of_another_n")
        assert "does not own" in plan.refused
        assert "backs a constraint" in indexes.drop_index(handle, index="public.blocks_pkey").refused
        assert not indexes.drop_index(handle).steps
    with server.handle() as handle:
        assert "operator" in indexes.drop_index(handle, index="public.blocks_mined_at").refused
