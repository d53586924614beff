"""Runs notebooks side by side, each in its own worker process, and ends every process it started, whatever happens."""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import IO, Any

from xai_runbook.errors import InputError, ReportError, inert
from xai_runbook.reports import parameters as parameter
from xai_runbook.reports import read
from xai_runbook.reports.bounds import Mask
from xai_runbook.reports.launch import MARK
from xai_runbook.reports.result import Event, Interrupted, NotebookResult

_MOST_BYTES = 100_000_000
_SLACK_SECONDS = 90.0  # beyond a cell's own deadline: a kernel that starts again, a slow disk
_LONGEST_FOLDER = 70  # a socket's whole path may have 107 characters


def execute(
    notebooks: Sequence[Path],
    *,
    parameters: Mapping[str, object],
    out: Path,
    jobs: int = 2,
    cell_seconds: float = 60.0,
    run_seconds: float = 600.0,
    environment: Mapping[str, str] | None = None,
    progress: Callable[[Event], None] = lambda event: None,
    secrets: Sequence[str] | None = None,
) -> list[NotebookResult]:
    """What each notebook came to, in the order given; the executed copies are in the folder `out`.

    Each parameter goes to the notebooks that declare it. `environment` is laid over this process's own for the workers.
    `secrets` are masked in whatever is kept; without them, those that the environment's settings refer to.

    Errors: InputError for a path, parameter or value that cannot be used, before anything runs; ReportError when `out`
    cannot be written; Interrupted, with what had been run, on Ctrl-C and SIGTERM.
    """
    if jobs < 1 or not cell_seconds > 0 or not run_seconds > 0:
        raise InputError("jobs and deadlines must be more than nothing", hint="--jobs 2 --cell-timeout 60s")
    tasks = _tasks(notebooks, out)
    known = {name for task in tasks for name in task.defaults}
    # the environment also reaches a notebook that does not declare it
    parameter.refuse_unknown(parameters.keys() - {"environment"}, known)
    for task in tasks:
        task.parameters = parameter.fitted(task.defaults, parameters)
    masked = list(secrets) if secrets is not None else known_secrets(str(parameters.get("environment") or ""))
    variables = {**os.environ, **(environment or {}), MARK: uuid.uuid4().hex}
    if parameters.get("environment"):
        variables["XAI_RUNBOOK_ENV"] = str(parameters["environment"])
    _make_folder(out)
    with _private_folder() as folder, _interruptible():
        run = _Run(tasks, folder, variables, masked, cell_seconds, monotonic() + run_seconds, progress)
        try:
            run.all(jobs)
        except KeyboardInterrupt as stop:
            number = stop.number if isinstance(stop, _Stopped) else signal.SIGINT
            run.end_all(f"interrupted by {signal.Signals(number).name}")
            raise Interrupted(run.results(), number) from None
        finally:
            run.end_all("the run failed")
        return run.results()


def known_secrets(environment: str = "") -> list[str]:
    """The values of the secrets that an environment's reading handles use. The operator's are not looked up.

    Errors: SettingsError for an environment that cannot be loaded; a secret that is not there is not known.
    """
    from xai_runbook import environments
    from xai_runbook.errors import SettingsError
    from xai_runbook.secret import Secret

    values: list[str] = []

    def walk(item: object) -> None:
        if isinstance(item, Secret):
            with suppress(SettingsError):
                values.append(item.reveal())
        elif isinstance(item, dict):
            for value in item.values():
                walk(value)
        elif isinstance(item, list | tuple):
            for value in item:
                walk(value)
        elif type(item).__module__ == "xai_runbook.settings" and type(item).__name__ != "Operator":
            walk(vars(item))

    walk(environments.load(environment))
    return values


@dataclass
class _Task:
    """One notebook, from its file to its result."""

    name: str
    target: Path
    notebook: dict[str, Any]
    defaults: dict[str, object] = field(default_factory=dict)
    parameters: dict[str, object] = field(default_factory=dict)
    result: NotebookResult | None = None


def _tasks(notebooks: Sequence[Path], out: Path) -> list[_Task]:
    """One task a notebook; one that is no notebook has its result already, so that the others still run."""
    tasks: list[_Task] = []
    for path in map(Path, notebooks):
        name = path.stem
        while any(task.name == name for task in tasks):
            name += "-again"
        task = _Task(name, out / f"{name}.ipynb", {})
        try:
            task.notebook = _load(path)
            task.defaults = parameter.declared(task.notebook, path.name)
        except _Malformed as error:
            task.result = NotebookResult(name, path, "failed", 0.0, str(error))
        except InputError as error:
            if not task.notebook:
                raise
            task.result = _told(task, path, "failed", 0.0, inert(str(error)))
        tasks.append(task)
    if not tasks:
        raise InputError("there is no notebook to run", hint="--notebook NAME, or --all")
    return tasks


class _Malformed(Exception):
    """A file that is there and is no notebook."""


def _load(path: Path) -> dict[str, Any]:
    if "://" in str(path) or path.suffix != ".ipynb" or not path.is_file():
        raise InputError(f"{inert(str(path), 200)!r} is no notebook file here", hint="a path that ends in .ipynb")
    if path.stat().st_size > _MOST_BYTES:
        raise _Malformed("it is too large to be a notebook")
    try:
        notebook = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise _Malformed("it is not JSON") from None
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list) or notebook.get("nbformat") != 4 or not all(map(_is_cell, cells)):
        raise _Malformed("it is not a notebook of format 4")
    ids = [cell["id"] for cell in cells if "id" in cell]
    if len(set(ids)) < len(ids):
        raise _Malformed("two of its cells have the same id")
    for cell in cells:
        if cell["cell_type"] == "code":
            cell.update(outputs=[], execution_count=None, source=parameter.text(cell["source"]))
    return notebook  # type: ignore[no-any-return]


def _is_cell(cell: object) -> bool:
    return (
        isinstance(cell, dict)
        and cell.get("cell_type") in ("code", "markdown", "raw")
        and isinstance(cell.get("source"), str | list)
        and isinstance(cell.get("metadata"), dict)
        and isinstance(cell["metadata"].get("tags", []), list)
        and isinstance(cell["metadata"].get(read.NOTES, {}), dict)
        and isinstance(cell.get("id", ""), str)
    )


def _told(task: _Task, path: Path, status: Any, seconds: float, error: str) -> NotebookResult:
    """The result of a notebook that was not run: each of its questions is unknown."""
    return NotebookResult(task.name, path, status, seconds, error, read.read(task.notebook, task.name))


class _Worker:
    """One running worker process."""

    def __init__(self, task: _Task, folder: Path, order: dict[str, Any], variables: Mapping[str, str]) -> None:
        self.task, self.folder = task, folder
        self.started = self.heard = monotonic()
        self.pending = b""
        self.ended = False
        self.error = ""
        folder.mkdir(mode=0o700)
        with suppress(FileNotFoundError):
            task.target.unlink()
        # the order has secrets in it: a file without a name, never argv
        with tempfile.TemporaryFile() as stdin, (folder / "worker.log").open("wb") as log:
            stdin.write(json.dumps(order).encode())
            stdin.seek(0)
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "xai_runbook.reports.worker"],
                stdin=stdin, stdout=subprocess.PIPE, stderr=log, env=dict(variables), start_new_session=True,
            )
        assert self.process.stdout is not None
        self.stdout: IO[bytes] = self.process.stdout
        os.set_blocking(self.stdout.fileno(), False)

    def listen(self) -> Iterator[dict[str, Any]]:
        """What the worker has said since; its end is noted."""
        self.heard = monotonic()
        piece = self.stdout.read()
        *lines, self.pending = (self.pending + (piece or b"")).split(b"\n")
        for line in lines:
            with suppress(ValueError):
                yield json.loads(line)

    def end(self) -> None:
        """Ends it with its kernel; the marked processes are the run's to end."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.stdout.close()
        with suppress(FileNotFoundError):
            self.task.target.with_name(f".{self.task.target.name}.part").unlink()

    def last_words(self) -> str:
        """The last line of what it wrote on stderr."""
        with suppress(OSError):
            lines = (self.folder / "worker.log").read_text(errors="replace")[-5000:].strip().splitlines()
            return inert(lines[-1], 300) if lines else ""
        return ""


class _Run:
    """The tasks, the workers that are at them, and the time there is."""

    def __init__(
        self, tasks: list[_Task], folder: Path, variables: dict[str, str], secrets: list[str],
        cell_seconds: float, deadline: float, progress: Callable[[Event], None],
    ) -> None:
        self.tasks, self.folder, self.variables, self.secrets = tasks, folder, variables, secrets
        self.mask = Mask(secrets)
        self.cell_seconds, self.deadline, self.progress = cell_seconds, deadline, progress
        self.waiting = [task for task in tasks if task.result is None]
        self.workers: list[_Worker] = []
        self.selector = selectors.DefaultSelector()

    def all(self, jobs: int) -> None:
        """Returns when every task has its result."""
        for task in self.tasks:
            if task.result is not None:
                self.progress(Event(task.name, 0, 0, result=task.result))
        while self.waiting or self.workers:
            while self.waiting and len(self.workers) < jobs:
                self._start(self.waiting.pop(0))
            now = monotonic()
            silence = self.cell_seconds + _SLACK_SECONDS
            soonest = min([self.deadline, *(worker.heard + silence for worker in self.workers)])
            for key, _ in self.selector.select(max(0.0, soonest - now)):
                self._hear(key.data)
            now = monotonic()
            if now >= self.deadline:
                self.end_all("the time for the whole run was up")
            for worker in [worker for worker in self.workers if now >= worker.heard + silence]:
                self._finish(worker, f"nothing was heard of it for {silence:g} s")

    def _start(self, task: _Task) -> None:
        folder = self.folder / f"n{self.tasks.index(task)}"
        order = {
            "parent": os.getpid(), "folder": str(folder), "target": str(task.target.resolve()),
            "notebook": task.notebook, "parameters": task.parameters, "cell_seconds": self.cell_seconds,
            "secrets": self.secrets,
        }
        try:
            worker = _Worker(task, folder, order, self.variables)
        except OSError as error:
            task.result = _told(task, task.target, "incomplete", 0.0, f"could not be started: {error.strerror}")
            return
        self.workers.append(worker)
        self.selector.register(worker.stdout, selectors.EVENT_READ, worker)

    def _hear(self, worker: _Worker) -> None:
        for message in worker.listen():
            if message.get("end"):
                worker.ended, worker.error = True, str(message.get("error", ""))
            else:
                self.progress(Event(worker.task.name, message["done"], message["cells"], message["cell"]))
        if worker.ended or worker.process.poll() is not None:
            self._finish(worker, worker.error or ("" if worker.ended else self._death(worker)))

    def _death(self, worker: _Worker) -> str:
        words = worker.last_words()
        return f"its worker died (exit code {worker.process.poll()}){f': {words}' if words else ''}"

    def _finish(self, worker: _Worker, error: str) -> None:
        """The worker is ended, its copy read, its task has a result."""
        self.selector.unregister(worker.stdout)
        self.workers.remove(worker)
        worker.end()
        task, seconds = worker.task, monotonic() - worker.started
        task.result = self._result(task, seconds, inert(self.mask(error), 500))
        cells = len(task.notebook["cells"])
        self.progress(Event(task.name, cells, cells, result=task.result))

    def _result(self, task: _Task, seconds: float, error: str) -> NotebookResult:
        try:
            executed = _executed(task.target)
        except (OSError, ValueError, RecursionError):
            return _told(task, task.target, "incomplete", seconds, error or "its executed copy cannot be read")
        answers = read.read(executed, task.name)
        asked = [answer.name for answer in read.read(task.notebook, task.name)]
        whole = read.ran_to_its_end(executed) and {answer.name for answer in answers} >= set(asked)
        if error or not whole:
            error = error or "not every cell was run"
            return NotebookResult(task.name, task.target, "incomplete", seconds, error, answers)
        faults = read.faults(executed)
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        error = faults[0] + more if faults else ""
        return NotebookResult(task.name, task.target, "failed" if faults else "completed", seconds, error, answers)

    def end_all(self, why: str) -> None:
        """Ends whatever still runs; what had not been run is incomplete, and says why."""
        for worker in list(self.workers):
            self._finish(worker, why)
        for task in self.waiting:
            task.result = _told(task, task.target, "incomplete", 0.0, why)
        self.waiting.clear()
        _end_marked(self.variables[MARK])

    def results(self) -> list[NotebookResult]:
        """One for each task."""
        return [task.result for task in self.tasks if task.result is not None]


def _executed(target: Path) -> dict[str, Any]:
    if target.stat().st_size > _MOST_BYTES:
        raise ValueError("too large")
    executed = json.loads(target.read_bytes())
    if not isinstance(executed, dict):
        raise ValueError("not a notebook")
    return executed


def _end_marked(mark: str) -> None:
    """Ends every process that carries the mark: what a notebook started may have left our process group."""
    wanted = f"{MARK}={mark}".encode()
    for _ in range(3):  # one that is ended may just have started another
        found = False
        for entry in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):
                if wanted in entry.read_bytes().split(b"\0"):
                    os.kill(int(entry.parent.name), signal.SIGKILL)
                    found = True
        if not found:
            return


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out) as probe:
            probe.write(b"x" * 4096)
    except OSError as error:
        raise ReportError(
            f"the folder for executed notebooks cannot be written: {error.strerror}", on=str(out),
            hint="--out with a folder that can be written and has room",
        ) from None


@contextmanager
def _private_folder() -> Iterator[Path]:
    """A new folder that only we can enter, with a path short enough for sockets; it is removed in the end."""
    place = tempfile.gettempdir()
    folder = Path(tempfile.mkdtemp(prefix="xr-", dir=place if len(place) < _LONGEST_FOLDER - 12 else "/tmp"))  # noqa: S108
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Stopped(KeyboardInterrupt):
    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM stops the run as Ctrl-C does, where this is the thread that hears of it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise _Stopped(number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
