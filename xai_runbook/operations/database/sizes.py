"""Sizes of databases and tables, bloat, disk headroom, and cache hits."""

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
    """Return the size of each database of this server, and of the WAL, which belongs to none; largest first.

    Columns: name, kind (database, wal), size_bytes (missing if the role may not read it).
    Source: runbook, Database Maintenance (its line pretty-prints, covers one database, and needs -d; errata E26, E27);
    PostgreSQL docs, pg_database_size, pg_ls_waldir.
    """
    from pandas import DataFrame, concat

    try:
        wal = database.frame("wal_size")
    except AccessDenied:
        wal = DataFrame([{"name": "WAL", "kind": "wal", "size_bytes": None}])
    frame = concat([database.frame("database_sizes"), wal], ignore_index=True).astype({"size_bytes": float})
    return frame.sort_values("size_bytes", ascending=False, ignore_index=True)


def table_sizes(database: Database, *, max_rows: int = 10) -> DataFrame:
    """Return the largest tables and materialized views; a partitioned table is the sum of its partitions.

    Columns: name (schema.table), kind, partitions (count; missing for others), total_bytes (also the free space and
    visibility maps), heap_bytes, index_bytes, toast_bytes, estimated_rows, dead_rows (both estimates), oid.
    Source: runbook, Database Maintenance (its line concatenates unquoted names, so that one name in mixed case makes it
    fail; errata E30); PostgreSQL docs, pg_total_relation_size, pg_partition_tree.
    """
    return database.frame("table_sizes", {"max_rows": max_rows})


def bloat(database: Database, *, max_rows: int = 20) -> DataFrame:
    """Return the tables with the most space without live rows, by pgstattuple_approx or an estimate.

    pgstattuple_approx skips pages that are all visible and uses the free space map for them. Without the extension it
    is an estimate from average column widths, for tables whose statistics the role may read; `method` says which. Some
    free space is normal, since updates reuse it.
    Columns: name, heap_bytes, live_rows, dead_bytes (missing if estimated), free_bytes, free_ratio, method.
    Source: PostgreSQL docs, pgstattuple_approx, pg_stats.
    """
    extensions = database.rows("extension_schema", {"name": "pgstattuple"})
    if not extensions:
        return database.frame("bloat_estimate", {"max_rows": max_rows})
    return database.frame("bloat", {"max_rows": max_rows}, {"schema": (str(extensions[0]["schema"]),)})


def disk_headroom(prometheus: Prometheus, limits: Limits) -> DataFrame:
    """Return how far the free space of each filesystem is above `limits.monitoring.disk_free`.

    Columns: the labels, available_ratio, headroom_ratio (negative: less free space than the limit). Errors: NoData.
    """
    limit = limits.monitoring.disk_free
    frame = prometheus.instant(prometheus.settings.promql(limit.name))
    if frame.empty:
        raise NoData(
            "no filesystem metrics found",
            on=prometheus.url,
            hint="is node_exporter scraped? limits.monitoring.disk_free",
        )
    return frame.rename(columns={"value": "available_ratio"}).assign(headroom_ratio=frame["value"] - limit.threshold)


def cache_hit(database: Database) -> DataFrame:
    """Return one row: the share of block reads of this database that shared buffers served.

    Columns: target, hits, reads (blocks; from the kernel's cache or from disk), hit_ratio, since (the statistics'
    reset; missing if never). Source: PostgreSQL docs, pg_stat_database.
    """
    return database.frame("cache_hit")


def check_cache_hit(cache_hit: DataFrame, limit: Limit) -> Finding:
    """Return `alert` if the hit ratio is below the limit, and `unknown` if nothing has been read yet."""
    return judge(limit, cache_hit, value="hit_ratio", target="target", noun="of block reads were cache hits")
