"""Run notebooks in parallel, each in its own worker process, and end every process that was started."""

from __future__ import annotations

import os
import selectors
import shutil
import signal
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from xai_runbook.errors import InputError, ReportError, inert
from xai_runbook.reports.notebooks import parameters as parameter
from xai_runbook.reports.notebooks.loading import Malformed, load, load_executed
from xai_runbook.reports.notebooks.results import faults, ran_to_end, read
from xai_runbook.reports.runner.kernel_process import RUN_MARK
from xai_runbook.reports.runner.redaction import Mask, known_secrets, secret_variables
from xai_runbook.reports.runner.result import Event, Interrupted, NotebookResult, RunStatus
from xai_runbook.reports.runner.worker_process import Worker, kill_marked
from xai_runbook.system import child

_SLACK_SECONDS = 90.0  # beyond a cell's deadline: for a restart of its kernel, for a slow disk
_MAXIMUM_PATH = 60  # a socket's path may have 107 characters


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
    """Run the notebooks and return their results in the same order; executed copies are written to the folder `out`.

    Each parameter goes to the notebooks that declare it. `environment` is added to the variables of the workers
    (`child.reading_environment`). `secrets` are masked in the copies; by default those of the environment's settings.

    Errors: InputError for an invalid path, parameter or value, before anything runs; ReportError when `out` cannot be
    written; Interrupted, with the results until then, on Ctrl-C and SIGTERM.
    """
    if jobs < 1 or not cell_seconds > 0 or not run_seconds > 0:
        raise InputError("jobs and deadlines must be positive", hint="--jobs 2 --cell-timeout 60s")
    tasks = _tasks(notebooks, out)
    declared = {name for task in tasks for name in task.defaults}
    # the environment is also a variable, so a notebook need not declare it
    parameter.refuse_unknown(parameters.keys() - {"environment"}, declared)
    for task in tasks:
        task.parameters = parameter.convert(task.defaults, parameters)
    environment_name = str(parameters.get("environment") or "")
    secret_values = list(secrets) if secrets is not None else known_secrets(environment_name)
    for name, value in parameters.items():
        if Mask(secret_values)(str(value)) != str(value):
            raise InputError(f"parameter {name} contains a secret", hint="parameters are saved in the executed copy")
    variables = {
        **child.reading_environment(secret_variables(environment_name)),
        **(environment or {}),
        RUN_MARK: uuid.uuid4().hex,
    }
    if environment_name:
        variables["XAI_RUNBOOK_ENV"] = environment_name
    _make_folder(out)
    with _private_folder() as folder, _interruptible():
        run = _Run(tasks, folder, variables, secret_values, cell_seconds, monotonic() + run_seconds, progress)
        try:
            run.run_tasks(jobs)
        except KeyboardInterrupt as stop:
            number = stop.number if isinstance(stop, _Signal) else signal.SIGINT
            run.end_all(f"interrupted by {signal.Signals(number).name}")
            raise Interrupted(run.results(), number) from None
        finally:
            run.end_all("the run failed")
        return run.results()


@dataclass
class _Task:
    """One notebook to run, its parameters and, in the end, its result."""

    name: str
    target: Path
    notebook: dict[str, Any]
    defaults: dict[str, object] = field(default_factory=dict)
    parameters: dict[str, object] = field(default_factory=dict)
    result: NotebookResult | None = None


def _tasks(notebooks: Sequence[Path], out: Path) -> list[_Task]:
    """Return one task per notebook; an invalid notebook has its result already, and the others still run."""
    tasks: list[_Task] = []
    for path in map(Path, notebooks):
        name = path.stem
        while any(task.name == name for task in tasks):
            name += "-again"
        task = _Task(name, out / f"{name}.ipynb", {})
        try:
            task.notebook = load(path)
            task.defaults = parameter.declared(task.notebook, path.name)
        except Malformed as error:
            task.result = NotebookResult(name, path, "failed", 0.0, str(error))
        except InputError as error:
            if not task.notebook:
                raise
            task.result = _unrun_result(task, path, "failed", 0.0, inert(str(error)))
        tasks.append(task)
    if not tasks:
        raise InputError("there is no notebook to run", hint="--notebook NAME, or --all")
    return tasks


def _unrun_result(task: _Task, path: Path, status: RunStatus, seconds: float, error: str) -> NotebookResult:
    """Return the result of a notebook that was not run: each of its questions is unknown."""
    return NotebookResult(task.name, path, status, seconds, error, read(task.notebook, task.name))


class _Run:
    """The tasks of a run, their workers and the deadlines."""

    def __init__(
        self,
        tasks: list[_Task],
        folder: Path,
        variables: dict[str, str],
        secrets: list[str],
        cell_seconds: float,
        deadline: float,
        progress: Callable[[Event], None],
    ) -> None:
        self.tasks, self.folder, self.variables, self.secrets = tasks, folder, variables, secrets
        self.mask = Mask(secrets)
        self.cell_seconds, self.deadline, self.progress = cell_seconds, deadline, progress
        self.waiting = [task for task in tasks if task.result is None]
        self.workers: dict[Worker, _Task] = {}
        self.selector = selectors.DefaultSelector()

    def run_tasks(self, jobs: int) -> None:
        """Run until every task has its result."""
        for task in self.tasks:
            if task.result is not None:
                self.progress(Event(task.name, 0, 0, result=task.result))
        while self.waiting or self.workers:
            while self.waiting and len(self.workers) < jobs:
                self._start(self.waiting.pop(0))
            now = monotonic()
            silence = self.cell_seconds + _SLACK_SECONDS
            next_deadline = min([self.deadline, *(worker.last_message_at + silence for worker in self.workers)])
            for key, _ in self.selector.select(max(0.0, next_deadline - now)):
                self._receive(key.data)
            now = monotonic()
            if now >= self.deadline:
                self.end_all("the deadline of the run has passed")
            for worker in [worker for worker in self.workers if now >= worker.last_message_at + silence]:
                self._finish(worker, f"no message from the worker for {silence:g} s")

    def _start(self, task: _Task) -> None:
        folder = self.folder / f"n{self.tasks.index(task)}"
        job = {
            "parent": os.getpid(),
            "folder": str(folder),
            "target": str(task.target.resolve()),
            "notebook": task.notebook,
            "parameters": task.parameters,
            "cell_seconds": self.cell_seconds,
            "secrets": self.secrets,
        }
        try:
            worker = Worker(task.target, folder, job, self.variables)
        except OSError as error:
            task.result = _unrun_result(
                task, task.target, "incomplete", 0.0, f"the worker process could not be started: {error.strerror}"
            )
            return
        self.workers[worker] = task
        self.selector.register(worker.stdout, selectors.EVENT_READ, worker)

    def _receive(self, worker: Worker) -> None:
        name = self.workers[worker].name
        for message in worker.messages():
            if message.get("end"):
                self._finish(worker, str(message.get("error", "")))
                return
            self.progress(Event(name, message["done"], message["cells"], message["cell"]))
        if worker.closed:
            self._finish(worker, worker.exit_description())

    def _finish(self, worker: Worker, error: str) -> None:
        """End the worker, read its executed copy and set the task's result."""
        task = self.workers.pop(worker)
        self.selector.unregister(worker.stdout)
        worker.end()
        seconds = monotonic() - worker.started
        task.result = self._result(task, seconds, inert(self.mask(error), 500))
        cells = len(task.notebook["cells"])
        self.progress(Event(task.name, cells, cells, result=task.result))

    def _result(self, task: _Task, seconds: float, error: str) -> NotebookResult:
        try:
            notebook = load_executed(task.target)
        except (OSError, ValueError, RecursionError):
            return _unrun_result(task, task.target, "incomplete", seconds, error or "the executed copy cannot be read")
        answers = read(notebook, task.name)
        questions = [answer.name for answer in read(task.notebook, task.name)]
        complete = ran_to_end(notebook) and {answer.name for answer in answers} >= set(questions)
        if error or not complete:
            error = error or "not every cell was run"
            return NotebookResult(task.name, task.target, "incomplete", seconds, error, answers)
        found_faults = faults(notebook)
        more = f" (and {len(found_faults) - 1} more)" if len(found_faults) > 1 else ""
        error = found_faults[0] + more if found_faults else ""
        return NotebookResult(
            task.name, task.target, "failed" if found_faults else "completed", seconds, error, answers
        )

    def end_all(self, reason: str) -> None:
        """End all workers; tasks without a result become incomplete, with the reason."""
        for worker in list(self.workers):
            self._finish(worker, reason)
        for task in self.tasks:
            if task.result is None:
                task.result = _unrun_result(task, task.target, "incomplete", 0.0, reason)
        self.waiting.clear()
        kill_marked(self.variables[RUN_MARK])

    def results(self) -> list[NotebookResult]:
        """Return the results of the tasks that have one."""
        return [task.result for task in self.tasks if task.result is not None]


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out) as probe:
            probe.write(b"x" * 4096)
    except OSError as error:
        raise ReportError(
            f"the folder for executed notebooks cannot be written: {error.strerror}",
            on=str(out),
            hint="choose a writable folder with free space with --out",
        ) from None


@contextmanager
def _private_folder() -> Iterator[Path]:
    """Yield a new private folder with a path short enough for sockets; it is removed at the end."""
    parent = tempfile.gettempdir()
    parent = parent if len(parent) <= _MAXIMUM_PATH else "/tmp"
    _remove_stale_folders(Path(parent))
    folder = Path(tempfile.mkdtemp(prefix=f"xr-{os.getpid()}-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_stale_folders(parent: Path) -> None:
    """Remove the private folders of runs that were killed."""
    for folder in parent.glob("xr-*-*"):
        number = folder.name.split("-")[1]
        if number.isdigit() and not Path("/proc", number).exists() and folder.stat().st_uid == os.getuid():
            shutil.rmtree(folder, ignore_errors=True)


class _Signal(KeyboardInterrupt):
    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGTERM stop the run as Ctrl-C does; outside the main thread, do nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise _Signal(number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
