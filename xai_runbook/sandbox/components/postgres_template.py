"""The seeded PostgreSQL cluster that every sandbox starts from a copy of.

It is made once in the cache folder (initdb, roles, schema, rows, statement history); a copy takes a twentieth of that
time. A template older than TEMPLATE_SECONDS is made again, because its newest rows are as old as the template.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xai_runbook.errors import NoData, SandboxError
from xai_runbook.pgbackup import private_cluster
from xai_runbook.sandbox.components import backups
from xai_runbook.sandbox.supervisor.component import DATABASE_OID, START_HEIGHT, environment
from xai_runbook.sql import role_scripts
from xai_runbook.system import child, processes
from xai_runbook.system.locks import locked

if TYPE_CHECKING:
    import psycopg

SUPERUSER = "xai_superuser"
TEMPLATE_SECONDS = 6 * 3600.0
STEP_SECONDS = 120.0
TRAFFIC_ROUNDS = 150

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": ".",  # the data folder; relative, because a socket path may have at most 107 bytes
    "unix_socket_permissions": "0700",
    "max_connections": "60",
    "shared_buffers": "32MB",
    "huge_pages": "off",
    "dynamic_shared_memory_type": "mmap",  # inside the data folder, so that nothing stays in /dev/shm after a crash
    "shared_preload_libraries": "pg_stat_statements",
    "track_io_timing": "on",
    "track_commit_timestamp": "on",
    "password_encryption": "scram-sha-256",
    "wal_level": "replica",
    "archive_mode": "on",
    "archive_command": backups.ARCHIVE_COMMAND,
    "max_wal_senders": "4",
    "min_wal_size": "8MB",
    "max_wal_size": "128MB",
    "log_line_prefix": "%m [%p] %q%u@%d/%a ",
    "log_timezone": "UTC",
    "timezone": "UTC",
    "log_lock_waits": "on",
    "log_min_duration_statement": "500ms",
    "log_checkpoints": "off",
    "jit": "off",
}

ACCESS = f"""\
# The superuser connects through the socket only, in a folder of mode 0700; other roles by TCP with a password.
local  all          {SUPERUSER}                 trust
host   all          {SUPERUSER}   127.0.0.1/32  reject
host   all          all             127.0.0.1/32  scram-sha-256
host   replication  xai_operator    127.0.0.1/32  scram-sha-256
"""


def copy_template(server: Path, data: Path, cache: Path, backups_folder: Path | None = None) -> None:
    """Copy the template cluster for this server program to `data`, and its backups to `backups_folder`, if given.

    Creates the template first if there is no recent one.
    """
    folder = cache / "clusters"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked(folder / "lock"):  # no deadline: each step of the lock's holder has one
        template = _fresh_template(folder, _key(server)) or _make_template(server, folder, _key(server))
        _run(["cp", "-a", "--reflink=auto", "--", str(template / "data"), str(data)])
        if backups_folder is not None:
            _run(["cp", "-a", "--reflink=auto", "--", str(template / "backups"), str(backups_folder)])


def unprivileged() -> list[str]:
    """Return the command prefix that runs PostgreSQL's programs as an unprivileged user.

    Raises SandboxError if this machine has no way to do that.
    """
    try:
        return list(private_cluster.unprivileged())
    except NoData as error:
        raise SandboxError(error.what, hint="start the sandbox as an ordinary user") from None


def reports_ready(data: Path) -> bool:
    """Return whether the cluster's server reports that it accepts connections. Raises OSError before it reports."""
    lines = (data / "postmaster.pid").read_text().splitlines()
    return len(lines) > 7 and lines[7].strip() == "ready"


def _key(server: Path) -> str:
    version = _run([str(server), "--version"])
    digest = hashlib.sha256(
        repr((sorted(SETTINGS.items()), ACCESS, START_HEIGHT, TRAFFIC_ROUNDS, DATABASE_OID, version)).encode()
    )
    for name in ("roles", "database", "schema", "seed", "traffic"):
        digest.update(_sql(name).encode())
    for script in role_scripts():
        digest.update(script.encode())
    digest.update(backups.recipe())
    return digest.hexdigest()[:12]


def _sql(name: str) -> str:
    return files("xai_runbook.sandbox").joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")


def _fresh_template(folder: Path, key: str) -> Path | None:
    """Return the template with this key that is recent enough; remove the others that are too old."""
    newest = None
    for template in sorted(folder.glob("*-*")):
        age = time.time() - int(template.name.rpartition("-")[2])
        if 0 <= age < TEMPLATE_SECONDS:
            newest = template if template.name.startswith(f"{key}-") else newest
        elif not template.name.startswith("."):
            shutil.rmtree(template, ignore_errors=True)
    return newest


def _make_template(server: Path, folder: Path, key: str) -> Path:
    for leftover in folder.glob(".making-*"):  # its maker was killed, as we hold the lock
        shutil.rmtree(leftover, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(dir=folder, prefix=".making-"))
    try:
        data = temporary / "data"
        prefix = unprivileged()
        options = ["-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--wal-segsize=4", "--no-sync"]
        options += ["--data-checksums"]  # so that a damaged page is detected
        _run([*prefix, str(server.with_name("initdb")), "-D", str(data), *options])
        settings = "".join(f"{name} = '{value}'\n" for name, value in SETTINGS.items())
        (data / "postgresql.conf").write_text(settings, encoding="utf-8")
        (data / "pg_hba.conf").write_text(ACCESS, encoding="utf-8")
        (data / "pg_ident.conf").write_text("", encoding="utf-8")
        overrides = {
            "listen_addresses": "",
            "fsync": "off",
            "archive_mode": "off",
            "wal_recycle": "off",
        }
        options = [word for name, value in overrides.items() for word in ("-c", f"{name}={value}")]
        with _running([*prefix, str(server), "-D", str(data), *options], data):
            _fill(data)
            backups.create_first(server.parent, data, SUPERUSER, temporary / "backups")
        (data / "postmaster.opts").unlink(missing_ok=True)
        template = folder / f"{key}-{int(time.time())}"
        temporary.rename(template)
        return template
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _fill(data: Path) -> None:
    with connect(data, 5432, "postgres") as connection:
        connection.execute("CREATE DATABASE xai_blockchain")  # before the roles, so that its OID is DATABASE_OID
        connection.execute(_sql("roles"))
        connection.execute("ALTER DATABASE xai_blockchain OWNER TO xai_owner")
    with connect(data, 5432, "xai_blockchain") as connection:
        connection.execute("SELECT set_config('xai.start_height', %s, false)", [str(START_HEIGHT)])
        connection.execute(_sql("database"))
        for script in role_scripts():
            connection.execute(script)
        connection.execute("SET ROLE xai_owner")
        connection.execute(_sql("schema"))
        connection.execute(_sql("seed"))
        connection.execute("RESET ROLE")
        connection.execute("VACUUM ANALYZE")
        connection.execute("SELECT pg_stat_statements_reset()")
    with connect(data, 5432, "xai_blockchain") as connection:
        connection.execute("SET SESSION AUTHORIZATION xai_app")
        statements = [line for line in _sql("traffic").splitlines() if line and not line.startswith("--")]
        for n in range(TRAFFIC_ROUNDS):
            for statement in statements:
                connection.execute(statement.encode(), {"n": n, "tip": START_HEIGHT})


@contextmanager
def _running(argv: list[str], data: Path) -> Iterator[None]:
    """Run a server without TCP while the template is filled; it ends with this process if that is killed."""
    log = data.parent / "log"
    with open(log, "wb") as file:
        server = processes.start(
            argv,
            env=environment(data.parent),
            cwd=data.parent,
            stdout=file,
            stderr=file,
            own_group=True,
            death_signal=signal.SIGINT,  # sent when this thread ends, which outlives the server
        )
    try:
        deadline = time.monotonic() + STEP_SECONDS
        while True:
            try:
                if reports_ready(data):
                    break
            except OSError:
                pass
            if server.poll() is not None or time.monotonic() > deadline:
                raise SandboxError("the template database did not start", on=log.read_text(errors="replace")[-600:])
            time.sleep(0.02)
        yield
    finally:
        processes.end(server, signal.SIGINT, grace_seconds=30)


@contextmanager
def connect(data: Path, port: int, database: str) -> Iterator[psycopg.Connection[Any]]:
    """Open a superuser's session through the socket in the data folder, in autocommit mode."""
    import psycopg

    folder = os.open(data, os.O_PATH)
    try:  # through a descriptor, because a socket path may have at most 107 bytes
        connection = psycopg.connect(
            host=f"/proc/self/fd/{folder}",
            port=port,
            dbname=database,
            user=SUPERUSER,
            connect_timeout=10,
            options=f"-c statement_timeout={int(STEP_SECONDS * 1000)}",
            application_name="xai-runbook sandbox",
            autocommit=True,
        )
        with connection:
            yield connection
    finally:
        os.close(folder)


def _run(argv: list[str]) -> str:
    try:
        completed = processes.run(
            argv,
            env=child.environment(),
            cwd=child.NEUTRAL_FOLDER,
            deadline_seconds=STEP_SECONDS,
            death_signal=signal.SIGKILL,
        )
    except OSError as error:
        raise SandboxError(f"cannot run {argv[0]}: {error}") from None
    if completed.returncode:
        raise SandboxError(f"{' '.join(argv)} exited with {completed.returncode}", on=completed.stderr.strip()[-600:])
    return completed.stdout
