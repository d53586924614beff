"""Connecting: TLS in each mode, a bastion, a pooler instead of the server, reserved slots, and readiness."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import psycopg
import pytest

from tests.support import backed_up
from tests.support.pace import stretched
from tests.support.postgres_server import SLOTS, Server, running
from tests.support.ssh_server import Bastion, bastion
from xai_runbook.changes.credentials import role_environment
from xai_runbook.clients.postgres.operator import Operator
from xai_runbook.clients.postgres.reader import Database
from xai_runbook.environment import Environment
from xai_runbook.errors import AccessDenied, CannotAsk, TimedOut, Unreachable, WrongServer
from xai_runbook.model.secret import write_access
from xai_runbook.operations.database import sessions as database
from xai_runbook.operations.database import sizes
from xai_runbook.sandbox.components import programs
from xai_runbook.sandbox.supervisor.component import free_ports
from xai_runbook.settings.database import DatabaseSettings

pytestmark = pytest.mark.skipif(programs.find("postgres") is None, reason="no PostgreSQL found")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two certificate authorities, and a certificate of the first for `localhost`."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl to make certificates with")
    folder = tmp_path_factory.mktemp("authority")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=60)

    ecdsa = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for name in ("trusted", "other"):
        openssl("req", "-x509", *ecdsa, "-keyout", f"{name}.key", "-out", f"{name}.crt", "-subj", f"/CN={name}")
    openssl("req", *ecdsa, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost")
    (folder / "extension").write_text("subjectAltName=DNS:localhost\n")
    openssl(
        "x509", "-req", "-in", "server.csr", "-CA", "trusted.crt", "-CAkey", "trusted.key", "-CAcreateserial",
        "-out", "server.crt", "-extfile", "extension",
    )  # fmt: skip
    (folder / "server.key").chmod(0o600)
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, authority: Path) -> Iterator[Server]:
    options = {"ssl": "on", "ssl_cert_file": f"{authority}/server.crt", "ssl_key_file": f"{authority}/server.key"}
    try:
        started = running(tmp_path_factory.mktemp("connecting"), **options)
        with started as found:
            yield found
    except AssertionError as error:
        pytest.skip(f"this PostgreSQL has no TLS: {error}")


def encrypted(handle: Database) -> bool:
    assert handle._connection is not None
    return handle._connection.pgconn.ssl_in_use


def refusal(handle: Database) -> CannotAsk:
    with pytest.raises(CannotAsk) as caught:
        handle.frame("identity")
    assert caught.value.hint
    return caught.value


# --- TLS ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
def test_tls_to_the_right_server(server: Server, authority: Path, mode: str) -> None:
    with server.handle(host="localhost", sslmode=mode, sslrootcert=f"{authority}/trusted.crt") as handle:
        assert len(handle.frame("identity")) == 1
        assert encrypted(handle)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"host": "127.0.0.1", "sslrootcert": "trusted.crt"}, "the server's certificate is for another host"),
        ({"host": "localhost", "sslrootcert": "other.crt"}, "the server's certificate cannot be verified"),
        ({"host": "localhost", "sslrootcert": "none.crt"}, "no root certificate to verify the server with"),
    ],
)
def test_tls_to_another_server_is_refused(
    server: Server, authority: Path, changed: dict[str, str], message: str
) -> None:
    tls = {"sslmode": "verify-full", "sslrootcert": f"{authority}/{changed['sslrootcert']}"}
    with server.handle(**(changed | tls)) as handle:
        error = refusal(handle)
    assert (type(error), error.what) == (WrongServer, message)


def test_require_verifies_no_certificate(server: Server) -> None:
    """So verify-full is the default, and `connection` remarks it."""
    with server.handle(host="127.0.0.1", sslmode="require") as handle:
        assert len(handle.frame("identity")) == 1
        assert encrypted(handle)
        remarks = database.connection(handle).set_index("keyword")["remark"]
    assert remarks["sslmode"] == "encrypted, but the server is not verified"


def test_a_server_without_tls(env: Environment) -> None:
    settings = env.settings.database
    assert settings is not None
    error = refusal(Database(settings.model_copy(update={"sslmode": "require"})))
    assert (type(error), error.what) == (WrongServer, "the server does not support TLS, which sslmode requires")


# --- readiness ----------------------------------------------------------------------------------------------------


def test_connection_shows_no_secret(server: Server) -> None:
    with server.handle() as handle:
        connection = database.connection(handle)
    text = connection.to_string()
    assert server.layout.role("monitor").password() not in text
    assert "********" in text and "xai_monitor" in text
    assert f"port={server.port}" in connection.set_index("keyword")["value"]["in a shell"]


def test_readiness(server: Server) -> None:
    with server.handle() as handle:
        (row,) = database.readiness(handle).to_dict("records")
    assert (row["accepts"], row["can_login"], row["can_query"], row["in_recovery"]) == (True, True, True, False)
    assert 0 <= row["slots_free"] < SLOTS - 3 and not row["used_reserved_slot"]
    assert row["latency_seconds"] > 0 and row["error"] == ""


def test_pg_isready_says_yes_although_no_login_succeeds(server: Server) -> None:
    """E67: pg_isready also says yes when all slots are taken, and to an unknown user."""
    with ExitStack() as sessions, server.handle() as handle:
        with suppress(psycopg.OperationalError):
            for _ in range(SLOTS + 1):
                sessions.enter_context(server.session("app"))
        (full,) = database.readiness(handle).to_dict("records")
    with server.handle(user="no_such_role") as handle:
        (unknown,) = database.readiness(handle).to_dict("records")
    for row, message in ((full, "slots are taken"), (unknown, "password")):
        assert (row["accepts"], row["can_login"]) == (True, False)
        assert pd.isna(row["can_query"]) and message in row["error"]


def test_not_ready_on_a_closed_port(server: Server) -> None:
    with server.handle(port=1) as handle:
        (row,) = database.readiness(handle).to_dict("records")
    assert (row["accepts"], row["can_login"]) == (False, False)
    assert "refused" in row["error"]


def test_a_silent_port_costs_no_more_than_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        settings = {"host": "127.0.0.1", "port": port, "sslmode": "disable", "timeout": "500ms"}
        handle = Database(DatabaseSettings.model_validate(settings))
        started = time.monotonic()
        (row,) = database.readiness(handle).to_dict("records")
    assert (row["accepts"], row["can_login"]) == (False, False)
    assert "within" in row["error"] or "in time" in row["error"]
    assert time.monotonic() - started < stretched(10)


def test_a_half_open_connection_costs_the_deadline(server: Server) -> None:
    """A firewall drops the connection silently: the next query times out, and the one after it reconnects."""
    with relay(server.port) as between, server.handle(port=between.port, timeout="500ms") as handle:
        assert len(handle.frame("identity")) == 1
        between.silent = True
        started = time.monotonic()
        assert type(refusal(handle)) is TimedOut
        assert time.monotonic() - started < stretched(10)
        between.silent = False
        assert len(handle.frame("identity")) == 1


class Relay:
    """Passes bytes in both directions between its clients and a port; once `silent`, it drops them."""

    def __init__(self, to: int) -> None:
        self.to, self.silent = to, False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.sockets: list[socket.socket] = [self.listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                server = socket.create_connection(("127.0.0.1", self.to))
                self.sockets += [client, server]
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=self._pass, args=(source, sink), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        cut = False
        with suppress(OSError):
            while data := source.recv(65536):
                cut = cut or self.silent  # for good, as a firewall does
                if not cut:
                    sink.sendall(data)


@contextmanager
def relay(to: int) -> Iterator[Relay]:
    found = Relay(to)
    try:
        yield found
    finally:
        for each in found.sockets:
            each.close()


def test_a_cache_is_no_database(env: Environment) -> None:
    """A cache behind the port is recognized as another server, in time."""
    cache = env.settings.cache
    assert cache is not None
    settings = {"host": cache.host, "port": cache.port, "sslmode": "disable", "timeout": "2s"}
    handle = Database(DatabaseSettings.model_validate(settings))
    started = time.monotonic()
    assert isinstance(refusal(handle), WrongServer | Unreachable | TimedOut)
    assert time.monotonic() - started < stretched(10)


def test_readiness_says_that_a_reserved_slot_was_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Since 16 a role with pg_use_reserved_connections can log in when ordinary clients no longer can."""
    monkeypatch.setenv("XAI_RUNBOOK_SYSTEM_PROGRAMS", "no")
    if programs.find("postgres") is None:
        pytest.skip("no PostgreSQL of version 16 or later")
    with running(tmp_path, reserved_connections="2") as server:
        with server.superuser() as superuser:
            if superuser.info.server_version < 160000:
                pytest.skip("no PostgreSQL of version 16 or later")
            superuser.execute("GRANT pg_use_reserved_connections TO xai_monitor")
        with ExitStack() as sessions, server.handle() as handle:
            with suppress(psycopg.OperationalError):
                for _ in range(SLOTS + 1):
                    sessions.enter_context(server.session("app"))
            (row,) = database.readiness(handle).to_dict("records")
            used = database.connections(handle)
    assert row["can_login"] and row["used_reserved_slot"], row
    assert row["slots_free"] < 0
    assert used["usable"].iloc[0] == SLOTS - 3 - 2 and used["used_ratio"].iloc[0] > 1


# --- a pooler instead of the server ---------------------------------------------------------------------------------


@pytest.fixture
def pooler_as_database(env: Environment, sandbox: dict[str, Any]) -> DatabaseSettings:
    """Settings in which the pooler is configured as the database."""
    if "pooler" not in sandbox["parts"]:
        pytest.skip("no PgBouncer found")
    settings = env.settings.database
    assert settings is not None and settings.proxy is not None
    return settings.model_copy(update={"port": settings.proxy.port, "proxy": None})


def test_a_pooler_configured_as_the_database_is_recognized(pooler_as_database: DatabaseSettings) -> None:
    error = refusal(Database(pooler_as_database))
    assert (type(error), error.what) == (WrongServer, "this is a pooler, not PostgreSQL itself")
    assert "database.proxy" in error.hint


def test_nothing_is_changed_through_a_pooler(env: Environment, sandbox: dict[str, Any], tmp_path: Path) -> None:
    """E24: even a pooler that accepts our startup options is recognized, by the backend pid that it reports."""
    if "pooler" not in sandbox["parts"]:
        pytest.skip("no PgBouncer found")
    settings, layout = env.settings.database, Path(sandbox["overlay"]["sandbox"]["folder"])
    program = programs.find("pgbouncer")
    assert settings is not None and settings.operator is not None and settings.operator.password is not None
    port = free_ports(["pooler"])["pooler"]
    ini = (layout / "pooler" / "pgbouncer.ini").read_text()
    ini = ini.replace(f"listen_port = {settings.proxy.port if settings.proxy else 0}", f"listen_port = {port}")
    ini = ini.replace(str(layout / "pooler" / "users"), str(tmp_path / "users"))
    with write_access():
        (tmp_path / "users").write_text(f'"{settings.operator.user}" "{settings.operator.password.reveal()}"\n')
    (tmp_path / "pgbouncer.ini").write_text(f"{ini}ignore_startup_parameters = options\n")
    from xai_runbook.sandbox.components.postgres_template import unprivileged

    tmp_path.chmod(0o755)
    running_pooler = subprocess.Popen(
        [*unprivileged(), str(program), str(tmp_path / "pgbouncer.ini")],
        env=dict(os.environ) | programs.library_path("pgbouncer"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + 20
        while time.monotonic() < end:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.05)
        with write_access(), pytest.raises(AccessDenied, match="proxy or pooler"):
            Operator(settings.model_copy(update={"port": port})).identity()
    finally:
        running_pooler.kill()
        running_pooler.wait()


# --- through a bastion ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def through(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bastion]:
    with bastion(tmp_path_factory.mktemp("bastion")) as found:
        yield found


def children(text: str) -> list[psutil.Process]:
    """Return the descendants of this process whose command line contains the text."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if text in " ".join(process.cmdline()):
                found.append(process)
    return found


def gone(pids: list[int]) -> bool:
    end = time.monotonic() + 20
    while any(psutil.pid_exists(pid) for pid in pids):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def test_through_a_bastion(server: Server, through: Bastion) -> None:
    with server.handle(bastion=through.settings, timeout="10s") as handle:
        assert len(handle.frame("identity")) == 1
        assert handle.ping()
        tunnel = children(str(through.key))
        assert tunnel, "no ssh process"
        secret = server.layout.role("monitor").password()
        for process in tunnel:
            assert secret not in " ".join(process.cmdline())
            assert secret not in " ".join(process.environ().values())
            assert not {"PGPASSWORD", "XAI_RUNBOOK_SANDBOX"} & set(process.environ())
        assert "through bastion 127.0.0.1" in database.connection(handle).set_index("keyword")["remark"]["host"]
    assert gone([process.pid for process in tunnel]), "the tunnel ends with the handle"


def test_backup_programs_use_the_bastion_too(server: Server, through: Bastion, tmp_path: Path) -> None:
    """They once connected to the host directly, which only the bastion can reach."""
    env = backed_up.environment(server, tmp_path / "journal")
    settings = env.settings.model_dump()
    settings["database"] |= {"bastion": through.settings, "timeout": "10s"}
    with (
        write_access(),
        role_environment(("database.operator",), type(env.settings).model_validate(settings)) as variables,
    ):
        assert variables["PGHOSTADDR"] == "127.0.0.1" and variables["PGPORT"] != str(server.port)
        dumped = subprocess.run(
            [env.backups.programs(1) / "pg_dump", "--schema-only", "--no-password", "--table", "wallets"],
            env=variables | {"PATH": os.environ["PATH"]}, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert dumped.returncode == 0 and "CREATE TABLE public.wallets" in dumped.stdout, dumped.stderr
        tunnel = children(str(through.key))
        assert tunnel
    assert gone([process.pid for process in tunnel]), "the tunnel ends with the step"


def test_a_managed_server_without_system_identifier_and_wal_listing(server: Server) -> None:
    """Managed servers forbid pg_control_system and pg_ls_waldir; queries that do not need them still work."""
    functions = ("pg_control_system()", "pg_ls_waldir()")
    with server.superuser() as session:
        for name in functions:
            session.execute(f"REVOKE EXECUTE ON FUNCTION {name} FROM PUBLIC, pg_monitor".encode())
    try:
        with server.handle() as handle:
            assert handle.identity()["system_identifier"] == "not readable"
            sizes_now = sizes.database_sizes(handle).set_index("kind")["size_bytes"]
            assert sizes_now["database"].gt(0).all() and pd.isna(sizes_now["wal"])
        with server.handle(system_identifier="7") as handle:
            assert isinstance(refusal(handle), WrongServer), "the expected identifier cannot be verified"
    finally:
        with server.superuser() as session:
            session.execute("GRANT EXECUTE ON FUNCTION pg_control_system() TO PUBLIC")
            session.execute("GRANT EXECUTE ON FUNCTION pg_ls_waldir() TO pg_monitor")


def test_verify_full_holds_through_the_tunnel(server: Server, authority: Path, through: Bastion) -> None:
    """The certificate must be for the host in the settings, not for the local end of the tunnel."""
    tls = {"sslmode": "verify-full", "sslrootcert": f"{authority}/trusted.crt", "bastion": through.settings}
    with server.handle(host="localhost", timeout="10s", **tls) as handle:
        assert len(handle.frame("identity")) == 1
        assert encrypted(handle)
    with server.handle(host="127.0.0.1", timeout="10s", **tls) as handle:
        assert refusal(handle).what == "the server's certificate is for another host"


def test_a_broken_tunnel_is_opened_again(server: Server, through: Bastion) -> None:
    with server.handle(bastion=through.settings, timeout="10s") as handle:
        handle.frame("identity")
        broken = children(str(through.key))
        for process in broken:
            process.kill()
        psutil.wait_procs(broken, timeout=10)  # kill() does not wait
        assert len(handle.frame("identity")) == 1


def test_errors_of_the_bastion(server: Server, through: Bastion, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other"], check=True, timeout=30)
    (tmp_path / "known").write_text("")
    for keys, kind in (
        ({"identity_file": str(tmp_path / "other")}, AccessDenied),
        ({"known_hosts_file": str(tmp_path / "known")}, AccessDenied),
        ({"port": 1}, Unreachable),
    ):
        with server.handle(bastion=through.settings | keys, timeout="10s") as handle:
            error = refusal(handle)
            assert type(error) is kind, error
            assert "bastion" in error.what and error.hint == "try ssh 127.0.0.1 by hand"
    with server.handle(bastion=through.settings, port=1, timeout="5s") as handle:
        assert isinstance(refusal(handle), Unreachable)


@pytest.mark.parametrize(
    "table",
    [
        {"service": "xai", "bastion": {"host": "bastion.internal"}},
        {"bastion": {"host": "-oProxyCommand=touch /tmp/owned"}},
        {"bastion": {"host": "bastion.internal", "user": "-oProxyCommand=x"}},
        {"bastion": {"host": ""}},
    ],
)
def test_an_invalid_bastion(table: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"bastion|plain name"):
        DatabaseSettings.model_validate(table)


def test_a_silent_bastion_costs_the_deadline(through: Bastion) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        silent = through.settings | {"port": listener.getsockname()[1]}
        settings = {"host": "localhost", "port": 1, "sslmode": "disable", "timeout": "1s", "bastion": silent}
        handle = Database(DatabaseSettings.model_validate(settings))
        started = time.monotonic()
        assert isinstance(refusal(handle), TimedOut | Unreachable)
        assert time.monotonic() - started < stretched(12)
        handle.close()


def test_sigkill_leaves_no_tunnel(server: Server, through: Bastion) -> None:
    program = (
        "import sys, time, json; from xai_runbook.settings import database; "
        "from xai_runbook.clients.postgres.tunnel import Tunnel;"
        "bastion = database.BastionSettings.model_validate(json.loads(sys.argv[1]));"
        f"print(Tunnel(bastion, '127.0.0.1', {server.port}, 20).port(), flush=True); time.sleep(60)"
    )
    import json

    with held([sys.executable, "-c", program, json.dumps(through.settings)]) as process:
        assert process.stdout is not None and process.stdout.readline().strip()
        tunnel = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
        assert len(tunnel) == 2
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    assert gone(tunnel)


@contextmanager
def held(argv: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()
