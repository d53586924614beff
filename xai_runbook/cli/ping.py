"""`xai-runbook ping`: whether each configured part answers, as which user, how fast, and what to try if not."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from xai_runbook.cli.parser import add_command
from xai_runbook.cli.table import table_rows, terminal_width, wrapped
from xai_runbook.errors import NotConfigured, XaiRunbookError

if TYPE_CHECKING:
    from pandas import DataFrame

    from xai_runbook.cli.parser import Commands
    from xai_runbook.environment import Environment


FAILED = ("down", "unknown")
NO_SERVERS = ("backups",)
"""Parts that are folders, not servers."""
_HINT_INDENT = 18


class Reply(NamedTuple):
    """The answer of one target. `status` is ok, down, unknown (another server, or access denied) or not configured."""

    part: str
    target: str
    status: str
    detail: str = ""
    """The server's version and our user, or the error."""
    seconds: float | None = None
    hint: str = ""


def replies(env: Environment) -> list[Reply]:
    """Return a Reply for each target of each part, all asked in parallel."""
    from xai_runbook.clients.http.deadline import in_parallel
    from xai_runbook.operations import reachability
    from xai_runbook.settings.models import PARTS

    further: dict[str, tuple[str, Callable[[], DataFrame]]] = {
        "nodes": ("nodes.reference", lambda: reachability.reference_nodes(env.nodes)),
        "database": ("database.proxy", lambda: reachability.database(env.database.through_proxy())),
    }
    requests: dict[str, Callable[[], DataFrame]] = {}
    for part in PARTS:
        if part not in NO_SERVERS:
            requests[part] = lambda part=part: getattr(reachability, part)(getattr(env, part))  # type: ignore[misc]
        if part in further:
            name, requests[name] = further[part]
    parts = in_parallel([partial(_replies, part, request) for part, request in requests.items()])
    return [reply for part in parts for reply in part]


def answers(env: Environment) -> DataFrame:
    """Return the replies as a frame. Columns: part, target, status, detail, seconds, hint."""
    from pandas import DataFrame

    return DataFrame([reply._asdict() for reply in replies(env)])


def _replies(part: str, request: Callable[[], DataFrame]) -> list[Reply]:
    try:
        frame = request()
    except NotConfigured as error:
        return [Reply(part, "", "not configured", hint=error.hint)]
    except XaiRunbookError as error:
        return [Reply(part, error.on, "unknown", error.what, hint=error.hint)]
    if frame.empty:
        return [Reply(part, "", "not configured", hint=f"a table [[{part}]]")]
    statuses = {1.0: "ok", 0.0: "down"}
    return [
        Reply(
            part,
            row["target"],
            statuses.get(row["answers"], "unknown"),
            row["detail"] or row["error"],
            row["seconds"],
            row["hint"],
        )
        for row in frame.to_dict("records")
    ]


def add_commands(commands: Commands) -> None:
    """Add `ping`."""
    command = add_command(
        commands,
        "ping",
        "ask every configured part once whether it answers",
        description="Ask every configured part once: its version, our user, the time it took, and what to try if it"
        " does not answer. Exits with 0 if all answered, else with 3.",
        examples="xai-runbook ping --env production",
        run=run,
    )
    command.add_argument("--json", action="store_true", help="print a list of replies as JSON")


def run(options: argparse.Namespace) -> int:
    """Print the replies; return 3 if a configured part did not answer."""
    from xai_runbook.environment import connect

    env = connect(options.env or "")
    found = replies(env)
    if options.json:
        import json

        print(f"settings: {env.settings.source}", file=sys.stderr)
        print(json.dumps([reply._asdict() for reply in found], indent=2))
    else:
        print(f"environment {env.name}{' - PRODUCTION' if env.settings.production else ''}")
        print(f"settings    {env.settings.source}")
        width = terminal_width()
        rows = table_rows([_row(reply) for reply in found], width=width, indent=2, right=[3])
        for reply, row in zip(found, rows, strict=True):
            print(row)
            if reply.status in FAILED and reply.hint:
                print(wrapped(f"try: {reply.hint}", width=width, indent=_HINT_INDENT))
    return 3 if any(reply.status in FAILED for reply in found) else 0


def _row(reply: Reply) -> list[str]:
    seconds = f"{reply.seconds * 1000:.0f} ms" if reply.seconds is not None else ""
    return [f"{reply.status:<14}", reply.part, reply.target, seconds, reply.detail]
