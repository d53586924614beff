"""The runbook's five Grafana dashboards: one JSON template each, filled in with an environment's settings.

`make dashboards` builds the files. Placeholders: `${metric}` and `${name_window}` of the settings, `${signal.NAME}` for
the PromQL of a limit, `${limit.NAME}` for its threshold, `${limit.NAME.description}` for the threshold as text.
Grafana's own variables have no braces here: `$instance`.
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
"""The tag of imported dashboards. Undoing an import deletes only dashboards with this tag."""
FILES = {
    "Blockchain Node": "blockchain_node",
    "Network Status": "network_status",
    "Database Performance": "database_performance",
    "System Resources": "system_resources",
    "Application Metrics": "application_metrics",
}
"""File names by the runbook's titles, in its order."""
_PLACEHOLDER = re.compile(r"\$\{([a-z_0-9.]+)\}")


def dashboard(title: str, settings: PromqlSettings, limits: Limits) -> dict[str, Any]:
    """Return Grafana's JSON of a shipped dashboard, filled in with this environment's metrics, PromQL and limits."""
    import json

    template = json.loads((Path(__file__).parent / f"{FILES[title]}.json").read_text(encoding="utf-8"))
    filled: dict[str, Any] = _filled(template, settings, limits)
    return filled


def contents(dashboard: Mapping[str, Any]) -> list[Any]:
    """Return what a reader sees: title, variables and panels with their queries, units and thresholds.

    Two dashboards with equal contents look the same; ids and defaults that Grafana adds are ignored.
    """
    variables = [variable.get("name") for variable in (dashboard.get("templating") or {}).get("list") or []]
    return [dashboard.get("title"), variables, *map(_panel_contents, queries.panels(dashboard))]


def _panel_contents(panel: Mapping[str, Any]) -> list[Any]:
    defaults = (panel.get("fieldConfig") or {}).get("defaults") or {}
    steps = [[step.get("value"), step.get("color")] for step in (defaults.get("thresholds") or {}).get("steps") or []]
    targets = [[target.get("expr"), target.get("legendFormat")] for target in panel.get("targets") or []]
    return [panel.get("type"), panel.get("title"), panel.get("description"), defaults.get("unit"), steps, targets]


def _filled(value: Any, settings: PromqlSettings, limits: Limits) -> Any:
    if isinstance(value, dict):
        return {key: _filled(part, settings, limits) for key, part in value.items()}
    if isinstance(value, list):
        return [_filled(part, settings, limits) for part in value]
    if not isinstance(value, str):
        return value
    single = _PLACEHOLDER.fullmatch(value)
    if single and single[1].startswith("limit.") and single[1].count(".") == 1:
        return limits.by_name[single[1].removeprefix("limit.")].threshold  # a number, not text
    return _PLACEHOLDER.sub(lambda match: _replacement(match[1], settings, limits), value)


def _replacement(placeholder: str, settings: PromqlSettings, limits: Limits) -> str:
    kind, _, name = placeholder.partition(".")
    if kind == "signal":
        return settings.promql(name)
    if kind == "limit":
        return limits.by_name[name.removesuffix(".description")].describe()
    return str(settings.template_variables[placeholder])
