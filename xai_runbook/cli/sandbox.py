"""`xai-runbook sandbox ...`: start, break, heal and stop the sandbox. Cheap to import, as all commands are."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import TYPE_CHECKING, Any, Self

from xai_runbook.cli.parser import add_command, add_group
from xai_runbook.cli.progress import clear_line, show_line
from xai_runbook.cli.table import print_table, terminal_width, wrapped

if TYPE_CHECKING:
    from collections.abc import Callable

    from xai_runbook.cli.parser import Commands

INTERRUPTED_SECONDS = 10.0
NOT_RUNNING = 3  # as for `systemctl status`


def add_commands(commands: Commands) -> None:
    """Add `sandbox` with its commands."""
    group = add_group(
        commands,
        "sandbox",
        "a small production of real servers on this machine, with faults to practise on",
        description="PostgreSQL, Prometheus, Valkey, simulated XAI nodes and a recorded Grafana, on loopback, as an"
        " ordinary user. The sandbox's folder is $XAI_RUNBOOK_SANDBOX, else a folder in the XDG state folder; --env"
        " sandbox finds it there.",
        examples="""\
xai-runbook sandbox up
xai-runbook sandbox break height-frozen
xai-runbook check --env sandbox
xai-runbook sandbox heal
xai-runbook sandbox down""",
    )

    def command(
        name: str, summary: str, run: Callable[[argparse.Namespace], int], example: str = ""
    ) -> argparse.ArgumentParser:
        parser = add_command(group, name, summary, examples=f"xai-runbook sandbox {example or name}", run=run, env="")
        if name != "run":
            parser.add_argument("--json", action="store_true", help="print JSON")
        return parser

    up = command("up", "start the sandbox and return when all of it is ready", _up)
    up.add_argument("--foreground", action="store_true", help="keep running until Ctrl-C, which stops the sandbox")
    command("status", "show its parts, ports and broken faults (exit code 3: not running)", _status, "status --json")
    command("down", "stop the sandbox, or what a crashed one left running", _down)
    command("faults", "list the faults that can be broken, and the finding that reports each", _faults)
    broken = command("break", "break a fault in the running sandbox", _break, "break node-stopped")
    broken.add_argument("fault", metavar="FAULT", help="a name from `xai-runbook sandbox faults`")
    healed = command("heal", "heal a fault, or all of them", _heal, "heal node-stopped")
    healed.add_argument("fault", metavar="FAULT", nargs="?", help="default: all broken faults")
    runs = command(
        "run",
        "run a command with a sandbox, which is stopped afterwards if it was started for it",
        _run,
        "run -- xai-runbook report --env sandbox",
    )
    runs.add_argument("argv", metavar="COMMAND", nargs=argparse.REMAINDER, help="the command and its arguments")


def _up(options: argparse.Namespace) -> int:
    from xai_runbook import sandbox

    if options.foreground:
        return _up_in_foreground()
    with _Progress() as progress:
        state = sandbox.up(progress=progress)
    if options.json:
        _print_json(state)
        return 0
    print("The sandbox is up." if state.get("started") else "The sandbox was up already.")
    _print_parts(state)
    return 0


def _up_in_foreground() -> int:
    from xai_runbook.sandbox.supervisor import daemon
    from xai_runbook.system import sandbox_state

    folder = sandbox_state.run_folder()
    with _Progress() as progress:

        def show(event: dict[str, Any]) -> None:
            progress(event)
            if event["event"] == "up":
                progress.finish()
                print(f"The sandbox is up after {event['seconds']:.1f} s. Ctrl-C stops it.", flush=True)

        if daemon.supervise(folder, show):
            print("The sandbox is down.")
            return 0
    print("The sandbox is up already, under another supervisor: xai-runbook sandbox status", file=sys.stderr)
    return 1


def _status(options: argparse.Namespace) -> int:
    from xai_runbook import sandbox

    state = sandbox.status()
    if options.json:
        _print_json(state)
    elif state is None:
        print("The sandbox is not running. To start it: xai-runbook sandbox up")
    else:
        _print_parts(state)
    return NOT_RUNNING if state is None else 0


def _down(options: argparse.Namespace) -> int:
    from xai_runbook import sandbox

    was_running = sandbox.down()
    if options.json:
        _print_json({"was_there": was_running})
    else:
        print("The sandbox is down." if was_running else "There was no sandbox to stop.")
    return 0


def _faults(options: argparse.Namespace) -> int:
    from xai_runbook import sandbox

    faults = sandbox.known_faults()
    if options.json:
        _print_json(faults)
        return 0
    print_table(
        [
            [f"{'broken' if fault['broken'] else '':6}", fault["name"], fault["finding"], fault["does"]]
            for fault in faults
        ]
    )
    return 0


def _break(options: argparse.Namespace) -> int:
    from xai_runbook import sandbox

    return _print_changed("broken", sandbox.break_(options.fault), options.json)


def _heal(options: argparse.Namespace) -> int:
    from xai_runbook import sandbox

    return _print_changed("healed", sandbox.heal(options.fault), options.json)


def _print_changed(verb: str, names: list[str], as_json: bool) -> int:
    if as_json:
        _print_json({verb: names})
    else:
        print(f"{verb}: {', '.join(names) or 'nothing, no such fault was broken'}")
    return 0


def _run(options: argparse.Namespace) -> int:
    import signal

    from xai_runbook import sandbox
    from xai_runbook.errors import InputError
    from xai_runbook.system import processes, sandbox_state

    argv = options.argv[1:] if options.argv[:1] == ["--"] else options.argv
    if not argv:
        options.usage_error("no command to run: xai-runbook sandbox run -- COMMAND [ARGUMENT ...]")
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
        # pass SIGTERM on to the command; the sandbox is stopped when the command has ended
        signal.signal(signal.SIGTERM, lambda *_: child.terminate())
        try:
            code = child.wait()
        except KeyboardInterrupt:  # the terminal sent Ctrl-C to the child too, which may need time to clean up
            if not processes.ended_within(child, INTERRUPTED_SECONDS):
                processes.kill(child)
            code = child.returncode
    return code if code >= 0 else 128 - code


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


class _Progress:
    """Shows the events of a start on one line of a terminal; shows nothing if stderr is not a terminal."""

    def __init__(self) -> None:
        self._ready: list[str] = []
        self._is_terminal = sys.stderr.isatty()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()

    def __call__(self, event: dict[str, Any]) -> None:
        if event["event"] == "ready":
            self._ready.append(event["part"])
        if self._is_terminal and event["event"] in ("ready", "note"):
            show_line(event.get("text") or f"ready: {', '.join(self._ready)}")

    def finish(self) -> None:
        """Clear the line."""
        if self._is_terminal:
            clear_line()


def _print_parts(state: dict[str, Any]) -> None:
    missing = state["missing"]
    print_table(
        [
            [
                name,
                part.get("condition", "running"),
                f"pid {part['pid']}",
                f"127.0.0.1:{part['port']}" if part["port"] else "",
            ]
            for name, part in sorted(state["parts"].items())
            if name not in missing  # a missing part may have been started, but ended or was not ready in time
        ],
        indent=2,
    )
    notes = [f"{name} is missing: {reason}" for name, reason in missing.items()]
    if state.get("unanswered"):
        notes.append(f"no data yet: {', '.join(state['unanswered'])}")
    for note in [*notes, *(f"fault: {name}" for name in state["faults"])]:
        print(wrapped(note, width=terminal_width(), indent=2))


def _print_json(content: object) -> None:
    print(json.dumps(content, indent=1))
