"""Section 3 of the runbook: how large the database is, how much of it is air, how much comes from memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xai_runbook.errors import AccessDenied, NoData
from xai_runbook.model.findings import Finding, Limit, judge

if TYPE_CHECKING:
    from pandas import DataFrame

    from xai_runbook.clients.postgres.reader import Database
    from xai_runbook.clients.prometheus.client import Prometheus
    from xai_runbook.settings.limits import Limits


def database_sizes(database: Database) -> DataFrame:
    """A row a database of this server, and one for the WAL, which counts to none of them; largest first.

    Columns: name, kind (database, wal), size_bytes (missing where the role may not look).
    Source: runbook, Database Maintenance (its line pretty-prints, leaves out the rest of the server, and needs -d;
    errata E26, E27); PostgreSQL docs, pg_database_size, pg_ls_waldir.
    """
    from pandas import DataFrame, concat

    try:
        wal = database.frame("wal_size")
    except AccessDenied:
        wal = DataFrame([{"name": "WAL", "kind": "wal", "size_bytes": None}])
    every = concat([database.frame("database_sizes"), wal], ignore_index=True).astype({"size_bytes": float})
    return every.sort_values("size_bytes", ascending=False, ignore_index=True)


def table_sizes(database: Database, *, most: int = 10) -> DataFrame:
    """The `most` largest tables and materialized views of this database; a partitioned one is the sum of its parts.

    Columns: name (schema.table), kind, partitions (count; missing for others), total_bytes, heap_bytes, index_bytes,
    toast_bytes (total also has the small maps), estimated_rows, dead_rows (both the statistics' estimates), oid.
    Source: runbook, Database Maintenance (its line pastes names together, so that one name in mixed case makes it fail;
    errata E30); PostgreSQL docs, pg_total_relation_size, pg_partition_tree.
    """
    return database.frame("table_sizes", {"most": most})


def bloat(database: Database, *, most: int = 20) -> DataFrame:
    """The tables with the most space that holds no live row, by the extension pgstattuple; an approximation.

    It skips what the visibility map calls all visible, and believes the free space map there. Without the extension,
    a guess from the columns' average widths, for tables whose statistics the role may read: `by` says which. Some free
    space is no fault: updates use it.
    Columns: name, heap_bytes, live_rows, dead_bytes (missing where guessed), free_bytes, free_ratio, by.
    Source: PostgreSQL docs, pgstattuple_approx, pg_stats.
    """
    extensions = database.rows("extension_schema", {"name": "pgstattuple"})
    if not extensions:
        return database.frame("bloat_guessed", {"most": most})
    return database.frame("bloat", {"most": most}, {"schema": (str(extensions[0]["schema"]),)})


def disk_room(prometheus: Prometheus, limits: Limits) -> DataFrame:
    """A row a filesystem: how much more of it is available than `limits.monitoring.disk_free` asks for.

    Columns: the labels, available_ratio, spare_ratio (below 0: less than the limit). Errors: NoData.
    """
    limit = limits.monitoring.disk_free
    told = prometheus.instant(prometheus.settings.promql(limit.name))
    if told.empty:
        raise NoData(
            "no filesystem is measured", on=prometheus.url, hint="is node_exporter scraped? limits.monitoring.disk_free"
        )
    return told.rename(columns={"value": "available_ratio"}).assign(spare_ratio=told["value"] - limit.threshold)


def cache_hit(database: Database) -> DataFrame:
    """One row: how much of what this database's sessions wanted was in PostgreSQL's own memory.

    Columns: target, hits, reads (blocks; from the kernel's cache or from disk), hit_ratio, since (when the statistics
    were reset; missing where never). Source: PostgreSQL docs, pg_stat_database.
    """
    return database.frame("cache_hit")


def check_cache_hit(cache_hit: DataFrame, limit: Limit) -> Finding:
    """`alert` where less than the limit came from memory; `unknown` where nothing was wanted yet."""
    return judge(limit, cache_hit, value="hit_ratio", target="target", noun="of the blocks wanted were in memory")
