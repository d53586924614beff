"""The only door to a change: `apply`, the only holder of credentials that can change anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xai_runbook.execution.door import apply
    from xai_runbook.execution.outcome import Outcome

__all__ = ["Outcome", "apply"]


def __getattr__(name: str) -> object:
    from importlib import import_module

    homes = {"apply": "door", "Outcome": "outcome"}
    if name not in homes:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{homes[name]}"), name)
