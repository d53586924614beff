"""The XAI blockchain's operations runbook as typed operations, notebooks and health reports.

from xai_runbook import connect
env = connect("sandbox")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xai_runbook.environment import Environment, connect
    from xai_runbook.errors import XaiRunbookError
    from xai_runbook.execution import Outcome, apply
    from xai_runbook.findings import Finding, Limit, Severity, Status
    from xai_runbook.plans import Plan
    from xai_runbook.secret import Secret
    from xai_runbook.window import Window

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
    "connect",
]

_HOMES = {
    "Environment": "environment",
    "Finding": "findings",
    "Limit": "findings",
    "Outcome": "execution",
    "Plan": "plans",
    "Secret": "secret",
    "Severity": "findings",
    "Status": "findings",
    "Window": "window",
    "XaiRunbookError": "errors",
    "apply": "execution",
    "connect": "environment",
}


def __getattr__(name: str) -> object:
    # lazily: `xai-runbook --help` and the report's worker must not pay for what they do not use
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
