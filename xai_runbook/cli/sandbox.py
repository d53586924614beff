"""``xai-runbook sandbox ...``: the command line of the sandbox. Cheap to import: the work comes in later."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable

INTERRUPTED_SECONDS = 10.0
NOT_RUNNING = 3  # as for `systemctl status`


def add_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds ``sandbox`` with its commands; each sets `run`, which takes the parsed arguments and returns the exit code.

    It may raise XaiRunbookError and KeyboardInterrupt.
    """
    sandbox = subparsers.add_parser(
        "sandbox",
        help="a small production of real servers on this machine, and its faults",
        description="PostgreSQL, Prometheus, Valkey, simulated XAI nodes and a recorded Grafana, on loopback, as an "
        "ordinary user. It lives in $XAI_RUNBOOK_SANDBOX, else in the XDG state folder; --env sandbox finds it there.",
        epilog="example:\n  xai-runbook sandbox up\n  xai-runbook sandbox break height-frozen\n"
        "  xai-runbook check --env sandbox\n  xai-runbook sandbox heal\n  xai-runbook sandbox down",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = sandbox.add_subparsers(dest="sandbox_command", metavar="COMMAND", required=True)

    def command(
        name: str, does: str, run: Callable[[argparse.Namespace], int], example: str
    ) -> argparse.ArgumentParser:
        parser = commands.add_parser(
            name,
            help=does,
            description=does,
            epilog=f"example:\n  xai-runbook sandbox {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.set_defaults(run=run)
        if name != "run":
            parser.add_argument("--json", action="store_true", help="print JSON on stdout")
        return parser

    up = command("up", "start the sandbox and return when all of it is ready", _up, "up")
    up.add_argument("--foreground", action="store_true", help="stay; Ctrl-C takes everything down")
    command("status", "what runs, where, and which faults it has (exit code 3: no sandbox)", _status, "status --json")
    command("down", "take the sandbox down, or what a crashed one left", _down, "down")
    command("faults", "the faults that can be broken, and the finding that names each", _faults, "faults")
    broken = command("break", "break a fault in the running sandbox", _break, "break node-stopped")
    broken.add_argument("fault", metavar="FAULT", help="its name, as `sandbox faults` lists them")
    healed = command("heal", "heal a fault, or all of them", _heal, "heal node-stopped")
    healed.add_argument("fault", metavar="FAULT", nargs="?", help="its name; all broken ones if left out")
    runs = command(
        "run",
        "run a command with a sandbox; one that was started for it is taken down afterwards",
        _run,
        "run -- xai-runbook report --env sandbox",
    )
    runs.add_argument("argv", metavar="COMMAND", nargs=argparse.REMAINDER, help="the command and its arguments")


def _up(arguments: argparse.Namespace) -> int:
    from xai_runbook import sandbox

    if arguments.foreground:
        return _up_in_foreground()
    with _Progress() as progress:
        found = sandbox.up(progress=progress)
    if arguments.json:
        _print_json(found)
        return 0
    print("The sandbox is up." if found.get("started") else "The sandbox was up already.")
    _print_parts(found)
    return 0


def _up_in_foreground() -> int:
    from xai_runbook.sandbox.supervisor import daemon
    from xai_runbook.system import sandbox_state

    folder = sandbox_state.run_folder()
    with _Progress() as progress:

        def say(event: dict[str, Any]) -> None:
            progress(event)
            if event["event"] == "up":
                progress.finish()
                print(f"The sandbox is up after {event['seconds']:.1f} s. Ctrl-C takes it down.", flush=True)

        if daemon.supervise(folder, say):
            print("The sandbox is down.")
            return 0
    print("The sandbox is up already, under another supervisor: xai-runbook sandbox status", file=sys.stderr)
    return 1


def _status(arguments: argparse.Namespace) -> int:
    from xai_runbook import sandbox

    found = sandbox.status()
    if arguments.json:
        _print_json(found)
    elif found is None:
        print("No sandbox runs. To start one: xai-runbook sandbox up")
    else:
        _print_parts(found)
    return NOT_RUNNING if found is None else 0


def _down(arguments: argparse.Namespace) -> int:
    from xai_runbook import sandbox

    was_there = sandbox.down()
    if arguments.json:
        _print_json({"was_there": was_there})
    else:
        print("The sandbox is down." if was_there else "There was no sandbox to take down.")
    return 0


def _faults(arguments: argparse.Namespace) -> int:
    from xai_runbook import sandbox

    found = sandbox.known_faults()
    if arguments.json:
        _print_json(found)
        return 0
    for fault in found:
        print(f"{'broken' if fault['broken'] else '':6}  {fault['name']:16} {fault['finding']:22} {fault['does']}")
    return 0


def _break(arguments: argparse.Namespace) -> int:
    from xai_runbook import sandbox

    return _changed("broken", sandbox.break_(arguments.fault), arguments.json)


def _heal(arguments: argparse.Namespace) -> int:
    from xai_runbook import sandbox

    return _changed("healed", sandbox.heal(arguments.fault), arguments.json)


def _changed(how: str, names: list[str], as_json: bool) -> int:
    if as_json:
        _print_json({how: names})
    else:
        print(f"{how}: {', '.join(names) or 'nothing, no such fault was broken'}")
    return 0


def _run(arguments: argparse.Namespace) -> int:
    import signal

    from xai_runbook import sandbox
    from xai_runbook.errors import InputError
    from xai_runbook.system import processes, sandbox_state

    argv = arguments.argv[1:] if arguments.argv[:1] == ["--"] else arguments.argv
    if not argv:
        raise InputError("no command to run", hint="xai-runbook sandbox run -- COMMAND [ARGUMENT ...]")
    folder = sandbox_state.run_folder()
    signal.signal(signal.SIGTERM, _interrupt)
    with _Progress() as progress, sandbox.running(folder, progress=progress):
        progress.finish()
        environment = os.environ | {"XAI_RUNBOOK_SANDBOX": str(folder), "XAI_RUNBOOK_ENV": "sandbox"}
        try:
            child = processes.start(
                argv, env=environment, cwd=None, stdin="inherit", stdout="inherit", stderr="inherit", own_group=False
            )
        except OSError as error:
            raise InputError(f"{argv[0]} cannot be run: {error.strerror}") from None
        # Whoever ends us means the command: it gets the signal, and the sandbox goes down as after any other end.
        signal.signal(signal.SIGTERM, lambda *_: child.terminate())
        try:
            code = child.wait()
        except KeyboardInterrupt:  # a terminal's Ctrl-C went to the child too, which may have something to put away
            if not processes.ended_within(child, INTERRUPTED_SECONDS):
                processes.kill(child)
            code = child.returncode
    return code if code >= 0 else 128 - code


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


class _Progress:
    """Shows events on one line of a terminal that is rewritten; nothing where stderr is no terminal."""

    def __init__(self) -> None:
        self._ready: list[str] = []
        self._shown = sys.stderr.isatty()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()

    def __call__(self, event: dict[str, Any]) -> None:
        if event["event"] == "ready":
            self._ready.append(event["part"])
        if self._shown and event["event"] in ("ready", "note"):
            line = event.get("text") or f"ready: {', '.join(self._ready)}"
            print(f"\r\x1b[K{line[:100]}", end="", file=sys.stderr, flush=True)

    def finish(self) -> None:
        """Clears the line."""
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _print_parts(found: dict[str, Any]) -> None:
    for name, part in sorted(found["parts"].items()):
        if name in found["missing"]:  # it was started, and ended or was not ready in time
            continue
        port = f"127.0.0.1:{part['port']}" if part["port"] else ""
        print(f"  {name:18} {part.get('condition', 'running'):8} pid {part['pid']:<8} {port}")
    for name, why in found["missing"].items():
        print(f"  {name:18} missing: {why}")
    if found.get("unanswered"):
        print(f"  no data yet: {', '.join(found['unanswered'])}")
    for name in found["faults"]:
        print(f"  fault: {name}")


def _print_json(content: object) -> None:
    print(json.dumps(content, indent=1))


def main() -> int:
    """``python -m xai_runbook.cli.sandbox up``: the same commands without the rest of xai-runbook."""
    from xai_runbook.errors import XaiRunbookError

    parser = argparse.ArgumentParser(prog="xai-runbook")
    add_commands(parser.add_subparsers(required=True))
    arguments = parser.parse_args(["sandbox", *sys.argv[1:]])
    try:
        return int(arguments.run(arguments))
    except XaiRunbookError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
