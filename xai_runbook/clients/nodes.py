"""XAI nodes' HTTP API: facts by path and JSON pointer, as the settings say where each stands."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from jsonpointer import EndOfList, resolve_pointer

from xai_runbook.clients.http.deadline import side_by_side
from xai_runbook.clients.http.get import HttpAnswer, get
from xai_runbook.errors import BadAnswer, CannotAsk, SettingsError, XaiRunbookError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xai_runbook.settings import models

_MOST_BYTES = 8 * 2**20
_MOST = 2**62  # what is more is no height of any chain, and no integer column holds a difference of two
_MISSING = object()


@dataclass(frozen=True)
class Facts:
    """What one node said, or why it could not be asked (`error`).

    `values` has the facts asked for; `peers` brings `peers_listed` along: how many they are without the node itself.
    """

    node: str
    values: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    error: XaiRunbookError | None = None


class Nodes:
    """A read-only handle on our nodes and the reference nodes. GET only, and no faster than the settings allow."""

    def __init__(self, settings: models.NodesSettings, *, environment: str = "", production: bool = False) -> None:
        self.environment, self.production = environment, production
        self._settings = settings
        self._next_at = 0.0
        self._turn = threading.Lock()

    def identity(self) -> dict[str, str]:
        """Where each of our nodes is, by its name."""
        return {node.name: node.url for node in self._settings.node}

    @property
    def names(self) -> list[str]:
        """Our nodes' names."""
        return [node.name for node in self._settings.node]

    def facts(self, *names: str) -> list[Facts]:
        """Those facts (fields of settings.Facts) of each of our nodes, asked side by side, in the settings' order."""
        return self._ask(self._settings.node, names)

    def reference_facts(self, *names: str) -> list[Facts]:
        """Those facts of each reference node; an empty list where the settings name none."""
        return self._ask(self._settings.reference, names)

    def _ask(self, nodes: Sequence[models.NodeSettings], names: Sequence[str]) -> list[Facts]:
        return side_by_side([partial(self._ask_one, node, names) for node in nodes])

    def _ask_one(self, node: models.NodeSettings, names: Sequence[str]) -> Facts:
        facts, answers, values, seconds = node.facts or self._settings.facts, {}, {}, 0.0
        began = time.monotonic()
        try:
            for name in names:
                fact: models.Fact = getattr(facts, name)
                if fact.path not in answers:
                    self._wait_for_turn()
                    began = time.monotonic()
                    answer = get(
                        node,
                        node.url,
                        fact.path,
                        informative=self._settings.informative_statuses,
                        most_bytes=_MOST_BYTES,
                    )
                    answers[fact.path], seconds = answer, max(seconds, answer.seconds)
                values[name] = _fact(name, fact, answers[fact.path])
                if name == "peers":
                    values["peers_listed"] = len(values[name]) - fact.includes_self
        except (CannotAsk, SettingsError) as error:  # a secret that is missing for one node hides no other
            return Facts(node.name, seconds=time.monotonic() - began, error=error)
        return Facts(node.name, values, seconds)

    def _wait_for_turn(self) -> None:
        with self._turn:
            now = time.monotonic()
            at = max(now, self._next_at)
            self._next_at = at + 1 / self._settings.requests_per_second
        time.sleep(at - now)


def _fact(name: str, fact: models.Fact, answer: HttpAnswer) -> Any:
    """The fact, of the type that it must have; heights as the index of the newest block."""
    value = resolve_pointer(answer.json(), fact.pointer, _MISSING)
    if value is _MISSING or isinstance(value, EndOfList):  # "-" names the element after a list's last one
        raise BadAnswer(
            f"its answer has no {fact.pointer}", on=answer.url, hint=f"nodes.facts.{name}.pointer in the settings"
        )
    if name == "synced" and isinstance(value, bool):
        return value
    if name == "peers" and isinstance(value, list) and len(value) >= fact.includes_self:
        return value
    if name in ("height", "peer_count") and isinstance(value, int) and not isinstance(value, bool):
        # as the index of the newest block, and without the node itself
        told = value - (fact.height_is == "count" if name == "height" else fact.includes_self)
        if 0 <= told <= _MOST:
            return told
    raise BadAnswer(
        f"{fact.pointer} is {type(value).__name__} {str(value)[:40]!r}, which cannot be its {name}",
        on=answer.url,
        hint=f"nodes.facts.{name} in the settings",
    )
