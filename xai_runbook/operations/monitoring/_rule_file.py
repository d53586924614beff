"""Prometheus' rule file as YAML. Imported only where a file is written, because PyYAML is slow to import."""

from __future__ import annotations

import math
from typing import Any

import yaml


class PromQL(str):
    """A query, written as a literal block so that it keeps its lines and needs no quotes."""


class _Dumper(yaml.SafeDumper):
    """Indents lists below their key, as Prometheus' own documentation does."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, indentless=False)


_Dumper.add_representer(PromQL, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|"))


def dump(contents: dict[str, Any]) -> str:
    """Return the contents as YAML: keys in their order, each text on one line, non-ASCII letters as they are."""
    return yaml.dump(contents, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=math.inf)
