"""Read-only client of the XAI nodes' HTTP API: facts, by the paths and JSON pointers in the settings."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from jsonpointer import EndOfList, resolve_pointer

from xai_runbook.clients.http.deadline import in_parallel
from xai_runbook.clients.http.get import HttpAnswer, get
from xai_runbook.errors import BadAnswer, CannotAsk, SettingsError, XaiRunbookError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xai_runbook.settings import models

_MAX_BYTES = 8 * 2**20
_MAX_HEIGHT = 2**62  # so that the difference of two heights fits into an integer column
_MISSING = object()


@dataclass(frozen=True)
class NodeFacts:
    """The facts of one node, or the error of the request.

    `values` has the requested facts. With `peers` it also has `peers_listed`: their number without the node itself.
    """

    node: str
    values: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    error: XaiRunbookError | None = None


class Nodes:
    """Our nodes and the reference nodes. Only GET is sent, at most `requests_per_second` times a second."""

    def __init__(self, settings: models.NodesSettings, *, environment: str = "", production: bool = False) -> None:
        self.environment, self.production = environment, production
        self._settings = settings
        self._next_at = 0.0
        self._rate_lock = threading.Lock()

    def identity(self) -> dict[str, str]:
        """Return the URL of each of our nodes by its name."""
        return {node.name: node.url for node in self._settings.node}

    @property
    def names(self) -> list[str]:
        """The names of our nodes."""
        return [node.name for node in self._settings.node]

    def facts(self, *names: str) -> list[NodeFacts]:
        """Return these facts (fields of FactsSettings) of each of our nodes, in the order of the settings."""
        return self._ask_all(self._settings.node, names)

    def reference_facts(self, *names: str) -> list[NodeFacts]:
        """Return these facts of each reference node; an empty list if the settings name none."""
        return self._ask_all(self._settings.reference, names)

    def _ask_all(self, nodes: Sequence[models.NodeSettings], names: Sequence[str]) -> list[NodeFacts]:
        return in_parallel([partial(self._ask, node, names) for node in nodes])

    def _ask(self, node: models.NodeSettings, names: Sequence[str]) -> NodeFacts:
        facts, answers, values, seconds = node.facts or self._settings.facts, {}, {}, 0.0
        started = time.monotonic()
        try:
            for name in names:
                fact: models.FactSettings = getattr(facts, name)
                if fact.path not in answers:
                    self._limit_rate()
                    started = time.monotonic()
                    answer = get(
                        node,
                        node.url,
                        fact.path,
                        informative=self._settings.informative_statuses,
                        max_bytes=_MAX_BYTES,
                    )
                    answers[fact.path], seconds = answer, max(seconds, answer.seconds)
                values[name] = _fact(name, fact, answers[fact.path])
                if name == "peers":
                    values["peers_listed"] = len(values[name]) - fact.includes_self
        except (
            CannotAsk,
            SettingsError,
        ) as error:  # the other nodes' answers count, even if this one's secret is missing
            return NodeFacts(node.name, seconds=time.monotonic() - started, error=error)
        return NodeFacts(node.name, values, seconds)

    def _limit_rate(self) -> None:
        with self._rate_lock:
            now = time.monotonic()
            at = max(now, self._next_at)
            self._next_at = at + 1 / self._settings.requests_per_second
        time.sleep(at - now)


def _fact(name: str, fact: models.FactSettings, answer: HttpAnswer) -> Any:
    """Return the fact in its type; a height as the index of the newest block. Errors: BadAnswer."""
    value = resolve_pointer(answer.json(), fact.pointer, _MISSING)
    if value is _MISSING or isinstance(value, EndOfList):  # "-" names the element after a list's last one
        raise BadAnswer(
            f"its answer has no {fact.pointer}",
            on=answer.url,
            hint=f"check nodes.facts.{name}.pointer in the settings",
        )
    if name == "synced" and isinstance(value, bool):
        return value
    if name == "peers" and isinstance(value, list) and len(value) >= fact.includes_self:
        return value
    if name in ("height", "peer_count") and isinstance(value, int) and not isinstance(value, bool):
        # a height becomes the index of the newest block, a number of peers excludes the node itself
        number = value - (fact.height_is == "count" if name == "height" else fact.includes_self)
        if 0 <= number <= _MAX_HEIGHT:
            return number
    raise BadAnswer(
        f"{fact.pointer} is {type(value).__name__} {str(value)[:40]!r}, not a valid {name}",
        on=answer.url,
        hint=f"check nodes.facts.{name} in the settings",
    )
