"""A dump verified by a scratch restore, planned and applied, against the same steps by hand with the same flags.

By hand: pg_dump with an exported snapshot while psql computes the checksums of the same tables in it, pg_dumpall of the
roles, reading the archive back, sha256sum, initdb, start, roles, pg_restore, the same checksums, stop, remove. Both use
private servers on this machine. `python -m benchmarks.backups 1024` dumps a gigabyte; `make bench` dumps MEBIBYTES.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from psycopg.sql import SQL, Identifier

from benchmarks.private_server import backed_up, running, superuser
from xai_runbook.changes.apply import apply_headless
from xai_runbook.changes.credentials import role_environment
from xai_runbook.environment import Environment
from xai_runbook.model.outcome import Outcome
from xai_runbook.model.secret import write_access
from xai_runbook.operations.backups import dumps
from xai_runbook.pgbackup import private_cluster
from xai_runbook.pgbackup.fingerprint import FORMATS, fetch_rows
from xai_runbook.pgbackup.pg_tools import find_programs
from xai_runbook.sandbox.supervisor.component import Layout
from xai_runbook.sql import statement

MEBIBYTES = 160
PAIRS = 3
_ROW_BYTES = 512


def _fill(server: Layout, mebibytes: int) -> None:
    """Create a table of that size, with text that compresses to about a half, as production data does."""
    with superuser(server) as session:
        session.execute("SET ROLE xai_owner")
        session.execute("CREATE TABLE ballast (n bigint PRIMARY KEY, at timestamptz NOT NULL, text text NOT NULL)")
        session.execute(
            "INSERT INTO ballast SELECT n, '2026-01-01'::timestamptz + n * interval '1 s',"
            " string_agg(md5(n::text || m), '')"
            " FROM generate_series(1, %s) n, generate_series(1, 14) m GROUP BY n",
            [mebibytes * 2**20 // _ROW_BYTES],
        )
        session.execute("RESET ROLE")
        session.execute("VACUUM ANALYZE ballast")
        session.execute("CHECKPOINT")


def _ours(env: Environment) -> float:
    """Return the seconds of plan and apply. Errors: RuntimeError unless the backup was verified."""
    started = time.perf_counter()
    plan = dumps.dump(env.database, env.backups)
    outcome = apply_headless(plan, env, digest=plan.digest)
    seconds = time.perf_counter() - started
    if not isinstance(outcome, Outcome) or outcome.status != "done":
        raise RuntimeError(str(outcome))
    return seconds


def _by_hand(server: Layout, env: Environment, folder: Path) -> float:
    """Return the seconds of the same steps with PostgreSQL's own programs."""
    (step,) = dumps.dump(env.database, env.backups).steps
    assert step.kind == "command"
    settings, tools = env.backups.settings, find_programs(env.backups.settings.programs, _major(env))
    with superuser(server) as session:
        tables = [Identifier(row["schema"], row["table"]) for row in fetch_rows(session, "backup_tables")]
        sums = [SQL(statement("table_contents", 0)).format(table=each).as_string(session) for each in tables]
    session_settings = "".join(f"SET {name} = '{value}';\n" for name, value in FORMATS.items())
    checksums, scratch = ";\n".join(sums) + ";\n", folder / "cluster"
    dumped, roles, log = folder / "database.dump", folder / "roles.sql", folder / "log"
    with write_access(), role_environment(step.roles, env.settings) as variables, log.open("wb") as output:
        source = {"PATH": os.environ["PATH"], **variables}

        def run(*argv: str | Path, env: dict[str, str] = source, stdin: str = "") -> None:
            subprocess.run(argv, env=env, input=stdin.encode(), stdout=output, stderr=output, check=True, timeout=3600)

        started = time.perf_counter()
        holder = subprocess.Popen(
            [tools / "psql", "-X", "-q", "-A", "-t"],
            env=source,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
        )
        assert holder.stdin is not None and holder.stdout is not None
        holder.stdin.write(b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;\nSELECT pg_export_snapshot();\n")
        holder.stdin.flush()
        snapshot = holder.stdout.readline().decode().strip()
        dumping = subprocess.Popen(
            [
                tools / "pg_dump", "--format", settings.format, "--compress", str(settings.compress),
                "--snapshot", snapshot, "--no-password", "--file", dumped,
            ],
            env=source, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
        holder.communicate((session_settings + checksums).encode(), timeout=3600)
        if dumping.wait(3600) or holder.returncode:
            raise RuntimeError(log.read_text()[-600:])
        run(tools / "pg_dumpall", "--roles-only", "--no-role-passwords", "--no-password", "--file", roles)
        run(tools / "pg_restore", "--file", "/dev/null", "--", dumped)
        run("sha256sum", dumped)
        private_cluster.create(tools, scratch, encoding="UTF8", log=log)
        with private_cluster.started(tools, scratch, log=log, progress=lambda: None) as host:
            target = {
                "PATH": os.environ["PATH"], "PGHOST": host, "PGPORT": "5432", "PGUSER": private_cluster.OWNER,
                "PGDATABASE": "postgres",
            }  # fmt: skip
            run(tools / "createdb", "-T", "template0", "scratch", env=target)
            run(tools / "psql", "-X", "-q", "-f", roles, env=target)
            run(
                tools / "pg_restore", "--exit-on-error", "--no-tablespaces", "--jobs", str(settings.jobs), "--dbname",
                "scratch", "--", dumped, env=target,
            )  # fmt: skip
            run(tools / "psql", "-X", "-q", "-d", "scratch", env=target, stdin=session_settings + checksums)
        private_cluster.remove(scratch)
        return time.perf_counter() - started


def _major(env: Environment) -> int:
    return int(env.database.rows("identity")[0]["version"].split(".")[0])


def rows(mebibytes: int = MEBIBYTES, pairs: int = PAIRS) -> list[dict[str, Any]]:
    """Return the rows of the benchmark: name, value, unit, against, ratio, goal, better."""
    runs = []
    with tempfile.TemporaryDirectory() as scratch, running(Path(scratch) / "run") as server:
        _fill(server, mebibytes)
        for pair in range(pairs + 1):  # the first one only fills the caches
            folder = Path(scratch) / f"pair{pair}"
            folder.mkdir()
            env = backed_up(server, folder)
            try:
                runs.append((_ours(env), _by_hand(server, env, folder)))
            finally:
                env.database.close()
                shutil.rmtree(folder, ignore_errors=True)
    return [{
        "name": f"dump, verify, scratch restore of {mebibytes} MiB", "value": statistics.median(a for a, _ in runs[1:]),
        "unit": "seconds", "against": "the same steps by hand",
        "ratio": statistics.median(a / b for a, b in runs[1:]), "goal": 1.2, "better": "lower",
    }]  # fmt: skip


if __name__ == "__main__":
    for row in rows(*(int(word) for word in sys.argv[1:])):
        print(f"{row['name']}: {row['value']:.2f} s, {row['ratio']:.3f} of {row['against']} (goal {row['goal']})")
