"""One query a file, named as the function that asks it; `NAME_15.sql` is for servers of version 15 and later.

A line `\\ir NAME.sql` stands for the text of that file, as in psql.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import LiteralString


@cache
def statement(name: str, server_version: int) -> LiteralString:
    """The SQL of query `name` for a server of that major version.

    `NAME_15.sql` serves 15 and later, until a file with a higher number; `NAME.sql` serves what is older than all.
    """
    variants = {0: f"{name}.sql"}
    for entry in files("xai_runbook.sql").iterdir():
        stem, _, version = entry.name.removesuffix(".sql").rpartition("_")
        if stem == name and version.isdigit():
            variants[int(version)] = entry.name
    chosen = variants[max(version for version in variants if version <= server_version)]
    # from our own package, never from input
    text = re.sub(r"^\\ir (\S+)$", lambda included: _text(included[1]), _text(chosen), flags=re.MULTILINE)
    return text


def _text(name: str) -> str:
    return files("xai_runbook.sql").joinpath(name).read_text(encoding="utf-8")
