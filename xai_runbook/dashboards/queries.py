"""The PromQL queries in a Grafana dashboard's JSON, with its variables substituted as Grafana would."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

_VARIABLE = re.compile(r"\$(\w+)|\$\{(\w+)(?:\.[^:}]*)?(?::[^}]*)?\}|\[\[(\w+)(?::\w+)?\]\]")
_LOOKBACK = re.compile(r"\[\s*((?:\d+(?:ms|[smhdwy]))+)|\boffset\s+((?:\d+(?:ms|[smhdwy]))+)")
_ALL = "$__all"
_RATE_SECONDS = 60.0
"""Grafana's minimum for $__rate_interval: four scrape intervals of 15 s."""
_RANGE_SECONDS = 3600


class Query(NamedTuple):
    """One query of a panel."""

    panel: str
    """Title of the panel, else its number."""
    name: str
    """Grafana's refId, such as A."""
    promql: str
    error: str = ""
    """Why it cannot be read; `promql` is empty in that case."""


def panel_queries(dashboard: Mapping[str, Any], *, rate: str, step: str) -> list[Query]:
    """Return every visible query of every panel, collapsed rows included; other data source types are skipped.

    `rate` and `step` replace Grafana's variables $__rate_interval and $__interval.
    """
    values = _values(dashboard, rate, step)
    found = []
    for panel in panels(dashboard):
        title = str(panel.get("title") or f"panel {panel.get('id', '?')}")
        targets = panel.get("targets") or []
        if panel.get("libraryPanel") and not targets:
            found.append(Query(title, "library panel", "", "a library panel, with its queries elsewhere"))
        for target in targets:
            source = target.get("datasource") or panel.get("datasource")
            kind = source.get("type") if isinstance(source, dict) else None
            if isinstance(target.get("expr"), str) and not target.get("hide") and kind in (None, "", "prometheus"):
                found.append(Query(title, str(target.get("refId", "?")), substituted(target["expr"], values)))
    return found


def panels(dashboard: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield every panel except rows; a collapsed row contains its panels."""
    for panel in dashboard.get("panels") or []:
        if panel.get("type") == "row":
            yield from panel.get("panels") or []
        else:
            yield panel


def substituted(promql: str, values: Mapping[str, str]) -> str:
    """Return `promql` with its variables substituted; unknown ones stay, such as "$1" of label_replace.

    >>> substituted('rate(x{i=~"$i"}[$__rate_interval]) + ${y:regex}', {"i": ".*", "__rate_interval": "1m", "y": "2"})
    'rate(x{i=~".*"}[1m]) + 2'
    """
    return _VARIABLE.sub(lambda match: values.get(match[1] or match[2] or match[3], match[0]), promql)


def lookback_seconds(promql: str) -> float:
    """Return how far the query looks back: the longest of its ranges and offsets.

    >>> lookback_seconds("rate(x[1m]) - x offset 5m")
    300.0
    """
    from xai_runbook.model.window import duration_seconds

    return max((duration_seconds(match[1] or match[2]) for match in _LOOKBACK.finditer(promql)), default=0.0)


def _values(dashboard: Mapping[str, Any], rate: str, step: str) -> dict[str, str]:
    from xai_runbook.model.window import duration_seconds, duration_text  # not needed when the command line starts

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
    """Return the saved value of a variable; a pattern of all possible values for "All" or without a value."""
    kind = variable.get("type")
    options = [option.get("value") for option in variable.get("options") or [] if option.get("value") != _ALL]
    current = (variable.get("current") or {}).get("value")
    chosen = [text for text in (current if isinstance(current, list) else [current]) if text not in (None, "")]
    if kind == "interval":
        intervals = [text for text in (*chosen, *options) if not str(text).startswith("$")]
        return str(intervals[0]) if intervals else rate
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
    is_pattern = variable.get("multi") or variable.get("includeAll")
    texts = [_literal(str(text)) if is_pattern else str(text) for text in chosen]
    return texts[0] if len(texts) == 1 else f"({'|'.join(texts)})"


def _literal(text: str) -> str:
    """Return `text` escaped for a regular expression within a PromQL string."""
    return re.escape(text).replace("\\-", "-").replace("\\", "\\\\")
