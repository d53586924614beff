"""The clean machine has the packages of the README, and is skipped with one line if it cannot be built."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / ".ci" / "clean_machine.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("clean_machine", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_packages_are_those_of_the_readme(script: ModuleType) -> None:
    packages = script._packages(ROOT / "README.md")
    assert {"git", "make", "python3-venv"} <= set(packages)
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9+.-]+", package) for package in packages)


def test_only_proxies_bundles_and_pips_variables_are_passed_on(script: ModuleType) -> None:
    passed = ["https_proxy", "NO_PROXY", "PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"]
    kept = ["PATH", "HOME", "PGPASSWORD", "XAI_RUNBOOK_ENV", "PYTHONPATH", "MY_PIP_TOKEN"]
    assert [name for name in passed + kept if script.PASSED.fullmatch(name)] == passed


def test_the_values_of_pips_configuration_are_read(script: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text("[global]\ncert = /etc/ca.crt\nfind-links =\n  /srv/a\n  file:///srv/b\n")
    assert list(script._configured_values(tmp_path / "pip.conf")) == ["/etc/ca.crt", "/srv/a", "file:///srv/b"]


def skipped(argv: list[str], **more: str) -> str:
    done = subprocess.run(
        [*argv, sys.executable, str(SCRIPT), "trixie", "report"],
        env=os.environ | more, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_without_root_it_is_skipped_in_one_line() -> None:
    as_user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    if as_user and not shutil.which("setpriv"):
        pytest.skip("no setpriv here")
    if subprocess.run([*as_user, sys.executable, "-c", ""], capture_output=True, timeout=60, check=False).returncode:
        pytest.skip("no other user may run this Python")
    output = skipped(as_user)
    assert re.fullmatch(r"skipped: make clean-machine RELEASE=trixie: [^\n]+\n", output), output


def test_without_apt_or_namespaces_it_is_skipped_in_one_line(tmp_path: Path) -> None:
    assert skipped([], PATH=str(tmp_path)) == "skipped: make clean-machine RELEASE=trixie: apt is not installed\n"
    apt = tmp_path / "apt-get"
    apt.write_text("#!/bin/sh\necho Debian main http://mirror.invalid/debian\n", encoding="utf-8")
    apt.chmod(0o755)
    output = skipped([], PATH=str(tmp_path))
    assert output in (
        "skipped: make clean-machine RELEASE=trixie: it needs unshare and setpriv, of util-linux\n",
        "skipped: make clean-machine RELEASE=trixie: it needs root\n",
    )
