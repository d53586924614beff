"""Retention of backups, and the removal of old ones. Runbook, Backup and Restore."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xai_runbook.errors import InputError
from xai_runbook.model.plans import Command, Condition, Plan, Risk, change
from xai_runbook.model.scalars import facts
from xai_runbook.model.units import quantity
from xai_runbook.model.window import duration_seconds
from xai_runbook.operations.backups.dumps import stored

if TYPE_CHECKING:
    from pandas import DataFrame

    from xai_runbook.clients.backups import Backups


def remaining_backups(backups: Backups, *, names: list[str]) -> DataFrame:
    """Return one row: left_count, how many backups of these names exist."""
    from pandas import DataFrame

    return DataFrame([{"left_count": sum(backup.name in names for backup in backups.stored())}])


def prunable(backups: Backups) -> DataFrame:
    """Return the backups that `prune` removes, oldest first.

    Of each kind the newest keep_count verified backups are kept, and all that are younger than keep_age. Unverified and
    damaged ones are removed at that age if a newer one is verified. The newest verified backup, and backups that are
    not known to be of this server and database, are never removed.
    Columns: name, kind, state, taken_at, size_bytes, why.
    """
    from pandas import DataFrame

    own = stored(backups)
    own = own[own["taken_at"].notna() & own["own"].eq(True)]
    rows = []
    for _, group in own.groupby("kind"):
        usable = group[group["usable"].astype(bool)]
        if usable.empty:
            continue
        kept = set(usable["name"].head(backups.settings.keep_count))
        newest = usable["taken_at"].iloc[0]
        for _, row in group.iterrows():
            old = row["age_seconds"] > duration_seconds(backups.settings.keep_age)
            if row["name"] not in kept and old and row["taken_at"] < newest:
                why = f"older than {backups.settings.keep_age}, and "
                why += f"{len(kept)} newer verified backups are kept" if row["usable"] else row["state"]
                rows.append({**row[["name", "kind", "state", "taken_at", "size_bytes"]].to_dict(), "why": why})
    rows.sort(key=lambda row: row["taken_at"])
    return DataFrame(rows, columns=["name", "kind", "state", "taken_at", "size_bytes", "why"])


@change
def prune(backups: Backups, *, names: list[str] | None = None) -> Plan:
    """Return a Plan that removes these backups if they are unchanged; without names, those of `prunable`.

    The newest verified backup of a kind is never removed, nor one that is not known to be of this server and database.
    Errors: InputError for such a backup, and for an unknown name. Source: catalogue, retention.
    """
    from xai_runbook.pgbackup import catalog

    chosen = list(dict.fromkeys(names)) if names else list(prunable(backups)["name"])
    existing = stored(backups)
    existing = existing[existing["state"] != "unfinished"].set_index("name", drop=False)
    if unknown := sorted(set(chosen) - set(existing.index)):
        raise InputError(
            f"there are no backups {', '.join(unknown)}", on=str(backups.folder), hint="backups.stored lists them"
        )
    foreign = existing[existing["name"].isin(chosen) & ~existing["own"].eq(True)]
    if not foreign.empty:
        raise InputError(
            "; ".join(f"{row['name']}: {row['why']}" for _, row in foreign.iterrows()), on=str(backups.folder),
            hint="only backups of this server and database are pruned; remove others in their environment, or by hand",
        )  # fmt: skip
    newest = existing[existing["usable"].astype(bool)].drop_duplicates("kind")  # sorted newest first
    if protected := sorted(set(chosen) & set(newest["name"])):
        raise InputError(
            f"{', '.join(protected)} is the newest verified backup, which is never removed", on=str(backups.folder),
            hint="make and verify a newer one first",
        )  # fmt: skip
    paths = {backup.name: backup.path for backup in backups.stored()}
    sums = {name: catalog.sha256(paths[name] / catalog.MANIFEST) for name in chosen}
    states = {backup.name: backup.state for backup in backups.stored()}
    sizes = {backup.name: float(backup.manifest.get("size_bytes", 0)) for backup in backups.stored()}
    step = Command(
        argv=(
            "python", "-m", "xai_runbook.pgbackup", "prune", "--folder", str(backups.folder),
            "--server", backups.server() if chosen else "", *(f"{name}={sha256}" for name, sha256 in sums.items()),
        ),
        environment={},
        seconds="10m",
        equivalent=f"rm -r -- {' '.join(chosen)}",
        effects_survive_kill=True,
    )  # fmt: skip
    removed = Condition.of(
        remaining_backups, names=chosen, column="left_count",
        comparison="==", value="0", within="5s", description="all of them are removed",
    )  # fmt: skip
    return Plan(
        verb="prune",
        scope="backups",
        targets=tuple(f"{name}, {states[name]}, {quantity(sizes[name], 'bytes')}" for name in chosen),
        observed=tuple(facts({"name": name, "manifest_sha256": sums[name], "state": states[name]}) for name in chosen),
        steps=(step,) if chosen else (),
        note="" if chosen else "the settings keep every backup",
        expected=removed if chosen else None,
        undo="cannot be undone: the removed data is lost",
        risk=Risk.DESTRUCTIVE,
    )
