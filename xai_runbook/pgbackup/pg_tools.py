"""PostgreSQL's programs: finding them, their versions, and running one with a deadline."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

from xai_runbook.errors import BadAnswer, NoData, Refused, TimedOut, inert
from xai_runbook.system import child, processes
from xai_runbook.system.ownership import writable_by_others

DEBIAN = Path("/usr/lib/postgresql")
_PROGRAMS = (
    "pg_dump", "pg_dumpall", "pg_restore", "psql", "pg_basebackup", "pg_verifybackup", "pg_controldata", "initdb",
    "postgres",
)  # fmt: skip
_LIBPQ_VARIABLES = (
    "PGHOST", "PGHOSTADDR", "PGPORT", "PGUSER", "PGDATABASE", "PGSSLMODE", "PGSSLROOTCERT", "PGPASSFILE",
    "PGSERVICE", "PGSERVICEFILE", "PGSYSCONFDIR",
)  # fmt: skip


def find_programs(configured: str | None, major: int) -> Path:
    """Return the folder of PostgreSQL's programs for a server of that major version.

    It is the configured one, else Debian's folder of that version, else that of pg_dump on PATH. Errors: NoData if
    they are missing, BadAnswer if pg_dump is older than the server, Refused if other users can write to it.
    """
    if configured is not None:
        chosen = Path(configured).expanduser()
    elif (DEBIAN / str(major) / "bin" / "pg_dump").exists():
        chosen = DEBIAN / str(major) / "bin"
    else:
        on_path = shutil.which("pg_dump", path=child.search_path())
        chosen = Path(on_path).resolve().parent if on_path else Path()
    if not (chosen / "pg_dump").exists():
        raise NoData(
            f"no pg_dump of PostgreSQL {major}", on=str(configured or "PATH"),
            hint=f"install postgresql-client-{major}, or set backups.programs to the folder that has it",
        )  # fmt: skip
    for program in _PROGRAMS:
        if (chosen / program).exists() and (why := writable_by_others(chosen / program)):
            raise Refused(
                f"refused to run programs that other users can replace: {why}", on=str(chosen),
                hint="the folder and the programs must belong to root or you, and be writable by their owner only",
            )  # fmt: skip
    major_found = major_version(chosen / "pg_dump")
    if major_found < major:
        raise BadAnswer(
            f"this pg_dump is of PostgreSQL {major_found}, older than the server's {major}",
            on=str(chosen), hint=f"install postgresql-client-{major}, or set backups.programs to its folder",
        )  # fmt: skip
    return chosen


@cache
def major_version(program: Path) -> int:
    """Return the major version of the program, from its --version. Errors: BadAnswer."""
    try:
        output = processes.run(
            [program, "--version"],
            env=child.environment(),
            cwd=child.NEUTRAL_FOLDER,
            deadline_seconds=10,
            death_signal=death_signal(signal.SIGKILL),
        ).stdout
    except OSError:
        output = ""
    match = re.search(r"\(PostgreSQL\) (\d+)", output)
    if match is None:
        raise BadAnswer(
            "its version cannot be read", on=str(program), hint=f"try {program} --version: is it PostgreSQL's?"
        )
    return int(match[1])


class Terminated(KeyboardInterrupt):
    """A signal asked this process to end. psycopg cancels the running query on a KeyboardInterrupt."""


def end_on_signals() -> None:
    """Make SIGTERM, SIGINT and SIGHUP raise Terminated, so that unfinished work is removed."""

    def end(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_IGN)  # only once: the cleanup must not be interrupted
        raise Terminated(signal.Signals(number).name)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, end)


def death_signal(wanted: signal.Signals) -> signal.Signals | None:
    """Return the death signal for a program; None without setpriv, and then the program may outlive this process."""
    return wanted if shutil.which("setpriv", path=child.search_path()) else None


class RunningProgram:
    """A program that was started without a shell, with its output in a log file."""

    def __init__(
        self,
        argv: Sequence[str | Path],
        *,
        log: Path,
        variables: Mapping[str, str] | None = None,
        stdout: Path | None = None,
    ) -> None:
        self.name = Path(argv[0]).name
        self._log = log
        self._deadline = time.monotonic() + timeout_seconds()
        with open(log, "wb") as errors, open(stdout or log, "ab") as output:
            self._process = processes.start(
                argv,
                env={**child.environment(), **_libpq_variables(), "LC_ALL": "C", **(variables or {})},
                cwd=log.parent,
                stdout=output,
                stderr=errors if stdout else "stdout",
                own_group=False,
                death_signal=death_signal(signal.SIGKILL),
            )

    def check(self) -> None:
        """Raise BadAnswer if the program has failed, TimedOut if it takes too long."""
        if self._process.poll():
            self._fail()
        if time.monotonic() > self._deadline:
            self.end()
            raise TimedOut(
                f"{self.name} did not finish in time", on=str(self._log), hint="raise backups.timeout in the settings"
            )

    def wait(self, progress: Callable[[], object] = lambda: None) -> str:
        """Wait for success and return the log; `progress` is called regularly. Errors: BadAnswer, TimedOut."""
        while True:
            processes.ended_within(self._process, 0.2)
            self.check()
            if self._process.returncode == 0:
                return self._output()
            progress()

    def end(self) -> None:
        """Stop the program if it is still running."""
        if self._process.poll() is None:
            processes.end(self._process, grace_seconds=5)

    def _output(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def _fail(self) -> None:
        lines = [line for line in self._output().splitlines() if line.strip()]
        errors = [line for line in lines if "error" in line.lower()] or lines
        code = self._process.returncode
        how = f"was killed by signal {-code}" if code < 0 else f"failed with exit code {code}"
        raise BadAnswer(f"{self.name} {how}: {inert(' | '.join(errors[:2]) or 'no output', 300)}")


def run(
    argv: Sequence[str | Path],
    *,
    log: Path,
    variables: Mapping[str, str] | None = None,
    stdout: Path | None = None,
    progress: Callable[[], object] = lambda: None,
) -> str:
    """Run a program and return its log: stderr, and stdout unless that goes to the file `stdout`.

    `variables` are added to its environment. Errors: BadAnswer for every exit code but 0, TimedOut.
    """
    running = RunningProgram(argv, log=log, variables=variables, stdout=stdout)
    try:
        return running.wait(progress)
    finally:
        running.end()


def _libpq_variables() -> dict[str, str]:
    """Return libpq's variables that `changes.credentials` has set in this process."""
    return {name: os.environ[name] for name in _LIBPQ_VARIABLES if name in os.environ}


def timeout_seconds() -> float:
    """Return the timeout of one program or recovery: `backups.timeout`, which the plan passes on."""
    return float(os.environ.get("XAI_RUNBOOK_BACKUP_SECONDS", "14400"))
