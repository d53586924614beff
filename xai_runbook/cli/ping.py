"""`xai-runbook ping`: what each configured part answered, as whom, how fast, and what to mend."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from xai_runbook.errors import NotConfigured, XaiRunbookError

if TYPE_CHECKING:
    from pandas import DataFrame

    from xai_runbook.environment import Environment


FAILED = ("down", "unknown")
NO_SERVERS = ("backups",)
"""Parts that do not answer: folders."""


class Reply(NamedTuple):
    """One target's answer: `status` is ok, down, unknown (something else answers, or we are not let in) or
    not configured."""

    part: str
    target: str
    status: str
    detail: str = ""
    """Version, and as whom we ask; or what failed."""
    seconds: float | None = None
    mend: str = ""


def replies(env: Environment) -> list[Reply]:
    """A Reply for each target of each part, all asked at once; parts without settings are "not configured"."""
    from xai_runbook.clients.http.deadline import side_by_side
    from xai_runbook.operations import reachability
    from xai_runbook.settings.models import PARTS

    further: dict[str, tuple[str, Callable[[], DataFrame]]] = {
        "nodes": ("nodes.reference", lambda: reachability.reference_nodes(env.nodes)),
        "database": ("database.proxy", lambda: reachability.database(env.database.through_proxy())),
    }
    asks: dict[str, Callable[[], DataFrame]] = {}
    for part in PARTS:
        if part not in NO_SERVERS:
            asks[part] = lambda part=part: getattr(reachability, part)(getattr(env, part))  # type: ignore[misc]
        if part in further:
            name, asks[name] = further[part]
    told = side_by_side([partial(_replies, part, ask) for part, ask in asks.items()])
    return [reply for part in told for reply in part]


def answers(env: Environment) -> DataFrame:
    """The replies as a frame. Columns: part, target, status, detail, seconds, mend."""
    from pandas import DataFrame

    return DataFrame([reply._asdict() for reply in replies(env)])


def _replies(part: str, ask: Callable[[], DataFrame]) -> list[Reply]:
    try:
        frame = ask()
    except NotConfigured as error:
        return [Reply(part, "", "not configured", mend=error.hint)]
    except XaiRunbookError as error:
        return [Reply(part, error.on, "unknown", error.what, mend=error.hint)]
    if frame.empty:
        return [Reply(part, "", "not configured", mend=f"a table [[{part}]]")]
    words = {1.0: "ok", 0.0: "down"}
    return [
        Reply(
            part,
            row["target"],
            words.get(row["answers"], "unknown"),
            row["detail"] or row["error"],
            row["seconds"],
            row["hint"],
        )
        for row in frame.to_dict("records")
    ]


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds `ping`."""
    command = commands.add_parser(
        "ping",
        help="what each configured part answered, as whom, how fast, and what to mend",
        description="Asks every configured part once. Exits 0 if all answered, 3 if one did not.",
        epilog="Example:  xai-runbook ping --env production",
    )
    command.add_argument("--env", help="the environment (XAI_RUNBOOK_ENV, else the sandbox)")
    command.add_argument("--json", action="store_true", help="a list of replies, for programs")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Prints the replies; 3 where a configured part did not answer."""
    from xai_runbook.environment import connect

    env = connect(arguments.env or "")
    told = replies(env)
    if arguments.json:
        import json

        print(f"settings: {env.settings.source}", file=sys.stderr)
        print(json.dumps([reply._asdict() for reply in told], indent=2))
    else:
        print(f"environment {env.name}{' - PRODUCTION' if env.settings.production else ''}")
        print(f"settings    {env.settings.source}")
        for reply in told:
            took = f"{reply.seconds * 1000:.0f} ms" if reply.seconds is not None else ""
            print(f"  {reply.status:<15} {reply.part:<16} {reply.target:<34} {took:>8}  {reply.detail}")
            if reply.status in FAILED and reply.mend:
                print(f"  {'':<15} mend: {reply.mend}")
    return 3 if any(reply.status in FAILED for reply in told) else 0
