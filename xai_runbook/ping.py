"""`xai-runbook ping`: what each configured part answered, as whom, how fast, and what to mend."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from xai_runbook.errors import CannotAsk, XaiRunbookError

if TYPE_CHECKING:
    from pandas import DataFrame

    from xai_runbook.environment import Environment


@dataclass(frozen=True)
class Reply:
    """One part's answer: `status` is ok, down or not configured."""

    part: str
    target: str
    status: str
    detail: str = ""
    """Version, and as whom we ask; or what failed."""
    seconds: float | None = None
    mend: str = ""


def replies(env: Environment) -> list[Reply]:
    """A Reply for each target of each part, all asked at once; parts without settings are "not configured"."""
    asks: dict[str, Callable[[Environment], list[Reply]]] = {
        "prometheus": _prometheus, "nodes": _nodes, "database": _database, "cache": _cache,
    }
    missing = env.settings.not_configured
    with ThreadPoolExecutor(max_workers=len(asks)) as pool:
        answered = list(pool.map(lambda part: [] if part in missing else _told(part, asks[part], env), asks))
    silent = [Reply(part, "", "not configured", mend=f"a table [{part}], if you have one") for part in missing]
    return [reply for part in answered for reply in part] + silent


def answers(env: Environment) -> DataFrame:
    """The replies as a frame. Columns: part, target, status, detail, seconds, mend."""
    from pandas import DataFrame

    return DataFrame([asdict(reply) for reply in replies(env)])


def _told(part: str, ask: Callable[[Environment], list[Reply]], env: Environment) -> list[Reply]:
    try:
        return ask(env)
    except XaiRunbookError as error:
        return [_down(part, error.on, error)]


def _down(part: str, target: str, error: XaiRunbookError) -> Reply:
    return Reply(part, target, "down", error.what, mend=error.hint)


def _prometheus(env: Environment) -> list[Reply]:
    from time import monotonic

    started = monotonic()
    build = env.prometheus.buildinfo()
    detail = f"Prometheus {build.get('version', '?')}"
    settings = env.settings.prometheus
    assert settings is not None
    return [Reply("prometheus", settings.url, "ok", detail, monotonic() - started)]


def _nodes(env: Environment) -> list[Reply]:
    told = []
    for part, facts in (("nodes", env.nodes.facts), ("nodes.reference", env.nodes.reference_facts)):
        for answer in facts("height"):
            if isinstance(answer.error, CannotAsk):
                told.append(_down(part, answer.node, answer.error))
            else:
                height = f"height {answer.values['height']}"
                told.append(Reply(part, answer.node, "ok", height, answer.seconds))
    return told


def _database(env: Environment) -> list[Reply]:
    from time import monotonic

    started = monotonic()
    who = env.database.frame("identity").iloc[0]
    detail = f"PostgreSQL {who['version']} as {who['role']}, system_identifier {who['system_identifier']}"
    if who["in_recovery"]:
        detail += ", a standby"
    return [Reply("database", env.database.address, "ok", detail, monotonic() - started)]


def _cache(env: Environment) -> list[Reply]:
    from time import monotonic

    started = monotonic()
    info = env.cache.info()
    server = "Valkey" if "valkey_version" in info else "Redis"
    version = info.get("valkey_version") or info.get("redis_version", "?")
    return [Reply("cache", env.cache.address, "ok", f"{server} {version}", monotonic() - started)]


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

        print(json.dumps([asdict(reply) for reply in told], indent=2))
    else:
        print(f"environment {env.name}{' - PRODUCTION' if env.settings.production else ''}")
        for reply in told:
            took = f"{reply.seconds * 1000:.0f} ms" if reply.seconds is not None else ""
            print(f"  {reply.status:<15} {reply.part:<16} {reply.target:<34} {took:>8}  {reply.detail}")
            if reply.status == "down" and reply.mend:
                print(f"  {'':<15} mend: {reply.mend}")
    return 3 if any(reply.status == "down" for reply in told) else 0
