"""Restores a dump into a new database of the same server, and swaps the names of two databases."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import psycopg
from psycopg import sql

from xai_runbook.errors import BadAnswer, Refused, XaiRunbookError, inert
from xai_runbook.pgbackup import catalog, database_properties
from xai_runbook.pgbackup.database_properties import carry_over, create, set_comment
from xai_runbook.pgbackup.dump import session
from xai_runbook.pgbackup.fingerprint import Connection, contents, differences, fetch_rows, total_rows
from xai_runbook.pgbackup.leftovers import EffectUnknown, drop_subscriptions, mark, remove_leftover
from xai_runbook.pgbackup.pg_restore import ARCHIVE, require_same_server, restore, uncreatable_extensions
from xai_runbook.pgbackup.pg_tools import find_programs
from xai_runbook.pgbackup.verify import check_files

Say = Callable[[str], None]
ATTEMPTS = 2
RESTORED = ".restored.json"
"""File in the folder of backups: the oid of the database that was restored last, for the swap that follows."""
RESTORING = "xai_restoring_"
"""Prefix of a database's name until it is complete."""
_RENAME_LOST = "the answer to the final rename was lost"


def restore_into(
    folder: Path, name: str, new: str, *, programs: str | None, jobs: int, say: Say, from_server: str = ""
) -> str:
    """Restore the backup into a new database, and return the result as a line.

    The database has a temporary name until every table was compared with the manifest, and is dropped on failure. It
    gets the owner, privileges and settings of the database that libpq's environment names.
    Errors: Refused, BackupDamaged, BadAnswer (with PostgreSQL's message), Unreachable, EffectUnknown.
    """
    from xai_runbook.pgbackup import records

    backup = catalog.named(folder, name)
    manifest = backup.manifest
    tools = find_programs(programs, int(manifest["server_version"].split(".")[0]))
    check_files(backup, say)
    temporary = f"{RESTORING}{new}"
    with session() as source:
        require_same_server(source, manifest, from_server)
        live = source.info.dbname
        uncreatable = uncreatable_extensions(source, manifest)
        if fetch_rows(source, "database_named", {"name": new}):
            raise Refused(f"database {new} already exists", hint="make a new plan")
        remove_leftover(source, temporary)
        oid = ""
        try:
            create(source, temporary, live, manifest)
            oid = mark(source, temporary)
            with source.transaction(force_rollback=True):  # a trial: an error must show before hours of work
                carry_over(source, live, temporary)
            left_out = restore(
                tools, backup.path / ARCHIVE, log=folder / catalog.RESTORE_LOG, variables={"PGDATABASE": temporary},
                jobs=jobs, without=uncreatable, progress=lambda: say(f"restoring into {temporary}"),
            )  # fmt: skip
            with session(dbname=temporary) as restored:
                found = contents(
                    restored, lambda message: say(f"{message} in {temporary}"),
                    fingerprint=manifest["contents"]["fingerprint"],
                )  # fmt: skip
                differing = differences(manifest["contents"], found)
                if differing:
                    raise BadAnswer(f"the restored database differs from the dump: {'; '.join(differing[:5])}", on=name)
                say("analyzing")
                restored.execute("ANALYZE")
            without = f" without {', '.join(left_out)}" if left_out else ""
            origin = f" of server {from_server}" if from_server else ""
            # written before the rename: after it nothing may fail
            last = {"backup": name, "database": new, "oid": oid}
            records.write(folder / RESTORED, records.LastRestore, last)
            unequal = _give_name(source, live, temporary, new, oid, f"restored from {name}{origin}{without}")
        except BaseException as error:
            remaining = _drop_restored(source, temporary, oid)
            if not remaining:
                if isinstance(error, EffectUnknown):  # now it is known: the database was dropped
                    raise BadAnswer(f"{error.what}; the restored database was dropped", on=new) from None
                raise
            what = f"{inert(str(error), 200) or type(error).__name__}; "
            if remaining != temporary:
                raise EffectUnknown(f"{what}{remaining} exists and is complete, from {name}", on=new) from None
            raise EffectUnknown(
                f"{what}{temporary} may still exist and use disk space: xai-runbook plan backups.remove_leftovers",
                on=new,
            ) from None
        finally:
            for scrap in folder.glob(f"{catalog.RESTORE_LOG}*"):
                with suppress(OSError):
                    scrap.unlink()
    notes = f"; a superuser must add {', '.join(left_out)}" if left_out else ""
    notes += f"; it differs from {live}: {'; '.join(unequal[:9])}" if unequal else ""
    return f"{new} was restored from {name}: {total_rows(found)} rows, all tables are equal{notes}"


def swap(
    live: str, restored: str, keep_as: str, *, live_oid: str, restored_oid: str, maintenance: str, reader: str, say: Say
) -> str:
    """Rename `live` to `keep_as` and `restored` to `live` in one transaction, and return the result as a line.

    Privileges, settings, connection limit and comment of `live` are copied to `restored`. The oids are compared in the
    transaction that renames. Our own sessions in both databases, and those of the reader role, are terminated; if
    others are connected, nothing is done.
    Errors: Refused (a name belongs to another database), BadAnswer (other sessions are connected), EffectUnknown (the
    answer to COMMIT was lost).
    """
    commit_sent = False
    try:
        with session(dbname=maintenance) as server:
            for name in (live, restored):
                if not fetch_rows(server, "database_named", {"name": name}):
                    raise Refused(f"there is no database {name}", hint="make a new plan")
            for attempt in range(1, ATTEMPTS + 1):  # a terminated session may reconnect before the rename
                fetch_rows(server, "end_own_sessions", {"names": [live, restored], "reader": reader})
                say("renaming")
                server.execute("BEGIN")
                try:
                    carry_over(server, live, restored)
                    _rename(server, live, keep_as)
                    _rename(server, restored, live)
                    _require_oids(server, {keep_as: live_oid, live: restored_oid})
                    break
                except Refused:
                    server.execute("ROLLBACK")
                    raise
                except psycopg.errors.ObjectInUse as error:
                    server.execute("ROLLBACK")
                    if attempt == ATTEMPTS:
                        raise BadAnswer(
                            f"other sessions are connected: {inert(error.diag.message_detail or '', 200)}", on=live,
                            hint="stop the applications that use it; database.sessions lists the sessions",
                        ) from None  # fmt: skip
            commit_sent = True
            server.execute("COMMIT")
    except (BadAnswer, KeyboardInterrupt):  # COMMIT may have taken effect before it was cancelled
        if commit_sent:
            raise EffectUnknown(f"the answer to COMMIT was lost: {restored} may be {live} now", on=live) from None
        raise
    return f"{restored} is now {live}, and the old {live} is now {keep_as}"


def last_restored_oid(folder: Path, backup: str, database: str) -> str:
    """Return the oid of that database, if the last restore created it from that backup. Errors: Refused."""
    from xai_runbook.pgbackup import records

    with suppress(BadAnswer):
        last = records.read(folder / RESTORED, records.LastRestore)
        if last["backup"] == backup and last["database"] == database:
            return str(last["oid"])
    raise Refused(f"it is not known which database was restored as {database}", on=str(folder), hint="swap it by hand")


def _rename(source: Connection, name: str, to: str) -> None:
    source.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(name), sql.Identifier(to)))


def _require_oids(source: Connection, oids: dict[str, str]) -> None:
    """Raise Refused unless the databases of these names have these oids; a rename has locked them by then."""
    for name, oid in oids.items():
        found = [row["oid"] for row in fetch_rows(source, "database_named", {"name": name})]
        if found != [oid]:
            raise Refused(
                f"the database to be named {name} has oid {', '.join(found)}, not {oid} as planned", on=name,
                hint="databases were renamed meanwhile: check, then make a new plan",
            )  # fmt: skip


def _give_name(source: Connection, live: str, temporary: str, new: str, oid: str, mark: str) -> list[str]:
    """Copy the live database's properties and rename, in one transaction; return what differs from the live one."""
    try:
        with source.transaction():
            set_comment(source, temporary, "", mark)
            carry_over(source, live, temporary)
            unequal = database_properties.differences(partial(fetch_rows, source), live, temporary)
            _rename(source, temporary, new)
            _require_oids(source, {new: oid})
        return unequal
    except psycopg.OperationalError:
        if source.closed:
            raise EffectUnknown(_RENAME_LOST, on=new) from None
        raise
    except KeyboardInterrupt:  # it may have taken effect before it was cancelled
        raise EffectUnknown(_RENAME_LOST, on=new) from None


def _drop(source: Connection, name: str, oid: str) -> None:
    """Drop the database with its sessions, if this run has created it."""
    if oid in ("", *(row["oid"] for row in fetch_rows(source, "database_named", {"name": name}))):
        if oid:
            drop_subscriptions(source, name, oid, [])
        force = " WITH (FORCE)" if source.info.server_version >= 130000 else ""
        source.execute(sql.SQL("DROP DATABASE IF EXISTS {}" + force).format(sql.Identifier(name)))


def _drop_restored(source: Connection, name: str, oid: str) -> str:
    """Drop the database that this run has created; return its name if it still exists.

    Empty if the server has confirmed the drop, to this session or, if that is lost, to another one.
    """
    with suppress(psycopg.Error, Refused):
        return _drop_and_find(source, name, oid)
    with suppress(psycopg.Error):  # a signal may have interrupted a statement that holds locks
        source.cancel()
    source.close()
    with suppress(psycopg.Error, XaiRunbookError), session() as another:
        return _drop_and_find(another, name, oid)
    return name


def _drop_and_find(source: Connection, name: str, oid: str) -> str:
    _drop(source, name, oid)
    found = source.execute("SELECT datname FROM pg_database WHERE oid::text = %s", [oid]).fetchone()
    return str(found[0]) if found else ""
