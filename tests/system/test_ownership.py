"""S2: settings and programs that other users can write are refused; the working folder is not searched."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.private_python import private_python
from xai_runbook.cli.main import main
from xai_runbook.errors import Refused, SettingsError
from xai_runbook.pgbackup.pg_tools import find_programs
from xai_runbook.settings import loading
from xai_runbook.system import processes, sandbox_state

root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
SOMEBODY = 65534
FOREIGN = '[prometheus]\nurl = "http://foreign.example:9090"\nauth_value = "file:/etc/hostname"\n'


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that XAI_RUNBOOK_CONFIG names, with mine.toml; the working folder is another."""
    for name in ("config", "work", "xdg"):
        (tmp_path / name).mkdir(mode=0o700)
    monkeypatch.setenv("XAI_RUNBOOK_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("XAI_RUNBOOK_SANDBOX", str(tmp_path / "no-sandbox"))
    monkeypatch.chdir(tmp_path / "work")
    (tmp_path / "config" / "mine.toml").write_text('description = "mine"')
    return tmp_path / "config"


def refused(name: str) -> str:
    with pytest.raises(SettingsError) as why:
        loading.load(name)
    return str(why.value)


@pytest.mark.parametrize("name", ["sandbox", "mine", "other"])
def test_s2_the_working_folder_is_not_searched(config: Path, name: str) -> None:
    Path("environments").mkdir()
    for folder in (Path("environments"), Path()):
        (folder / f"{name}.toml").write_text(FOREIGN)
    if name == "other":
        assert "there is no environment 'other'" in refused(name)
        return
    prometheus = loading.load(name).prometheus
    assert prometheus is None or "foreign" not in prometheus.url


def test_s2_a_relative_xdg_folder_is_not_searched(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", ".")
    Path("xai-runbook").mkdir()
    Path("xai-runbook/other.toml").write_text(FOREIGN)
    assert "there is no environment 'other'" in refused("other")


@root
@pytest.mark.parametrize("what", ["mine.toml", "."])
def test_s2_settings_of_somebody_else_are_refused(config: Path, what: str) -> None:
    os.chown(config / what, SOMEBODY, SOMEBODY)
    for name in ("mine", str(config / "mine.toml")):
        assert "belongs to" in refused(name) and f"uid {SOMEBODY}" in refused(name)


@pytest.mark.parametrize("what", ["mine.toml", "."])
@pytest.mark.parametrize(("rights", "says"), [(0o666, "everybody"), (0o777, "everybody")])
def test_s2_settings_that_everybody_can_write_are_refused(config: Path, what: str, rights: int, says: str) -> None:
    (config / what).chmod(rights | (0o111 if what == "." else 0))
    assert f"can be written by {says}" in refused("mine")
    assert f"can be written by {says}" in refused("../config/mine.toml")


@root
@pytest.mark.parametrize("what", ["mine.toml", "."])
def test_s2_settings_that_a_shared_group_can_write_are_refused(config: Path, what: str) -> None:
    os.chown(config / what, 0, SOMEBODY)
    (config / what).chmod(0o770 if what == "." else 0o660)
    assert "can be written by the group" in refused("mine")
    os.chown(config / what, 0, 0)  # the owner's own group
    assert loading.load("mine").description == "mine"


@root
def test_s2_the_target_of_a_link_is_checked(config: Path, tmp_path: Path) -> None:
    target = tmp_path / "work" / "target.toml"
    (config / "mine.toml").rename(target)
    (config / "mine.toml").symlink_to(target)
    assert loading.load("mine").description == "mine"
    os.chown(target, SOMEBODY, SOMEBODY)
    assert "belongs to" in refused("mine")
    os.chown(target, 0, 0)
    target.parent.chmod(0o777)
    assert "can be written by everybody" in refused("mine")
    target.parent.chmod(0o755)
    os.chown(config / "mine.toml", SOMEBODY, SOMEBODY, follow_symlinks=False)
    assert "belongs to" in refused("mine")


def test_s2_our_file_in_a_sticky_folder_is_read(config: Path) -> None:
    config.chmod(0o777 | stat.S_ISVTX)
    assert loading.load("mine").description == "mine"


def test_s2_a_shipped_name_is_not_hidden(config: Path) -> None:
    (config / "sandbox.toml").write_text(FOREIGN)
    assert "the name sandbox is the shipped environment's" in refused("sandbox")
    assert str(config / "sandbox.toml") in refused("")
    assert "the name sandbox is the shipped" in refused(str(config / "sandbox.toml"))
    (config / "production.example.toml").write_text(FOREIGN)
    assert "the name production.example is the shipped" in refused("production.example")


def test_s2_a_path_names_an_environment(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "work" / "here.toml").write_text('description = "here"')
    found = loading.load("./here.toml")
    assert (found.name, found.description, found.source) == ("here", "here", str(tmp_path / "work" / "here.toml"))
    assert "no such settings file" in refused("./nowhere.toml")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XAI_RUNBOOK_CONFIG", str(config))
        assert main(["ping", "--env", "./here.toml"]) == 0
    output = capsys.readouterr().out
    assert output.startswith("environment here\n") and str(tmp_path / "work" / "here.toml") in output


def test_s2_ping_says_which_file_it_read(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ping", "--env", "mine"]) == 0
    assert str(config / "mine.toml") in capsys.readouterr().out
    assert main(["ping", "--env", "mine", "--json"]) == 0
    assert str(config / "mine.toml") in capsys.readouterr().err


def test_s2_relative_files_are_of_the_settings_folder(config: Path) -> None:
    (config / "mine.toml").write_text(
        '[prometheus]\nca_file = "ca.pem"\nauth_value = "file:secrets/token"\n'
        '[cache]\nhost = "x"\npassword = "file:~/p"\n'
    )
    found = loading.load("mine")
    assert found.prometheus is not None and found.prometheus.auth_value is not None
    assert found.prometheus.ca_file == str(config / "ca.pem")
    assert found.prometheus.auth_value.reference == f"file:{config}/secrets/token"
    assert found.cache is not None and found.cache.password is not None
    assert found.cache.password.reference == "file:~/p"


@root
def test_s2_a_sandbox_of_somebody_else_gives_no_settings(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "other-sandbox"
    folder.mkdir(mode=0o700)
    overlay = {"prometheus": {"url": "http://foreign.example:9090"}}
    running = {"pid": os.getpid(), "create_time": processes.created_at(os.getpid()), "ready_at": "x", "schema": 1}
    sandbox_state.write(folder, running | {"overlay": overlay})
    monkeypatch.setenv("XAI_RUNBOOK_SANDBOX", str(folder))
    prometheus = loading.load("sandbox").prometheus
    assert prometheus is not None and "foreign" in prometheus.url
    os.chown(folder / "state.json", SOMEBODY, SOMEBODY)
    assert "belongs to" in refused("sandbox")


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("pg_dump", "pg_restore"):
        (folder / name).write_text(f"#!/bin/sh\n: > {tmp_path}/ran\necho 'pg_dump (PostgreSQL) 15.1'\n")
        (folder / name).chmod(0o755)
    return folder


@pytest.mark.parametrize("name", [".", "pg_dump", "pg_restore"])
def test_s2_programs_that_others_can_write_are_not_run(programs: Path, tmp_path: Path, name: str) -> None:
    assert find_programs(str(programs), 15) == programs
    (tmp_path / "ran").unlink()
    (programs / name).chmod(0o777)
    with pytest.raises(Refused, match="can be written by everybody"):
        find_programs(str(programs), 15)
    (programs / name).chmod(0o755)
    if os.geteuid() == 0:
        os.chown(programs / name, SOMEBODY, SOMEBODY)
        with pytest.raises(Refused, match="belongs to"):
            find_programs(str(programs), 15)
    assert not (tmp_path / "ran").exists(), "not even asked its version"


@pytest.fixture
def readable() -> Iterator[Path]:
    """A folder that another user may read, unlike pytest's."""
    folder = Path(tempfile.mkdtemp(prefix="xai-ownership-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@root
def test_s2_an_ordinary_user_reads_its_own_and_root_s_settings_and_nobody_else_s(readable: Path) -> None:
    base = "" if os.access(sys.executable, os.X_OK) and not sys.executable.startswith("/root") else "/usr/bin/python3"
    python = private_python(readable / "python", [Path(loading.__file__).parents[2]], base)
    config = readable / "config"
    config.mkdir()
    (config / "mine.toml").write_text('description = "read"')
    code = "from xai_runbook.settings.loading import load; print(load('mine').description)"
    line = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", python, "-c", code]

    def output() -> str:
        done = subprocess.run(
            line, env={"PATH": os.environ["PATH"], "XAI_RUNBOOK_CONFIG": str(config)}, cwd="/",
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        return done.stdout + done.stderr

    unreadable = ("No module named", "Permission denied", "cannot open shared object")
    if any(reason in output() for reason in unreadable):
        pytest.skip("no other user may read this Python and this checkout")
    assert "read" in output(), "root's"
    os.chown(config / "mine.toml", SOMEBODY, SOMEBODY)
    assert "read" in output(), "its own"
    os.chown(config / "mine.toml", 12345, 12345)
    (config / "mine.toml").chmod(0o644)
    assert "settings that others can write are not used" in output() and "uid 12345" in output()
