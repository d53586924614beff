"""One query per file in SECTION/, named as the function that asks it; `NAME_15.sql` is for servers of 15 and later.

Names are unique over all sections. A line `\\ir NAME.sql` stands for the text of that file, as in psql.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import LiteralString


@cache
def statement(name: str, server_version: int) -> LiteralString:
    """Return the SQL of query `name` for a server of that major version.

    `NAME_15.sql` serves 15 and later, until a file with a higher number; `NAME.sql` serves what is older than all.
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
    found: dict[str, LiteralString] = {}
    for section in files(__name__).iterdir():
        for file in section.iterdir() if section.is_dir() and not section.name.startswith("_") else ():
            if file.name.endswith(".sql"):
                # from our own package, never from input
                found[file.name.removesuffix(".sql")] = file.read_text(encoding="utf-8")
    return found
