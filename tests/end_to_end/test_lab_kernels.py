"""Kernels of `make lab` talk over sockets in a private folder: over TCP any local user could read their outputs."""

from __future__ import annotations

import json
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.support.started import eventually
from xai_runbook.sandbox.supervisor.component import free_ports


def test_s14_kernels_of_the_lab_use_private_sockets(checkout: Path, tmp_path: Path) -> None:
    recipe = re.search(r"^lab: .*\n(?:\t.*\n)+", (checkout / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert recipe is not None
    options = re.findall(r"--KernelManager\.\S+", recipe[0])
    port = free_ports(["lab"])["lab"]
    assert 'JUPYTER_RUNTIME_DIR="$$folder"' in recipe[0]
    runtime = Path(tempfile.mkdtemp())  # as the recipe does
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1",
             f"--ServerApp.port={port}", "--IdentityProvider.token=test", f"--ServerApp.root_dir={tmp_path}", *options],
            cwd=tmp_path, stdout=log, stderr=log,
            env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "JUPYTER_RUNTIME_DIR": str(runtime)},
        )  # fmt: skip
    try:

        def answer(path: str, body: bytes | None = None) -> Any:
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/api{path}",
                data=body,
                headers={"Authorization": "token test", "Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request, timeout=30) as response:
                return json.load(response)

        def is_up() -> bool:
            assert server.poll() is None, (tmp_path / "log").read_text()
            try:
                return bool(answer("/status"))
            except (urllib.error.URLError, OSError):
                return False

        eventually(is_up)
        kernel = answer("/kernels", b'{"name": "python3"}')["id"]
        (connection,) = [json.loads(path.read_bytes()) for path in runtime.glob(f"kernel-{kernel}.json")]
    finally:
        server.terminate()
        server.wait(30)
        mode = stat.S_IMODE(runtime.stat().st_mode)
        shutil.rmtree(runtime)
    assert connection["transport"] == "ipc"
    assert Path(connection["ip"]).parent == runtime
    assert mode & 0o077 == 0
