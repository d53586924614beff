"""A real sshd on loopback, run as an ordinary user, from its Debian package if the system has none."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from xai_runbook.sandbox.components.postgres_template import unprivileged
from xai_runbook.sandbox.supervisor.component import free_ports
from xai_runbook.system import sandbox_state


@dataclass(frozen=True)
class Bastion:
    """Port and key of the bastion, and the settings to connect through it."""

    port: int
    key: Path
    settings: dict[str, Any]


@contextmanager
def bastion(folder: Path) -> Iterator[Bastion]:
    """Yield a bastion in that folder. Skips the test if there is no sshd."""
    if not shutil.which("ssh") or not shutil.which("ssh-keygen"):
        pytest.skip("ssh not found")
    program, libraries = _sshd()
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True, timeout=30)
    port = free_ports(["ssh"])["ssh"]
    prefix = unprivileged() if os.geteuid() == 0 else []  # run as root, sshd needs a user and a folder of its own
    if prefix and prefix[0] != "unshare":
        pytest.skip("sshd as root needs user namespaces")
    options = {
        "Port": port, "ListenAddress": "127.0.0.1", "HostKey": folder / "host", "PidFile": "none", "UsePAM": "no",
        "AuthorizedKeysFile": folder / "user.pub", "StrictModes": "no", "PasswordAuthentication": "no",
        "AllowTcpForwarding": "local",
    }  # fmt: skip
    (folder / "sshd_config").write_text("".join(f"{name} {value}\n" for name, value in options.items()))
    kind, key = (folder / "host.pub").read_text().split()[:2]
    (folder / "known").write_text(f"[127.0.0.1]:{port} {kind} {key}\n")
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            [*prefix, str(program), "-D", "-e", "-f", str(folder / "sshd_config")],
            env=dict(os.environ) | libraries, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        end = time.monotonic() + 20
        while time.monotonic() < end and process.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.05)
        else:
            pytest.skip(f"sshd did not start: {(folder / 'log').read_text()[-300:]}")
        settings = {
            "host": "127.0.0.1", "port": port, "user": "nobody" if prefix else getpass.getuser(),
            "identity_file": str(folder / "user"), "known_hosts_file": str(folder / "known"),
        }  # fmt: skip
        yield Bastion(port, folder / "user", settings)
    finally:
        process.kill()
        process.wait()


def _sshd() -> tuple[Path, dict[str, str]]:
    for place in ("/usr/sbin/sshd", "/usr/local/sbin/sshd"):
        if os.access(place, os.X_OK):
            return Path(place), {}
    tree = sandbox_state.cache_folder() / "programs" / "openssh-server"
    if not tree.is_dir():
        if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
            pytest.skip("sshd not found")
        temporary = tree.with_name(f".openssh-server-{os.getpid()}")
        temporary.mkdir(parents=True)
        try:
            packages = ["openssh-server", "libwrap0"]
            subprocess.run(
                ["apt-get", "-q", "-o", "APT::Sandbox::User=", "download", "--", *packages],
                cwd=temporary, check=True, capture_output=True, timeout=120,
            )  # fmt: skip
            for deb in temporary.glob("*.deb"):
                subprocess.run(["dpkg-deb", "-x", deb, temporary], check=True, capture_output=True, timeout=60)
                deb.unlink()
            with suppress(OSError):  # another process was faster
                temporary.rename(tree)
        except (subprocess.SubprocessError, OSError) as error:
            pytest.skip(f"sshd neither found nor downloaded: {type(error).__name__}")
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    libraries = ":".join(map(str, tree.glob("usr/lib/*-linux-*")))
    return tree / "usr" / "sbin" / "sshd", {"LD_LIBRARY_PATH": libraries}
