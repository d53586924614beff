"""SQL files, one query each, in SECTION/NAME.sql; `NAME_15.sql` replaces `NAME.sql` on server 15 and later.

Names are unique over all sections. A line `\\ir NAME.sql` includes that file, as in psql.
`roles/` is not a section: it holds the scripts that create the reader and the operator.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, LiteralString

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable


@cache
def statement(name: str, server_version: int) -> LiteralString:
    """Return the SQL of query `name` for a server of that major version.

    It is the file with the highest version that is not above the server's; `NAME.sql` is for all older servers.
    """
    variants = {0: name}
    for file in statements():
        stem, _, version = file.rpartition("_")
        if stem == name and version.isdigit():
            variants[int(version)] = file
    text = statements()[variants[max(version for version in variants if version <= server_version)]]
    return re.sub(r"^\\ir (\S+)\.sql$", lambda included: statements()[included[1]], text, flags=re.MULTILINE)


@cache
def statements() -> dict[str, LiteralString]:
    """Return the text of every file, by its name without `.sql`."""
    # LiteralString: the texts come from this package, never from input
    return {name: file.read_text(encoding="utf-8") for name, (_, file) in _files().items()}


def role_scripts() -> list[LiteralString]:
    """Return the scripts of roles/: what PUBLIC loses, the reader, the operator. Run them in this order."""
    # LiteralString: the texts come from this package, never from input
    return [
        files(__name__).joinpath("roles", f"{name}.sql").read_text(encoding="utf-8")
        for name in ("public", "reader", "operator")
    ]


def path_of(name: str) -> str:
    """Return the path of a query, `sql/SECTION/NAME.sql`, or the name alone if there is no such file."""
    return f"sql/{_files()[name][0]}/{name}.sql" if name in _files() else name


@cache
def _files() -> dict[str, tuple[str, Traversable]]:
    """Return section and file of every query, by its name."""
    folders = [each for each in files(__name__).iterdir() if each.is_dir() and not each.name.startswith("_")]
    sections = [each for each in folders if each.name != "roles"]
    return {
        file.name.removesuffix(".sql"): (section.name, file)
        for section in sections
        for file in section.iterdir()
        if file.name.endswith(".sql")
    }
