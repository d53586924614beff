"""A planned and applied change against the bare statement, and the journal's verification against `sha256sum`.

Needs a running sandbox: `xai-runbook sandbox run -- python -m benchmarks changes`. The bare statement is what a careful
script does: connect as the operator, send the statement, write one line to a log, fsync.
"""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg

from xai_runbook import apply, connect
from xai_runbook.changes.journal import Journal
from xai_runbook.environment import Environment
from xai_runbook.model.outcome import Outcome
from xai_runbook.operations.database import sessions
from xai_runbook.system import sandbox_state

PAIRS = 15
RECORDS = 100_000
BARE = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %s AND backend_start = %s"


def _session(env: Environment, role: str) -> psycopg.Connection[Any]:
    settings = env.settings.database
    assert settings is not None
    password = (sandbox_state.run_folder() / "secrets" / f"{role}.password").read_text(encoding="utf-8").strip()
    return psycopg.connect(
        host=settings.host,
        port=settings.port,
        dbname=settings.dbname,
        user=f"xai_{role}",
        password=password,
        autocommit=True,
    )


def _bare_seconds(env: Environment, pid: int, backend_start: object, folder: Path) -> float:
    started = time.perf_counter()
    with _session(env, "operator") as operator:
        operator.execute(BARE, [pid, backend_start])
    with (folder / "bare.log").open("a", encoding="utf-8") as log:
        log.write(f"terminated {pid}\n")
        log.flush()
        os.fsync(log.fileno())
    return time.perf_counter() - started


def _change_seconds(env: Environment, pid: int) -> float:
    started = time.perf_counter()
    plan = sessions.terminate(env.database, pids=[pid])
    outcome = apply(plan, env, confirm=plan.confirmation, progress=lambda message: None)
    assert isinstance(outcome, Outcome) and outcome.status == "done", outcome
    return time.perf_counter() - started


def change(pairs: int = PAIRS) -> tuple[float, float]:
    """Return the median seconds of plan and apply of a one-row change, and the median ratio to the bare statement."""
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        settings = connect("sandbox").settings
        outputs = settings.outputs.model_copy(update={"journal": f"{folder}/journal"})
        env = Environment(settings.model_copy(update={"outputs": outputs}))
        master, slave = os.openpty()  # apply needs a person: a terminal on standard input
        original_stdin, sys.stdin = sys.stdin, os.fdopen(slave)
        try:
            for _ in range(pairs + 1):  # the first pair imports
                with _session(env, "app") as first, _session(env, "app") as second:
                    row = second.execute(
                        "SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()"
                    ).fetchone()
                    assert row is not None
                    seconds = _change_seconds(env, first.info.backend_pid)
                    runs.append((seconds, _bare_seconds(env, *row, Path(folder))))
        finally:
            sys.stdin.close()
            sys.stdin = original_stdin
            os.close(master)
            env.database.close()
    return statistics.median(run[0] for run in runs[1:]), statistics.median(run[0] / run[1] for run in runs[1:])


def _journal(folder: Path, records: int) -> Journal:
    """Return a journal of that many records, written at once."""
    journal = Journal(folder)
    journal.create()
    plan = {"verb": "terminate", "targets": ["session 4711 of xai_app (worker)"], "observed": [{"pid": "4711"}] * 3}
    for number in (1, 2):
        journal.append(
            "intent", digest="0" * 64, target="database.database=xai", reason="INC-1", plan=plan | {"n": number}
        )
    first, last = journal.path.read_bytes().splitlines()
    record, lines = json.loads(last), [first, last]
    for number in range(3, records + 1):
        record |= {"number": number, "previous": hashlib.sha256(lines[-1]).hexdigest()}
        lines.append(json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode())
    journal.path.write_bytes(b"\n".join(lines) + b"\n")
    head = {"count": records, "hash": hashlib.sha256(lines[-1]).hexdigest()}
    (folder / "head.json").write_text(json.dumps(head), encoding="utf-8")
    return journal


def verification(records: int = RECORDS, pairs: int = 5) -> tuple[float, float]:
    """Return the median seconds of verifying the journal, and the median ratio to `sha256sum` of its file."""
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        journal = _journal(Path(folder), records)
        for _ in range(pairs):
            started = time.perf_counter()
            assert Journal(journal.folder).verify() == records
            seconds = time.perf_counter() - started
            started = time.perf_counter()
            subprocess.run(["sha256sum", str(journal.path)], check=True, stdout=subprocess.DEVNULL)
            runs.append((seconds, time.perf_counter() - started))
    return statistics.median(run[0] for run in runs), statistics.median(run[0] / run[1] for run in runs)


def rows() -> list[dict[str, Any]]:
    """Return the rows of the benchmark: name, value, unit, against, ratio, goal, better."""
    seconds, ratio = change()
    verify_seconds, verify_ratio = verification()
    return [
        {"name": "plan + apply of a one-row change", "value": seconds, "unit": "seconds",
         "against": "psycopg: connect, the statement, one fsync", "ratio": ratio, "goal": 10.0, "better": "lower"},
        {"name": f"journal verify, {RECORDS:,} records", "value": verify_seconds, "unit": "seconds",
         "against": "sha256sum of its file", "ratio": verify_ratio, "goal": 10.0, "better": "lower"},
    ]  # fmt: skip


if __name__ == "__main__":
    for row in rows():
        print(f"{row['name']}: {row['value']:.3f} s, {row['ratio']:.2f} of {row['against']} (goal {row['goal']})")
