"""Section 3 of the runbook: is what the database has stored still what was written?

The runbook's "REPAIR TABLE" is MySQL's: PostgreSQL has no such statement, and nothing that would repair a row. A
damaged index is built anew (REINDEX), a damaged table comes back from a backup. Look first: a REINDEX removes the
evidence.
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
    """A row for each database of the server, and one for what they share: pages whose checksum did not fit.

    Columns: database, checksums_on, failures (pages, since counted_since; NaN where checksums are off), last_failed_at,
    counted_since, error. A page counts when it is read from disk: one that nobody reads is not noticed.
    Source: runbook, Quick Decision Tree (E73); PostgreSQL docs, pg_stat_database.
    """
    told = database.frame("checksums")
    off = "data checksums are off, so a damaged page is not noticed (pg_checksums --enable, while the server is down)"
    return told.astype({"failures": float}).assign(error=["" if on else off for on in told["checksums_on"]])


def examination(database: Database, *, tables: Sequence[str] = ()) -> DataFrame:
    """A row for each table and B-tree that was looked through whole; without `tables`, those that the settings name.

    Columns: relation, kind (table or index), size_bytes, seconds, damaged (1, 0; NaN where it cannot be told, then
    `error` says why), damage (what amcheck found first), error. Each is read whole under a reader's lock, within the
    database's timeout; on a big table this costs, so ask a standby or a restored backup about those. Tables are
    looked through on server 14 and later, on older ones their indexes alone. Errors: NotConfigured where no table is
    named, NoData where the extension is not there. Source: runbook, Quick Decision Tree (E73); PostgreSQL docs,
    amcheck.
    """
    from pandas import DataFrame

    named = list(tables or database.settings.examined_tables)
    if not named:
        raise NotConfigured(
            "no table is named that would be examined", on="examined_tables", hint="examined_tables in [database]"
        )
    found = database.rows("amcheck")
    if not found:
        raise NoData(
            "the extension amcheck is not in this database",
            on=database.address,
            hint="CREATE EXTENSION amcheck, as a superuser, and GRANT EXECUTE on its functions to the monitor's role",
        )
    relations = database.rows("examined_relations", {"tables": named})
    absent = sorted(set(named) - {relation["named"] for relation in relations})
    rows = [_examined(database, relation, found[0]) for relation in relations]
    rows += [_row({"relation": name, "kind": "table"}, error="there is no such table") for name in absent]
    return DataFrame([row for row in rows if row], columns=list(_COLUMNS))


def check_checksums(checksums: DataFrame, limit: Limit) -> Finding:
    """`alert` where a page of any database did not fit its checksum; unknown where checksums are off."""
    return judge(limit, checksums, value="failures", target="database", noun="pages with a wrong checksum")


def check_consistency(examination: DataFrame, limit: Limit) -> Finding:
    """`alert` where more relations than the limit are damaged; unknown where one could not be looked through."""
    damaged = examination[examination["damaged"] == 1]
    if not limit.exceeded(len(damaged)):
        whole = judge(limit, examination, value="damaged", target="relation", noun="relations damaged")
        if whole.status is not Status.OK:
            return whole
        size = quantity(float(examination["size_bytes"].sum()), "bytes")
        summary, status = f"{len(examination)} tables and indexes ({size}) are whole", Status.OK
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


def _examined(database: Database, relation: Mapping[str, Any], amcheck: Mapping[str, Any]) -> dict[str, Any] | None:
    """What came of looking through one relation; None for a table on a server whose amcheck knows none."""
    kind, schema = relation["kind"], amcheck["schema"]
    if kind == "table" and not amcheck["knows_tables"]:
        return None
    if not amcheck[f"may_examine_{'tables' if kind == 'table' else 'indexes'}"]:
        function = f"{schema}.verify_heapam" if kind == "table" else f"{schema}.bt_index_check(regclass, boolean)"
        return _row(relation, error=f"the role may not run amcheck: GRANT EXECUTE ON FUNCTION {function} to it")
    started = time.monotonic()
    try:
        told = database.rows(f"examine_{kind}", {"oid": relation["oid"]}, {"schema": (schema,)})
    except Damaged as error:
        damage = error.what.removeprefix("stored data is damaged: ")
        return _row(relation, damage=damage, seconds=time.monotonic() - started)
    except (TimedOut, AccessDenied, BadAnswer) as error:
        return _row(relation, error=error.what)
    damage = "" if kind == "index" or not told else f"page {told[0]['page']}: {inert(told[0]['damage'], 200)}"
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
