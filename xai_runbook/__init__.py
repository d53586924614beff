"""The operations runbook of the XAI blockchain, as typed operations, notebooks and health reports.

from xai_runbook import connect
env = connect("sandbox")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xai_runbook.changes.apply import apply
    from xai_runbook.environment import Environment, connect
    from xai_runbook.errors import XaiRunbookError
    from xai_runbook.model.findings import Finding, Limit, Severity, Status
    from xai_runbook.model.outcome import Outcome
    from xai_runbook.model.plans import Plan
    from xai_runbook.model.secret import Secret
    from xai_runbook.model.window import Window
    from xai_runbook.reports.check import check
    from xai_runbook.reports.make import make_report

__all__ = [
    "Environment",
    "Finding",
    "Limit",
    "Outcome",
    "Plan",
    "Secret",
    "Severity",
    "Status",
    "Window",
    "XaiRunbookError",
    "apply",
    "check",
    "connect",
    "make_report",
]

_MODULES = {
    "Environment": "environment",
    "Finding": "model.findings",
    "Limit": "model.findings",
    "Outcome": "model.outcome",
    "Plan": "model.plans",
    "Secret": "model.secret",
    "Severity": "model.findings",
    "Status": "model.findings",
    "Window": "model.window",
    "XaiRunbookError": "errors",
    "apply": "changes.apply",
    "check": "reports.check",
    "connect": "environment",
    "make_report": "reports.make",
}


def __getattr__(name: str) -> object:
    # lazy: `xai-runbook --help` and the report's worker must start fast
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
