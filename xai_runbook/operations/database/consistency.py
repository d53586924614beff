"""Corruption checks: data checksums, and amcheck of tables and B-trees.

The runbook's "REPAIR TABLE" is MySQL's: PostgreSQL cannot repair rows. A damaged index is rebuilt (REINDEX), a damaged
table restored from a backup. Check first, since REINDEX removes the evidence.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from xai_runbook.errors import AccessDenied, BadAnswer, Damaged, NoData, NotConfigured, TimedOut, inert
from xai_runbook.model.findings import Finding, Limit, Status, judge
from xai_runbook.model.units import quantity

if TYPE_CHECKING:
    from pandas import DataFrame

    from xai_runbook.clients.postgres.reader import Database

_COLUMNS = ("relation", "kind", "size_bytes", "seconds", "damaged", "damage", "error")


def checksums(database: Database) -> DataFrame:
    """Return the checksum failures of each database of the server, and of the shared catalogs.

    Columns: database, checksums_on, failures (pages, since counted_since; NaN if checksums are off), last_failed_at,
    counted_since, error. Checksums are verified when a page is read from disk, so unread damage is not counted.
    Source: runbook, Quick Decision Tree (E73); PostgreSQL docs, pg_stat_database.
    """
    frame = database.frame("checksums")
    off = (
        "data checksums are off, so damaged pages go unnoticed (run pg_checksums --enable while the server is stopped)"
    )
    return frame.astype({"failures": float}).assign(error=["" if on else off for on in frame["checksums_on"]])


def examination(database: Database, *, tables: Sequence[str] = ()) -> DataFrame:
    """Run amcheck on each of `tables` and on their B-trees; without `tables`, on those in the settings.

    Columns: relation, kind (table or index), size_bytes, seconds, damaged (1 or 0; NaN if unknown, then `error` says
    why), damage (the first finding of amcheck), error. Each relation is read completely under an ACCESS SHARE lock,
    within the database's timeout; check large tables on a standby or on a restored backup. Before server 14 only
    indexes are checked. Errors: NotConfigured if no table is named, NoData without the extension.
    Source: runbook, Quick Decision Tree (E73); PostgreSQL docs, amcheck.
    """
    from pandas import DataFrame

    named = list(tables or database.settings.examined_tables)
    if not named:
        raise NotConfigured(
            "no tables to examine are configured", on="examined_tables", hint="set examined_tables in [database]"
        )
    extension = database.rows("amcheck")
    if not extension:
        raise NoData(
            "the extension amcheck is not installed in this database",
            on=database.address,
            hint="CREATE EXTENSION amcheck, as a superuser, and GRANT EXECUTE on its functions to the reader's role",
        )
    relations = database.rows("examined_relations", {"tables": named})
    absent = sorted(set(named) - {relation["requested_name"] for relation in relations})
    rows = [_amcheck(database, relation, extension[0]) for relation in relations]
    rows += [_row({"relation": name, "kind": "table"}, error="the table does not exist") for name in absent]
    return DataFrame([row for row in rows if row], columns=list(_COLUMNS))


def check_checksums(checksums: DataFrame, limit: Limit) -> Finding:
    """Return `alert` if a page of any database failed its checksum, and `unknown` if checksums are off."""
    return judge(limit, checksums, value="failures", target="database", noun="pages with a wrong checksum")


def check_consistency(examination: DataFrame, limit: Limit) -> Finding:
    """Return `alert` if more relations than the limit are damaged, and `unknown` if one could not be checked."""
    damaged = examination[examination["damaged"] == 1]
    if not limit.exceeded(len(damaged)):
        finding = judge(limit, examination, value="damaged", target="relation", noun="relations damaged")
        if finding.status is not Status.OK:
            return finding
        size = quantity(float(examination["size_bytes"].sum()), "bytes")
        summary, status = f"{len(examination)} tables and indexes ({size}) are intact", Status.OK
    else:
        first = "; ".join(f"{row.relation}: {row.damage}" for row in damaged.head(3).itertuples())
        summary, status = f"{len(damaged)} of {len(examination)} damaged: {first}", Status.ALERT
    return Finding(
        name=limit.name,
        status=status,
        severity=limit.severity,
        summary=inert(summary),
        targets=tuple(inert(name, 200) for name in damaged["relation"]),
        hint=limit.hint,
    )


def _amcheck(database: Database, relation: Mapping[str, Any], extension: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the row of one relation; None for a table if this server's amcheck supports indexes only."""
    kind, schema = relation["kind"], extension["schema"]
    if kind == "table" and not extension["supports_tables"]:
        return None
    if not extension[f"may_examine_{'tables' if kind == 'table' else 'indexes'}"]:
        function = f"{schema}.verify_heapam" if kind == "table" else f"{schema}.bt_index_check(regclass, boolean)"
        return _row(relation, error=f"the role may not run amcheck: GRANT EXECUTE ON FUNCTION {function} to it")
    started = time.monotonic()
    try:
        findings = database.rows(f"examine_{kind}", {"oid": relation["oid"]}, {"schema": (schema,)})
    except Damaged as error:
        damage = error.what.removeprefix("stored data is damaged: ")
        return _row(relation, damage=damage, seconds=time.monotonic() - started)
    except (TimedOut, AccessDenied, BadAnswer) as error:
        return _row(relation, error=error.what)
    damage = (
        "" if kind == "index" or not findings else f"page {findings[0]['page']}: {inert(findings[0]['damage'], 200)}"
    )
    return _row(relation, damage=damage, seconds=time.monotonic() - started)


def _row(
    relation: Mapping[str, Any], *, damage: str = "", error: str = "", seconds: float = math.nan
) -> dict[str, Any]:
    return {
        "relation": relation["relation"],
        "kind": relation["kind"],
        "size_bytes": relation.get("size_bytes", math.nan),
        "seconds": seconds,
        "damaged": math.nan if error else float(bool(damage)),
        "damage": damage,
        "error": error,
    }
