"""Per-run request cache: concurrent and later equal requests share one response."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Mapping
from concurrent.futures import Future
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from xai_runbook.clients.http.get import HttpAnswer, get

if TYPE_CHECKING:
    from xai_runbook.settings.models import AccessSettings


class RequestCache:
    """Answers of one run, by request. A run takes seconds, so nothing expires. Errors are cached too."""

    def __init__(self) -> None:
        self._answers: dict[Hashable, Future[HttpAnswer]] = {}
        self._lock = threading.Lock()

    def get(
        self,
        access: AccessSettings,
        url: str,
        path: str,
        parameters: Mapping[str, str] = MappingProxyType({}),
        **options: Any,
    ) -> HttpAnswer:
        """Return `http.get.get` of the first equal request. Errors: those of the first request."""
        if parameters.get("query") == "time()":  # the server's clock is read each time
            return get(access, url, path, parameters, **options)
        request = (url, path, tuple(sorted(parameters.items())))
        with self._lock:
            is_first = request not in self._answers
            answer = self._answers.setdefault(request, Future())
        if is_first:
            try:
                answer.set_result(get(access, url, path, parameters, **options))
            except BaseException as error:  # else the other threads would wait for ever
                answer.set_exception(error)
        return answer.result()
