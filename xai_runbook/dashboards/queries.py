"""The PromQL in a Grafana dashboard's JSON, with its variables filled in, as Grafana would ask it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

_VARIABLE = re.compile(r"\$(\w+)|\$\{(\w+)(?:\.[^:}]*)?(?::[^}]*)?\}|\[\[(\w+)(?::\w+)?\]\]")
_REACH = re.compile(r"\[\s*((?:\d+(?:ms|[smhdwy]))+)|\boffset\s+((?:\d+(?:ms|[smhdwy]))+)")
_ALL = "$__all"
_RATE_SECONDS = 60.0
"""Grafana's least: four of the 15 s that it takes scrapes to lie apart."""
_RANGE_SECONDS = 3600


class Query(NamedTuple):
    """One query of a panel."""

    panel: str
    """Its title, else its number."""
    name: str
    """Grafana's letter for it."""
    promql: str
    error: str = ""
    """Why it cannot be read; `promql` is empty then."""


def of(dashboard: Mapping[str, Any], *, rate: str, step: str) -> list[Query]:
    """Every query of every panel that is shown, also of collapsed rows; not those of other kinds of data source.

    `rate` is the window of rates, and `step` how far apart points lie, where the dashboard leaves them to Grafana.
    """
    values = _values(dashboard, rate, step)
    found = []
    for panel in panels(dashboard):
        title = str(panel.get("title") or f"panel {panel.get('id', '?')}")
        targets = panel.get("targets") or []
        if panel.get("libraryPanel") and not targets:
            found.append(Query(title, "library panel", "", "a library panel: its queries are kept elsewhere"))
        for target in targets:
            source = target.get("datasource") or panel.get("datasource")
            kind = source.get("type") if isinstance(source, dict) else None
            if isinstance(target.get("expr"), str) and not target.get("hide") and kind in (None, "", "prometheus"):
                found.append(Query(title, str(target.get("refId", "?")), filled(target["expr"], values)))
    return found


def panels(dashboard: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Every panel but the rows; a collapsed row holds its own."""
    for panel in dashboard.get("panels") or []:
        if panel.get("type") == "row":
            yield from panel.get("panels") or []
        else:
            yield panel


def filled(promql: str, values: Mapping[str, str]) -> str:
    """`promql` with the variables that have a value; others stay, as they do in Grafana: "$1" is label_replace's.

    >>> filled('rate(x{i=~"$i"}[$__rate_interval]) + ${y:regex}', {"i": ".*", "__rate_interval": "1m", "y": "2"})
    'rate(x{i=~".*"}[1m]) + 2'
    """
    return _VARIABLE.sub(lambda match: values.get(match[1] or match[2] or match[3], match[0]), promql)


def reach_seconds(promql: str) -> float:
    """Return how far the query looks back: the longest of its ranges and offsets.

    >>> reach_seconds("rate(x[1m]) - x offset 5m")
    300.0
    """
    from xai_runbook.model.window import duration_seconds

    return max((duration_seconds(match[1] or match[2]) for match in _REACH.finditer(promql)), default=0.0)


def _values(dashboard: Mapping[str, Any], rate: str, step: str) -> dict[str, str]:
    from xai_runbook.model.window import duration_seconds, duration_text  # the command line's start does not pay for it

    values = {
        "__rate_interval": duration_text(max(duration_seconds(rate), _RATE_SECONDS)),
        "__interval": step,
        "__range": f"{_RANGE_SECONDS}s",
        "__range_s": str(_RANGE_SECONDS),
        "__range_ms": str(_RANGE_SECONDS * 1000),
    }
    for variable in (dashboard.get("templating") or {}).get("list") or []:
        values[str(variable.get("name"))] = _value(variable, rate)
    return values


def _value(variable: Mapping[str, Any], rate: str) -> str:
    """The value that it was saved with; without one, or for All, everything that it could be."""
    kind = variable.get("type")
    options = [option.get("value") for option in variable.get("options") or [] if option.get("value") != _ALL]
    now = (variable.get("current") or {}).get("value")
    chosen = [text for text in (now if isinstance(now, list) else [now]) if text not in (None, "")]
    if kind == "interval":
        given = [text for text in (*chosen, *options) if not str(text).startswith("$")]
        return str(given[0]) if given else rate
    if kind in ("constant", "textbox"):
        return str(chosen[0] if chosen else variable.get("query", ""))
    if kind == "datasource":
        return str(chosen[0]) if chosen else ""
    if not chosen or _ALL in chosen:
        if variable.get("allValue"):
            return str(variable["allValue"])
        if kind != "custom" or not options:
            return ".*"
        chosen = options if variable.get("includeAll") else options[:1]
    several = variable.get("multi") or variable.get("includeAll")
    texts = [_literal(str(text)) if several else str(text) for text in chosen]
    return texts[0] if len(texts) == 1 else f"({'|'.join(texts)})"


def _literal(text: str) -> str:
    """`text` in a regular expression that stands in a PromQL string."""
    return re.escape(text).replace("\\-", "-").replace("\\", "\\\\")
