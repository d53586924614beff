"""Where each value of an environment's settings comes from."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xai_runbook.errors import SettingsError, inert
from xai_runbook.settings import loading

_TABLE = re.compile(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]")
_KEY = re.compile(r"\s*([A-Za-z0-9_.\"'-]+)\s*=")


@dataclass(frozen=True)
class SettingSource:
    """A value and its origin."""

    key: str
    """Its tables and its name, with dots between: limits.database.pool.threshold."""
    value: str
    """As in the file. A secret is a reference there, such as env:NAME, and never the secret itself."""
    origin: str
    """A file with its line, or a variable."""


@dataclass(frozen=True)
class EnvironmentFile:
    """An environment that the search finds."""

    name: str
    path: Path
    problem: str
    """Why the file is not used, such as that others can write it; empty if it is used."""


def environments() -> list[EnvironmentFile]:
    """Return every environment, by name; of two files with one name, the one that the search finds first."""
    found: dict[str, EnvironmentFile] = {}
    for folder in loading.folders():
        for path in sorted(folder.glob("*.toml")):
            if path.stem in found or path.stem.endswith(".example"):
                continue
            problem = ""
            try:
                loading.file_of(str(path))
            except SettingsError as error:
                problem = str(error)
            found[path.stem] = EnvironmentFile(path.stem, path, problem)
    return [found[name] for name in sorted(found)]


def sources(name: str = "") -> list[SettingSource]:
    """Return every value that an environment's settings are made of, by key; what only has a default is left out.

    Errors: SettingsError, as `loading.load`: settings that are not valid have no values.
    """
    loading.load(name)
    found: dict[str, SettingSource] = {}
    merged: dict[str, Any] = {}
    for path, tables in loading.layers(loading.file_of(name)):
        merged = loading.merge(merged, tables)
        lines = {} if path is None or path.suffix != ".toml" else _lines(path)
        for key, value in _values(tables):
            if path is None:
                origin = f"variable XAI_RUNBOOK_{key.upper().replace('.', '__')}"
            else:
                line = _line(lines, key)
                origin = f"{path}:{line}" if line else str(path)
            found[key] = SettingSource(key, inert(str(value), 200), origin)
    return [found[key] for key in sorted(key for key, _ in _values(merged))]


def _values(tables: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted key and the value of each leaf; items of a list of tables have their index as a key."""
    if isinstance(tables, list) and tables and all(isinstance(each, dict) for each in tables):
        tables = {str(index): each for index, each in enumerate(tables)}
    if not isinstance(tables, dict):
        yield prefix, tables
        return
    for key, value in tables.items():
        yield from _values(value, f"{prefix}.{key}" if prefix else str(key))


def _lines(path: Path) -> dict[str, int]:
    """Return the line of each table and key in a TOML file that can be read; tomllib does not have them."""
    found: dict[str, int] = {}
    table, items = "", Counter[str]()
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if match := _TABLE.match(line):
            table = _plain(match[2])
            if match[1] == "[[":
                items[table] += 1
                table = f"{table}.{items[table] - 1}"
            else:  # [nodes.node.facts] belongs to the newest [[nodes.node]]
                for each, count in items.items():
                    if table.startswith(f"{each}."):
                        table = f"{each}.{count - 1}{table.removeprefix(each)}"
            found.setdefault(table, number)
        elif match := _KEY.match(line):
            key = _plain(match[1])
            found.setdefault(f"{table}.{key}" if table else key, number)
    return found


def _plain(name: str) -> str:
    return ".".join(part.strip().strip("\"'") for part in name.split("."))


def _line(lines: dict[str, int], key: str) -> int | None:
    """Return the line of a key, or of the nearest value or table around it (an inline table, a list)."""
    while key:
        if key in lines:
            return lines[key]
        key = key.rpartition(".")[0]
    return None
