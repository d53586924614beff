"""The same question of a server sent once in a run: who asks it meanwhile, or later in the run, gets that answer."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Mapping
from concurrent.futures import Future
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from xai_runbook.clients.http.get import HttpAnswer, get

if TYPE_CHECKING:
    from xai_runbook.settings.models import Access


class RequestCache:
    """Answers of one run, by question; a run is over within seconds, and these with it. A refusal is an answer too."""

    def __init__(self) -> None:
        self._answers: dict[Hashable, Future[HttpAnswer]] = {}
        self._turn = threading.Lock()

    def get(
        self, access: Access, url: str, path: str, parameters: Mapping[str, str] = MappingProxyType({}), **how: Any
    ) -> HttpAnswer:
        """As `http.get.get`, sent if nobody has asked this yet. Errors: those that the first who asked had."""
        if parameters.get("query") == "time()":  # a clock is read anew each time
            return get(access, url, path, parameters, **how)
        question = (url, path, tuple(sorted(parameters.items())))
        with self._turn:
            first = question not in self._answers
            answer = self._answers.setdefault(question, Future())
        if first:
            try:
                answer.set_result(get(access, url, path, parameters, **how))
            except BaseException as error:  # else the others would wait for ever
                answer.set_exception(error)
        return answer.result()
