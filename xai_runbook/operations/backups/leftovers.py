"""What interrupted restores, backups and index builds leave behind, and its removal. Runbook, Backup and Restore."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xai_runbook.model.plans import Command, Condition, Plan, Risk, change
from xai_runbook.model.scalars import facts
from xai_runbook.model.units import quantity

if TYPE_CHECKING:
    from pandas import DataFrame

    from xai_runbook.clients.backups import Backups
    from xai_runbook.clients.postgres.reader import Database

_COLUMNS = ["name", "size_bytes", "oid", "keep_reason"]


def leftover_databases(database: Database) -> DataFrame:
    """Return the databases that interrupted restores left in the server.

    Columns: name, size_bytes, oid, keep_reason (why it cannot be removed; empty if it has our mark, is not being
    restored and has no sessions).
    """
    from pandas import DataFrame

    rows = []
    for row in database.rows("leftover_databases"):
        reason = (
            "it is not marked as a leftover: drop it by hand if it is not needed" if not row["marked"]
            else "it is being restored right now" if row["in_use"]
            else f"it has {row['sessions_count']} sessions" if row["sessions_count"]
            else ""
        )  # fmt: skip
        rows.append((row["name"], row["size_bytes"], row["oid"], reason))
    return DataFrame(rows, columns=_COLUMNS)


def leftover_files(backups: Backups) -> DataFrame:
    """Return what killed runs left in the folder of backups. Columns: name, size_bytes, oid and keep_reason (empty)."""
    from pandas import DataFrame

    rows = [(name, size, "", "") for name, size in backups.leftovers().items()]
    return DataFrame(rows, columns=_COLUMNS)


def invalid_indexes(database: Database) -> DataFrame:
    """Return invalid indexes that are not being built, such as those of an interrupted REINDEX.

    `database.drop_invalid_indexes` removes them. Columns: name, size_bytes, oid, keep_reason (empty).
    """
    from pandas import DataFrame

    invalid = [row for row in database.rows("indexes", {"max_rows": 200}) if not row["valid"] and not row["building"]]
    rows = [(row["name"], row["size_bytes"], str(row["oid"]), "") for row in invalid]
    return DataFrame(rows, columns=_COLUMNS)


def remaining_leftovers(database: Database, backups: Backups, *, oids: list[str], files: list[str]) -> DataFrame:
    """Return one row: left_count, how many of these databases and files still exist."""
    from pandas import DataFrame

    remaining = [*leftover_databases(database)["oid"], *leftover_files(backups)["name"]]
    return DataFrame([{"left_count": sum(each in remaining for each in (*oids, *files))}])


@change
def remove_leftovers(database: Database, backups: Backups) -> Plan:
    """Return a Plan that removes the databases and files that interrupted restores and backups left.

    It removes databases by their oids, and only those with our mark that are not being restored and have no sessions;
    the note names the others. Source: catalogue, restore_database.
    """
    databases, files = leftover_databases(database), leftover_files(backups)
    notes = [f"{row['name']} stays: {row['keep_reason']}" for _, row in databases.iterrows() if row["keep_reason"]]
    databases = databases[databases["keep_reason"] == ""]
    found = [*databases.to_dict("records"), *files.to_dict("records")]
    oids, names = [str(oid) for oid in databases["oid"]], [str(name) for name in files["name"]]
    step = Command(
        argv=(
            "python", "-m", "xai_runbook.pgbackup", "remove", "--folder", str(backups.folder),
            *(f"{row['oid']}={row['name']}" for _, row in databases.iterrows()),
        ),
        environment={},
        seconds="10m",
        roles=("database.operator",),
        effects_survive_kill=True,
        equivalent="; ".join(
            [f"dropdb {name}" for name in databases["name"]] + [f"rm -r {backups.folder / name}" for name in names]
        ),
    )  # fmt: skip
    return Plan(
        verb="remove",
        scope="leftovers",
        targets=tuple(f"{row['name']}, {quantity(float(row['size_bytes']), 'bytes')}" for row in found),
        observed=tuple(facts({"name": row["name"], "oid": row["oid"]}) for row in found),
        steps=(step,) if found else (),
        expected=Condition.of(
            remaining_leftovers, oids=oids, files=names, column="left_count",
            comparison="==", value="0", within="10s", description="all of them are removed",
        ) if found else None,
        undo="cannot be undone: the removed data is lost",
        risk=Risk.DESTRUCTIVE,
        parts={"database": "exclusive", **{f"database {oid}": "exclusive" for oid in oids}},
        note="; ".join(notes) or ("" if found else "there are no leftovers"),
    )  # fmt: skip
