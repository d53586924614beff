"""Properties of a database that its dump does not contain: copied to the database that replaces it, and compared."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

from psycopg import sql

from xai_runbook.pgbackup.fingerprint import Connection, fetch_rows

Rows = Callable[[str, dict[str, Any]], list[dict[str, Any]]]
"""Runs a query of `sql/` by its name, as `Database.rows` and `fetch_rows` do."""
COLUMNS = {
    "oid": "new: it is another database",
    "datname": "new: a swap exchanges the names",
    "datdba": "carried over",
    "encoding": "carried over, from the manifest",
    "datlocprovider": "carried over, from the manifest",
    "datcollate": "carried over, from the manifest",
    "datctype": "carried over, from the manifest",
    "daticulocale": "carried over, from the manifest",
    "datlocale": "carried over, from the manifest",
    "daticurules": "carried over, from the manifest",
    "datcollversion": "new: all indexes are built with the current version of the collation",
    "datistemplate": "carried over",
    "datallowconn": "compared: a database that accepts no connections could not have been dumped",
    "datconnlimit": "carried over",
    "dattablespace": "carried over",
    "datacl": "carried over",
    "datlastsysoid": "the server's own, the same in every database",
    "datfrozenxid": "the server's own, counted again",
    "datminmxid": "the server's own, counted again",
    "dathasloginevt": "the server's own, set by the event triggers that the dump brings",
    "setdatabase": "carried over",
    "setrole": "carried over",
    "setconfig": "carried over",
}
"""Every column of pg_database and pg_db_role_setting in versions 12 to 18, and what a restore does with it."""
_FIXED = {
    "owner": "owner", "tablespace": "tablespace", "encoding": "encoding", "datcollate": "LC_COLLATE",
    "datctype": "LC_CTYPE", "datlocprovider": "locale provider", "locale": "locale", "daticurules": "ICU rules",
}  # fmt: skip
_CARRIED = {
    "datconnlimit": "connection limit", "datistemplate": "is_template", "datallowconn": "allow_connections",
    "comment": "comment",
}  # fmt: skip
_PROVIDERS = {"c": "libc", "i": "icu", "b": "builtin"}
_LISTS = {
    "local_preload_libraries", "search_path", "session_preload_libraries", "shared_preload_libraries",
    "temp_tablespaces", "unix_socket_directories",
}  # fmt: skip
"""Parameters whose value is a list of quoted names; extensions cannot add such parameters."""
_MARK = re.compile(r"(?:^|\n)(restored from \S+(?: of server \S+)?(?: without [^\n]*)?)$")
"""The last line of a restored database's comment: see `sql/backups/database_named.sql`."""


def create(session: Connection, name: str, like: str, manifest: dict[str, Any]) -> None:
    """Create an empty database that only its owner may enter, with the locale of the manifest or else of `like`."""
    found = _properties(partial(fetch_rows, session), like)
    provider = manifest.get("locale_provider") or found["datlocprovider"]
    locale = (manifest if manifest.get("locale_provider") else found).get("locale")
    rules = (manifest.get("icu_rules") if manifest.get("locale_provider") else found["daticurules"]) or ""
    options = [
        ("OWNER", sql.Identifier(found["owner"])),
        ("TEMPLATE", sql.Identifier("template0")),
        ("ENCODING", sql.Literal(manifest["encoding"])),
        ("LC_COLLATE", sql.Literal(manifest.get("collation") or found["datcollate"])),
        ("LC_CTYPE", sql.Literal(manifest.get("ctype") or found["datctype"])),
    ]
    if provider:
        options.append(("LOCALE_PROVIDER", sql.Identifier(_PROVIDERS[provider])))
    if provider in ("i", "b"):
        options.append(("ICU_LOCALE" if provider == "i" else "BUILTIN_LOCALE", sql.Literal(locale)))
    if rules:
        options.append(("ICU_RULES", sql.Literal(rules)))
    if found["tablespace"] != "pg_default" and _may_create_in(session, found["tablespace"]):
        options.append(("TABLESPACE", sql.Identifier(found["tablespace"])))
    clauses = [sql.SQL(option) + sql.SQL(" ") + value for option, value in options]  # pyright: ignore
    session.execute(sql.SQL("CREATE DATABASE {} ").format(sql.Identifier(name)) + sql.SQL(" ").join(clauses))
    session.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(name)))


def carry_over(session: Connection, source: str, target: str) -> None:
    """Give the database `target` the privileges, settings, connection limit and comment of `source`.

    All of it can be rolled back. What `sql/backups/database_not_carried.sql` names is left out. The line of the
    comment that names the backup stays.
    """
    database, found = sql.Identifier(target), _properties(partial(fetch_rows, session), source)
    owner = sql.Identifier(_properties(partial(fetch_rows, session), target)["owner"])
    session.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC, {}").format(database, owner))
    for grant in fetch_rows(session, "database_grants", {"name": source}):
        grantee = sql.Identifier(grant["grantee"]) if grant["grantee"] else sql.SQL("PUBLIC")
        privilege = {"CONNECT": "CONNECT", "TEMPORARY": "TEMPORARY", "CREATE": "CREATE"}[grant["privilege"]]
        grant_option = sql.SQL(" WITH GRANT OPTION" if grant["grantable"] else "")
        session.execute(
            sql.SQL("GRANT {} ON DATABASE {} TO {}").format(sql.SQL(privilege), database, grantee) + grant_option
        )
    _carry_settings_over(session, source, target)
    session.execute(
        sql.SQL("ALTER DATABASE {} WITH CONNECTION LIMIT {} IS_TEMPLATE {}").format(
            database, sql.Literal(found["datconnlimit"]), sql.Literal(found["datistemplate"])
        )
    )
    set_comment(session, target, found["comment"], _properties(partial(fetch_rows, session), target)["mark"])


def set_comment(session: Connection, name: str, comment: str, mark: str) -> None:
    """Set the comment of the database: its own text, and a last line that says what it was restored from."""
    text = "\n".join(filter(None, (comment, mark)))
    session.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(name), sql.Literal(text or None)))


def fixed_differences(rows: Rows, source: str, target: str) -> list[str]:
    """Return the differences that were fixed when `target` was created, which `carry_over` cannot change."""
    before, after = _properties(rows, source), _properties(rows, target)
    return [
        f"{noun} {after[key]} instead of {before[key]}" for key, noun in _FIXED.items() if before[key] != after[key]
    ]


def differences(rows: Rows, source: str, target: str) -> list[str]:
    """Return every property of `source` that differs in `target`."""
    found = fixed_differences(rows, source, target)
    before, after = _properties(rows, source), _properties(rows, target)
    found += [
        f"{noun} {after[key]} instead of {before[key]}" for key, noun in _CARRIED.items() if before[key] != after[key]
    ]
    grants_before, grants_after = _grants(rows, source), _grants(rows, target)
    found += [f"without {each}" for each in sorted(grants_before - grants_after)]
    found += [f"with {each}" for each in sorted(grants_after - grants_before)]
    settings_before, settings_after = _settings(rows, source), _settings(rows, target)
    found += [f"without {each}" for each in sorted(settings_before.keys() - settings_after.keys())]
    found += [f"with {each}" for each in sorted(settings_after.keys() - settings_before.keys())]
    found += [
        f"another value of {each}"
        for each in sorted(settings_before.keys() & settings_after.keys())
        if settings_before[each] != settings_after[each]
    ]
    return found


def _grants(rows: Rows, name: str) -> set[str]:
    found = rows("database_grants", {"name": name})
    return {" ".join(str(value) for value in row.values() if value is not None) for row in found}


def _settings(rows: Rows, name: str) -> dict[str, str]:
    """Return settings by their display name. Values may be secrets: never show them."""
    found = {}
    for row in rows("database_settings", {"name": name}):
        setting, _, value = row["setting"].partition("=")
        found[f"setting {setting}" + (f" of role {row['role']}" if row["role"] else "")] = value
    return found


def _carry_settings_over(session: Connection, source: str, target: str) -> None:
    parameters = {"name": source, "role": session.info.user}
    forbidden = {(row["role"], row["setting"]) for row in fetch_rows(session, "database_not_carried", parameters)}
    for role in {row["role"] for row in fetch_rows(session, "database_settings", {"name": target})}:
        session.execute(_alter(role, target) + sql.SQL("RESET ALL"))
    for row in fetch_rows(session, "database_settings", {"name": source}):
        name, _, value = row["setting"].partition("=")
        if (row["role"], name) not in forbidden:
            values = sql.SQL(", ").join(map(sql.Literal, _elements(name, value)))
            session.execute(_alter(row["role"], target) + sql.SQL("SET {} TO ").format(sql.Identifier(name)) + values)


def _alter(role: str | None, database: str) -> sql.Composed:
    if role is None:
        return sql.SQL("ALTER DATABASE {} ").format(sql.Identifier(database))
    return sql.SQL("ALTER ROLE {} IN DATABASE {} ").format(sql.Identifier(role), sql.Identifier(database))


def _elements(name: str, value: str) -> list[str]:
    """Return the value as SET takes it: one text, or the names of a list."""
    if name not in _LISTS:
        return [value]
    found = re.findall(r'"((?:[^"]|"")*)"|([^,\s]+)', value)
    return [quoted.replace('""', '"') or plain for quoted, plain in found] or [""]


def _properties(rows: Rows, name: str) -> dict[str, Any]:
    (row,) = rows("database_properties", {"name": name})
    columns = row.pop("properties")
    comment = str(row["comment"] or "")
    mark = _MARK.search(comment)
    return {
        **{key: columns.get(key) for key in ("datlocprovider", "daticurules")},
        **columns,
        **row,
        "locale": columns.get("datlocale", columns.get("daticulocale")),
        "comment": comment[: mark.start()] if mark else comment,
        "mark": mark[1] if mark else "",
    }


def _may_create_in(session: Connection, tablespace: str) -> bool:
    row = session.execute("SELECT has_tablespace_privilege(%s, 'CREATE')", [tablespace]).fetchone()
    return bool(row and row[0])
