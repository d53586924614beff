"""The parent process of a sandbox's parts: it starts and stops them and executes break and heal commands.

Parts get a death signal, so that they end even if this process is killed. The kernel sends it when the *thread* that
started a process ends, so the main thread starts every part: it lives as long as the process. It only runs tasks from a
queue; everything that waits runs in other threads.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol

from xai_runbook.errors import SandboxError
from xai_runbook.sandbox.components import prometheus
from xai_runbook.sandbox.supervisor import quota, readiness, reaper
from xai_runbook.sandbox.supervisor.component import Layout, Part, PortTaken, environment, free_ports, is_port_taken
from xai_runbook.system import processes, sandbox_state

if TYPE_CHECKING:
    from subprocess import Popen

STOP_SECONDS = 5.0
SETTLE_SECONDS = 10.0
Event = dict[str, Any]
Command = Callable[["Supervisor", str, str | None], list[str]]
"""Execute a verb (break, heal) on a fault; return the names of what was broken, healed or started again."""


class Stack(Protocol):
    """The parts of a sandbox and their settings, as the module `components.stack` provides them."""

    def parts(self, layout: Layout, progress: Callable[[str], None], /) -> list[Part]:
        """Return every part that can run here; record the others in layout.missing."""

    def record_missing(self, layout: Layout, part: str, reason: str, /) -> None:
        """Record why a part, and what depends on it, cannot run here."""

    def overlay(self, layout: Layout, /) -> dict[str, Any]:
        """Return the settings that say where the parts are."""


class Supervisor:
    """One running sandbox. `run` belongs to the main thread; other methods may be called from any thread."""

    def __init__(
        self, folder: Path, stack: Stack, command: Command, emit: Callable[[Event], None],
        ports: Mapping[str, int] | None = None,
    ) -> None:  # fmt: skip
        self.folder = folder
        self.layout = Layout(folder, sandbox_state.cache_folder(), ports or free_ports())
        self.active_faults: list[str] = []
        self.parts: dict[str, Part] = {}
        self._stack = stack
        self._command = command
        self._emit = emit
        self._tasks: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._running: dict[str, Popen[bytes]] = {}
        self._part_records: dict[str, dict[str, Any]] = {}
        self._unanswered: list[str] = []
        self._ready_futures: dict[str, Future[None]] = {}
        self._started_at = datetime.now(UTC)
        self._ready_at: datetime | None = None
        self._failure: BaseException | None = None
        self._stopping = threading.Event()
        self._starting: list[threading.Thread] = []
        self._writing = threading.RLock()
        self._commanding = threading.Lock()

    def run(self) -> None:
        """Start everything, then block until `stop` is called. On return, no process of the sandbox is left.

        Raises SandboxError if a required part did not become ready.
        """
        try:
            self._write_state()
            self._in_background(self._bring_up)
            self._in_background(self._serve_commands)
            while task := self._tasks.get():
                task()
        finally:
            self._take_down()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Ask the main thread to end. Safe in a signal handler: SimpleQueue.put is reentrant."""
        self._tasks.put(None)

    def start_part(self, name: str) -> None:
        """Start a part unless it runs, and wait until it is ready. Raises SandboxError if it does not become ready."""
        part = self._part(name)
        if name in self._running and processes.is_running(self._running[name]):
            return
        if part.prepare:
            part.prepare()
        process = self._spawn(part)
        deadline = time.monotonic() + part.ready_seconds
        while not _is_ready(part):
            if not processes.is_running(process):
                raise self._early_exit_error(part, process.wait())
            if time.monotonic() > deadline:
                raise SandboxError(f"{name} was not ready within {part.ready_seconds:.0f} s", on=self._log_tail(name))
            time.sleep(0.02)
        if not processes.is_running(process):  # another program answered on its port
            raise self._early_exit_error(part, process.wait())
        if part.finish:
            part.finish()

    def stop_part(self, name: str) -> None:
        """Stop a part cleanly; kill it after five seconds."""
        process = self._running.get(self._part(name).name)
        if process is not None:
            self._stop_processes({name: process})

    def signal_part(self, name: str, sig: signal.Signals) -> None:
        """Send a signal to a part's process. Raises SandboxError if it is not running."""
        process = self._running.get(self._part(name).name)
        if process is None or not processes.is_running(process):
            raise SandboxError(f"{name} is not running", hint="xai-runbook sandbox status")
        process.send_signal(sig)

    def pids(self) -> dict[str, int]:
        """Return the pids of the running parts by name, and this process as `supervisor`."""
        running = {name: process.pid for name, process in dict(self._running).items() if processes.is_running(process)}
        return {"supervisor": os.getpid()} | running

    def ended_parts(self) -> list[str]:
        """Return the parts that were ready once and are not running now."""
        ended = [name for name, process in dict(self._running).items() if not processes.is_running(process)]
        return [name for name in ended if name not in self.layout.missing]

    def await_data(self, progress: Callable[[str], None] = lambda _: None) -> None:
        """Wait until Prometheus can answer the report's queries; keep what stays unanswered for the state file."""
        self._unanswered = []
        if "prometheus" in self.pids():
            pending = readiness.PendingQueries(self.layout.url("prometheus"), self.layout.missing)
            self._unanswered = readiness.wait(pending, progress, self._stopping.is_set)

    def _part(self, name: str) -> Part:
        if name not in self.parts:
            raise SandboxError(f"{name} is not part of this sandbox", on=self.layout.missing.get(name, ""))
        return self.parts[name]

    # -- starting

    def _bring_up(self) -> None:
        try:
            parts = self._stack.parts(self.layout, lambda text: self._emit({"event": "note", "text": text}))
            self.parts = {part.name: part for part in parts}
            self._ready_futures = {name: Future() for name in self.parts}
            for part in parts:
                self._starting.append(self._in_background(self._first_start, part))
            for part in parts:
                try:
                    self._ready_futures[part.name].result()
                except Exception as error:
                    if not part.optional or isinstance(error, PortTaken):  # it may start with other ports
                        raise
                    self._scrape_what_runs()
            self._in_background(quota.serve, self.layout, self.pids)
            self.await_data(lambda text: self._emit({"event": "note", "text": text}))
            self._ready_at = datetime.now(UTC)
            self._write_state()
            self._emit({"event": "up", "seconds": (self._ready_at - self._started_at).total_seconds()})
        except BaseException as error:  # `run` raises it
            self._failure = self._failure or error
            self.stop()

    def _scrape_what_runs(self) -> None:
        """Remove a part that did not start from Prometheus' scrape targets, if Prometheus runs."""
        prometheus.write_configuration(self.layout)
        with suppress(SandboxError):
            self.signal_part("prometheus", signal.SIGHUP)

    def _first_start(self, part: Part) -> None:
        try:
            for name in part.after:
                if name in self._ready_futures:
                    self._ready_futures[name].result()
            begun = time.monotonic()
            self.start_part(part.name)
            self._emit({"event": "ready", "part": part.name, "seconds": round(time.monotonic() - begun, 3)})
            self._ready_futures[part.name].set_result(None)
        except BaseException as error:  # raised in the thread that waits for it
            if part.optional and not isinstance(error, PortTaken):
                self._stack.record_missing(self.layout, part.name, str(error) or type(error).__name__)
            self._ready_futures[part.name].set_exception(error)

    def _spawn(self, part: Part) -> Popen[bytes]:
        spawned: Future[Popen[bytes]] = Future()

        def task() -> None:
            try:
                if self._stopping.is_set():
                    raise SandboxError(f"{part.name} was not started: the sandbox is shutting down")
                with open(self.layout.log_file(part.name), "ab") as log:
                    process = processes.start(
                        part.argv,
                        env=environment(self.folder) | dict(part.env),
                        cwd=self.folder,
                        stdout=log,
                        stderr=log,
                        own_group=True,
                        death_signal=part.death_signal,
                    )
                self._running[part.name] = process
                self._part_records[part.name] = {
                    "pid": process.pid,
                    "create_time": processes.created_at(process.pid) or 0.0,
                    "port": self.layout.ports.get(part.name),
                    "argv": list(part.argv),
                    "death_signal": int(part.death_signal),
                }
                spawned.set_result(process)
            except BaseException as error:  # raised in the thread that waits for it
                spawned.set_exception(error)

        self._tasks.put(task)
        process = spawned.result()
        self._write_state()
        self._in_background(process.wait)  # reaps a part that ends by itself
        return process

    def _early_exit_error(self, part: Part, code: int) -> SandboxError:
        ports = {name: port for name, port in self.layout.ports.items() if name in (part.name, f"{part.name}-peer")}
        for name, port in ports.items():
            if is_port_taken(port):
                return PortTaken(
                    f"{part.name} exited before it was ready: its port {port} ({name}) was taken by another program",
                    on=self._log_tail(part.name),
                    hint="start the sandbox again: it chooses other ports",
                )
        return SandboxError(f"{part.name} exited with {code} before it was ready", on=self._log_tail(part.name))

    def _log_tail(self, name: str) -> str:
        try:
            lines = self.layout.log_file(name).read_text(errors="replace").strip().splitlines()
        except OSError:
            return name
        return " | ".join(lines[-3:])[-500:] or name

    # -- commands

    def _serve_commands(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
            # through a descriptor, because a socket path may have at most 107 bytes
            folder = os.open(self.folder, os.O_PATH)
            server.bind(f"/proc/self/fd/{folder}/{sandbox_state.SOCKET_FILE}")
            os.close(folder)
            server.listen(8)
            while True:
                connection, _ = server.accept()
                self._in_background(self._handle_command, connection)

    def _handle_command(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rwb") as stream:
            connection.settimeout(10)
            try:
                request = json.loads(stream.readline(65536))
                with self._commanding:
                    if self._ready_at is None:
                        raise SandboxError("the sandbox is not ready yet")
                    answer: dict[str, Any] = {"done": self._command(self, request["do"], request.get("fault"))}
            except SandboxError as error:
                answer = {"what": error.what, "on": error.on, "hint": error.hint}
            except Exception as error:  # reported to the client
                answer = {"what": f"{type(error).__name__}: {error}", "on": "", "hint": ""}
            if self._ready_at is not None:
                self._write_state()  # also after a command that failed half way
            stream.write(json.dumps(answer).encode() + b"\n")

    # -- stopping

    def _stop_processes(self, running: dict[str, Popen[bytes]]) -> None:
        signals = {process: self.parts[name].death_signal for name, process in running.items()}
        processes.end_all(signals, grace_seconds=STOP_SECONDS)

    def _take_down(self) -> None:
        self._stopping.set()
        self._stop_processes(dict(self._running))
        deadline = time.monotonic() + SETTLE_SECONDS  # lets `prepare` functions end; new starts are refused by now
        while any(thread.is_alive() for thread in list(self._starting)) and time.monotonic() < deadline:
            try:
                task = self._tasks.get(timeout=0.02)
            except Empty:
                continue
            if task:
                task()
        with self._writing:  # held from here on: the state file is not written again
            self._part_records = {}
            self._write_state()
            reaper.clean(self.folder, keep=("logs",) if self._failure else ())
            self._write_state = lambda: None  # type: ignore[method-assign]

    def _write_state(self) -> None:
        """Write the state file: what is running now and where."""
        with self._writing:
            sandbox_state.write(
                self.folder,
                {
                    "schema": sandbox_state.SCHEMA,
                    "pid": os.getpid(),
                    "create_time": processes.created_at(os.getpid()),
                    "started_at": self._started_at.isoformat(),
                    "ready_at": self._ready_at.isoformat() if self._ready_at else None,
                    "parts": dict(self._part_records),
                    "missing": self.layout.missing,
                    "unanswered": self._unanswered,
                    "faults": self.active_faults,
                    "overlay": self._stack.overlay(self.layout) if self._ready_at else {},
                },
            )

    def _in_background(self, work: Callable[..., object], *arguments: object) -> threading.Thread:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        thread.start()
        return thread


def _is_ready(part: Part) -> bool:
    try:
        return part.ready()
    except OSError:
        return False
