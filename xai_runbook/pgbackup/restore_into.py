"""Restores a dump into a new database of the server itself, and puts it in the place of another by renaming both."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import psycopg
from psycopg import sql

from xai_runbook.errors import BadAnswer, Refused, XaiRunbookError, inert
from xai_runbook.pgbackup import catalog, database_properties
from xai_runbook.pgbackup.database_properties import carry_over, create, label
from xai_runbook.pgbackup.dump import session
from xai_runbook.pgbackup.fingerprint import Connection, ask, contents, differences, rows_of
from xai_runbook.pgbackup.leftovers import NotKnown, clear, drop_subscriptions, mark
from xai_runbook.pgbackup.pg_restore import ARCHIVE, not_creatable, require_same_server, restore
from xai_runbook.pgbackup.pg_tools import folder_of
from xai_runbook.pgbackup.verify import intact

Say = Callable[[str], None]
ATTEMPTS = 2
RESTORED = ".restored.json"
"""In the folder of backups: the oid of the database that was restored last, for the swap that follows."""
RESTORING = "xai_restoring_"
"""What a database is called until all of it is there."""


_UNNAMED = "the answer to its last statement, which gives it its name, was lost"


def into(folder: Path, name: str, new: str, *, programs: str | None, jobs: int, say: Say, from_server: str = "") -> str:
    """Restores the backup into the new database; what came of it, in words.

    It has another name until every table was compared with the manifest, and is dropped where it does not get there.
    Owner, rights and settings of the database itself are those of the one that libpq's environment names.
    Errors: Refused, Damaged, BadAnswer (what PostgreSQL said), Unreachable.
    """
    from xai_runbook.pgbackup import records

    backup = catalog.named(folder, name)
    manifest = backup.manifest
    tools = folder_of(programs, int(manifest["server_version"].split(".")[0]))
    intact(backup, say)
    temporary = f"{RESTORING}{new}"
    with session() as source:
        require_same_server(source, manifest, from_server)
        live = source.info.dbname
        needing = not_creatable(source, manifest)
        if ask(source, "database_named", {"name": new}):
            raise Refused(f"there is a database {new} already", hint="make the plan anew")
        clear(source, temporary)
        oid = ""
        try:
            create(source, temporary, live, manifest)
            oid = mark(source, temporary)
            with source.transaction(force_rollback=True):  # what cannot be carried over is known before hours of work
                carry_over(source, live, temporary)
            left_out = restore(
                tools, backup.path / ARCHIVE, log=folder / catalog.RESTORE_LOG, variables={"PGDATABASE": temporary},
                jobs=jobs, without=needing, progress=lambda: say(f"restoring into {temporary}"),
            )  # fmt: skip
            with session(dbname=temporary) as restored:
                found = contents(
                    restored, lambda words: say(f"{words} in {temporary}"),
                    fingerprint=manifest["contents"]["fingerprint"],
                )  # fmt: skip
                wrong = differences(manifest["contents"], found)
                if wrong:
                    raise BadAnswer(f"what was restored is not what was dumped: {'; '.join(wrong[:5])}", on=name)
                say("analyzing")
                restored.execute("ANALYZE")
            without = f" without {', '.join(left_out)}" if left_out else ""
            other = f" of server {from_server}" if from_server else ""
            # before it has its name: once it has, nothing may fail
            last = {"backup": name, "database": new, "oid": oid}
            records.write(folder / RESTORED, records.LastRestore, last)
            unlike = _rename_at_last(source, live, temporary, new, oid, f"restored from {name}{other}{without}")
        except BaseException as error:
            left = _left(source, temporary, oid)
            if not left:
                if isinstance(error, NotKnown):  # it is known now: the server says that the database is gone
                    raise BadAnswer(f"{error.what}; what was restored is gone", on=new) from None
                raise
            what = f"{inert(str(error), 200) or type(error).__name__}; "
            if left != temporary:
                raise NotKnown(f"{what}{left} is there, whole, from {name}", on=new) from None
            raise NotKnown(
                f"{what}{temporary} may still be there and take room: xai-runbook plan backups.remove_leftovers",
                on=new,
            ) from None
        finally:
            for scrap in folder.glob(f"{catalog.RESTORE_LOG}*"):
                with suppress(OSError):
                    scrap.unlink()
    told = f"; a superuser must bring {', '.join(left_out)}" if left_out else ""
    told += f"; it differs from {live}: {'; '.join(unlike[:9])}" if unlike else ""
    return f"{new} is there, from {name}: {rows_of(found)} rows, the same in every table{told}"


def swap(
    live: str, restored: str, keep_as: str, *, live_oid: str, restored_oid: str, maintenance: str, reader: str, say: Say
) -> str:
    """Renames `live` to `keep_as` and `restored` to `live`, both or neither; what came of it, in words.

    Rights, settings, connection limit and comment stay with the live one's name: `restored` has them afterwards.
    Only while both are the databases of these oids: that is compared in the transaction that renames them. Our own
    sessions in both, and those of the reading role, are ended; those of others are not, and then nothing is done.
    Errors: Refused (another database has one of the names), BadAnswer (somebody is in one of them), NotKnown (the
    answer to COMMIT was lost).
    """
    sent = False
    try:
        with session(dbname=maintenance) as other:
            for name in (live, restored):
                if not ask(other, "database_named", {"name": name}):
                    raise Refused(f"there is no database {name}", hint="make the plan anew")
            for attempt in range(1, ATTEMPTS + 1):  # what was ended may have come back before the names were changed
                ask(other, "end_own_sessions", {"names": [live, restored], "reader": reader})
                say("renaming")
                other.execute("BEGIN")
                try:
                    carry_over(other, live, restored)
                    _rename(other, live, keep_as)
                    _rename(other, restored, live)
                    _compare(other, {keep_as: live_oid, live: restored_oid})
                    break
                except Refused:
                    other.execute("ROLLBACK")
                    raise
                except psycopg.errors.ObjectInUse as error:
                    other.execute("ROLLBACK")
                    if attempt == ATTEMPTS:
                        raise BadAnswer(
                            f"others are in it: {inert(error.diag.message_detail or '', 200)}", on=live,
                            hint="stop who writes there; database.sessions shows them",
                        ) from None  # fmt: skip
            sent = True
            other.execute("COMMIT")
    except (BadAnswer, KeyboardInterrupt):  # it may have been done before it was cancelled
        if sent:
            raise NotKnown(f"the answer to COMMIT was lost, which makes {restored} {live}", on=live) from None
        raise
    return f"{restored} is now {live}, and what was {live} is {keep_as}"


def restored_last(folder: Path, backup: str, database: str) -> str:
    """The oid of the database that the last restore made, of this backup and under this name. Errors: Refused."""
    from xai_runbook.pgbackup import records

    with suppress(BadAnswer):
        last = records.read(folder / RESTORED, records.LastRestore)
        if last["backup"] == backup and last["database"] == database:
            return str(last["oid"])
    raise Refused(f"it is not known which database was restored as {database}", on=str(folder), hint="swap it by hand")


def _rename(source: Connection, name: str, to: str) -> None:
    source.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(name), sql.Identifier(to)))


def _compare(source: Connection, oids: dict[str, str]) -> None:
    """Compares what has these names now with the oids; a rename holds a lock on it until its transaction ends."""
    for name, oid in oids.items():
        found = [row["oid"] for row in ask(source, "database_named", {"name": name})]
        if found != [oid]:
            raise Refused(
                f"the database that is to be {name} has oid {', '.join(found)}, and not {oid} as planned", on=name,
                hint="somebody renamed databases meanwhile: look, then make the plan anew",
            )  # fmt: skip


def _rename_at_last(source: Connection, live: str, temporary: str, new: str, oid: str, mark: str) -> list[str]:
    """Give it what belongs to the live one and its name, both or neither; return what differs from the live one."""
    try:
        with source.transaction():
            label(source, temporary, "", mark)
            carry_over(source, live, temporary)
            unlike = database_properties.differences(partial(ask, source), live, temporary)
            _rename(source, temporary, new)
            _compare(source, {new: oid})
        return unlike
    except psycopg.OperationalError:
        if source.closed:
            raise NotKnown(_UNNAMED, on=new) from None
        raise
    except KeyboardInterrupt:  # it may have been done before it was cancelled
        raise NotKnown(_UNNAMED, on=new) from None


def _drop(source: Connection, name: str, oid: str) -> None:
    """Drops it with whoever is in it, where it is the database that this run made: all there was in it is our doing."""
    if oid in ("", *(row["oid"] for row in ask(source, "database_named", {"name": name}))):
        if oid:
            drop_subscriptions(source, name, oid, [])
        force = " WITH (FORCE)" if source.info.server_version >= 130000 else ""
        source.execute(sql.SQL("DROP DATABASE IF EXISTS {}" + force).format(sql.Identifier(name)))


def _left(source: Connection, name: str, oid: str) -> str:
    """Drop the database that this run made and that has that name; what it is called if it is there all the same.

    Empty where the server said that it is gone, to this session or, where that was lost, to another.
    """
    with suppress(psycopg.Error, Refused):
        return _dropped(source, name, oid)
    with suppress(psycopg.Error):  # a signal may have left it in the middle of a statement, with locks
        source.cancel()
    source.close()
    with suppress(psycopg.Error, XaiRunbookError), session() as another:
        return _dropped(another, name, oid)
    return name


def _dropped(source: Connection, name: str, oid: str) -> str:
    _drop(source, name, oid)
    found = source.execute("SELECT datname FROM pg_database WHERE oid::text = %s", [oid]).fetchone()
    return str(found[0]) if found else ""
