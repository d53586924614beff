"""The runbook's five Grafana dashboards: one JSON file each, with blanks where an environment has words of its own.

`make dashboards` builds the files. A blank is `${metric}` or `${name_window}` of the settings, `${signal.NAME}` the
PromQL of a limit, `${limit.NAME}` its threshold, `${limit.NAME.words}` the same in words. Grafana's own variables have
no braces here: `$instance`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xai_runbook.dashboards import queries

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xai_runbook.settings.limits import Limits
    from xai_runbook.settings.promql import PromqlSettings

TAG = "xai-runbook"
"""What is tagged so is ours: an undone import removes nothing else."""
FILES = {
    "Blockchain Node": "blockchain_node",
    "Network Status": "network_status",
    "Database Performance": "database_performance",
    "System Resources": "system_resources",
    "Application Metrics": "application_metrics",
}
"""The runbook's titles, in its order, and the files' names."""
_BLANK = re.compile(r"\$\{([a-z_0-9.]+)\}")


def dashboard(title: str, settings: PromqlSettings, limits: Limits) -> dict[str, Any]:
    """Grafana's JSON of the dashboard, with this environment's metrics, PromQL and limits in it."""
    import json

    shipped = json.loads((Path(__file__).parent / f"{FILES[title]}.json").read_text(encoding="utf-8"))
    made = _filled(shipped, settings, limits)
    assert isinstance(made, dict)
    return made


def contents(dashboard: Mapping[str, Any]) -> list[Any]:
    """What its readers see: title, variables and panels, each with its queries, unit and thresholds.

    Two with the same contents show the same, whatever ids and defaults a Grafana put beside them when it saved one.
    """
    variables = [variable.get("name") for variable in (dashboard.get("templating") or {}).get("list") or []]
    return [dashboard.get("title"), variables, *map(_shown, queries.panels(dashboard))]


def _shown(panel: Mapping[str, Any]) -> list[Any]:
    told = (panel.get("fieldConfig") or {}).get("defaults") or {}
    steps = [[step.get("value"), step.get("color")] for step in (told.get("thresholds") or {}).get("steps") or []]
    asked = [[target.get("expr"), target.get("legendFormat")] for target in panel.get("targets") or []]
    return [panel.get("type"), panel.get("title"), panel.get("description"), told.get("unit"), steps, asked]


def _filled(value: Any, settings: PromqlSettings, limits: Limits) -> Any:
    if isinstance(value, dict):
        return {key: _filled(part, settings, limits) for key, part in value.items()}
    if isinstance(value, list):
        return [_filled(part, settings, limits) for part in value]
    if not isinstance(value, str):
        return value
    alone = _BLANK.fullmatch(value)
    if alone and alone[1].startswith("limit.") and alone[1].count(".") == 1:
        return limits.by_name[alone[1].removeprefix("limit.")].threshold  # a number, not text
    return _BLANK.sub(lambda blank: _word(blank[1], settings, limits), value)


def _word(blank: str, settings: PromqlSettings, limits: Limits) -> str:
    kind, _, name = blank.partition(".")
    if kind == "signal":
        return settings.promql(name)
    if kind == "limit":
        return limits.by_name[name.removesuffix(".words")].describe()
    return str(settings.template_variables[blank])
