"""A change through the door against the bare statement, and proving the journal against `sha256sum` of its file.

Needs a running sandbox: `xai-runbook sandbox run -- python -m benchmarks changes`. The bare way is what a careful
person's script does: connect as the operator, send the one statement, write one line, fsync.
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
    where = env.settings.database
    assert where is not None
    password = (sandbox_state.run_folder() / "secrets" / f"{role}.password").read_text(encoding="utf-8").strip()
    return psycopg.connect(
        host=where.host, port=where.port, dbname=where.dbname, user=f"xai_{role}", password=password, autocommit=True
    )


def _bare(env: Environment, pid: int, started: object, folder: Path) -> float:
    began = time.perf_counter()
    with _session(env, "operator") as operator:
        operator.execute(BARE, [pid, started])
    with (folder / "bare.log").open("a", encoding="utf-8") as log:
        log.write(f"terminated {pid}\n")
        log.flush()
        os.fsync(log.fileno())
    return time.perf_counter() - began


def _door(env: Environment, pid: int) -> float:
    began = time.perf_counter()
    plan = sessions.terminate(env.database, pids=[pid])
    came = apply(plan, env, confirm=plan.confirmation, progress=lambda words: None)
    assert isinstance(came, Outcome) and came.status == "done", came
    return time.perf_counter() - began


def change(pairs: int = PAIRS) -> tuple[float, float]:
    """Median seconds of plan and apply of a one-row change, and the median ratio to the bare way right after it."""
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        told = connect("sandbox").settings
        outputs = told.outputs.model_copy(update={"journal": f"{folder}/journal"})
        env = Environment(told.model_copy(update={"outputs": outputs}))
        master, slave = os.openpty()  # apply wants a person: a terminal on standard input
        kept, sys.stdin = sys.stdin, os.fdopen(slave)
        try:
            for _ in range(pairs + 1):  # the first pair imports
                with _session(env, "app") as first, _session(env, "app") as second:
                    row = second.execute(
                        "SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()"
                    ).fetchone()
                    assert row is not None
                    ours = _door(env, first.info.backend_pid)
                    runs.append((ours, _bare(env, *row, Path(folder))))
        finally:
            sys.stdin.close()
            sys.stdin = kept
            os.close(master)
            env.database.close()
    return statistics.median(ours for ours, _ in runs[1:]), statistics.median(ours / bare for ours, bare in runs[1:])


def _journal(folder: Path, records: int) -> Journal:
    """A journal as it would be after that many records, written at once."""
    journal = Journal(folder)
    journal.create()
    plan = {"verb": "terminate", "targets": ["session 4711 of xai_app (worker)"], "observed": [{"pid": "4711"}] * 3}
    for number in (1, 2):
        journal.append(
            "intent", digest="0" * 64, target="database.database=xai", reason="INC-1", plan=plan | {"n": number}
        )
    first, last = journal.path.read_bytes().splitlines()
    record, made = json.loads(last), [first, last]
    for number in range(3, records + 1):
        record |= {"number": number, "previous": hashlib.sha256(made[-1]).hexdigest()}
        made.append(json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode())
    journal.path.write_bytes(b"\n".join(made) + b"\n")
    head = {"count": records, "hash": hashlib.sha256(made[-1]).hexdigest()}
    (folder / "head.json").write_text(json.dumps(head), encoding="utf-8")
    return journal


def proof(records: int = RECORDS, pairs: int = 5) -> tuple[float, float]:
    """Median seconds of proving the journal, and the median ratio to `sha256sum` of its file right after it."""
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        journal = _journal(Path(folder), records)
        for _ in range(pairs):
            began = time.perf_counter()
            assert Journal(journal.folder).verify() == records
            ours = time.perf_counter() - began
            began = time.perf_counter()
            subprocess.run(["sha256sum", str(journal.path)], check=True, stdout=subprocess.DEVNULL)
            runs.append((ours, time.perf_counter() - began))
    return statistics.median(ours for ours, _ in runs), statistics.median(ours / bare for ours, bare in runs)


def rows() -> list[dict[str, Any]]:
    """Rows for the bench: name, value, unit, against, ratio, goal, better."""
    seconds, ratio = change()
    proved, against = proof()
    return [
        {"name": "plan + apply of a one-row change", "value": seconds, "unit": "seconds",
         "against": "psycopg: connect, the statement, one fsync", "ratio": ratio, "goal": 10.0, "better": "lower"},
        {"name": f"journal verify, {RECORDS:,} records", "value": proved, "unit": "seconds",
         "against": "sha256sum of its file", "ratio": against, "goal": 10.0, "better": "lower"},
    ]  # fmt: skip


if __name__ == "__main__":
    for row in rows():
        print(f"{row['name']}: {row['value']:.3f} s, {row['ratio']:.2f} of {row['against']} (goal {row['goal']})")
