"""Every query of a database against a backend that was stopped (SIGSTOP): all at once, each on a handle of its own.

Nothing on the server's side ends such a wait: no statement_timeout, no keepalive, no cancel request (P18).
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest

from tests.support.discovered import arguments, queries
from tests.support.pace import stretched
from tests.support.postgres_server import Server, running
from xai_runbook.errors import TimedOut, XaiRunbookError
from xai_runbook.model.window import duration_seconds

SECONDS = 2.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("stopped"), max_connections="150") as found:
        yield found


def test_every_query_returns_within_its_deadline_and_a_second(server: Server) -> None:
    asked = queries()
    assert len(asked) > 30
    told: dict[str, tuple[float, object]] = {}
    go = threading.Event()

    def ask(name: str, function: Any, database: Any) -> None:
        go.wait(60)
        began, outcome = time.monotonic(), None
        try:
            function(database, **arguments(name))
        except Exception as error:
            outcome = error
        told[name] = (time.monotonic() - began, outcome)

    with ExitStack() as handles:
        threads = []
        for name, function in asked:
            database = handles.enter_context(server.handle(timeout=f"{SECONDS:g}s"))
            database.frame("identity")
            threads.append(threading.Thread(target=ask, args=(name, function, database), daemon=True))
            threads[-1].start()
        backends = server.backends()
        assert len(backends) == len(asked)
        try:
            for pid in backends:
                os.kill(pid, signal.SIGSTOP)
            go.set()
            for thread in threads:
                thread.join(60)
        finally:
            for pid in backends:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
    assert len(told) == len(asked), {name for name, _ in asked} - told.keys()
    wrong = {name: outcome for name, (_, outcome) in told.items() if not isinstance(outcome, XaiRunbookError)}
    # what tells a silent server in its rows, or asks again on a new connection, answers; nothing else may
    assert not {name: outcome for name, outcome in wrong.items() if outcome is not None}
    assert sum(isinstance(outcome, TimedOut) for _, outcome in told.values()) > len(asked) * 0.8
    late = {
        name: seconds
        for name, (seconds, _) in told.items()
        # a watch lasts as long as it was told to, and looks once more at its end
        if seconds > stretched(SECONDS + 1) + duration_seconds(arguments(name).get("duration", "0s"))
    }
    assert not late
