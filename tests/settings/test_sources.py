"""Where each value of an environment's settings comes from."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from xai_runbook.cli.main import main
from xai_runbook.errors import SettingsError
from xai_runbook.settings import loading
from xai_runbook.settings.sources import environments, sources

TEXT = """\
description = "ours"

[database]
host = "db.internal"
port = 5433
dbname = "xai"
user = "reader"
password = "env:DB_PASSWORD"

[[nodes.node]]
name = "node-1"
url = "http://node-1:8080"

[[nodes.node]]
name = "node-2"
url = "http://node-2:8080"

[limits.database]
pool = { threshold = 0.7 }
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "config"
    folder.mkdir(mode=0o700)
    (folder / "ours.toml").write_text(TEXT)
    (folder / "ours.toml").chmod(0o600)
    monkeypatch.setenv("XAI_RUNBOOK_CONFIG", str(folder))
    monkeypatch.setenv("DB_PASSWORD", "hunter2-never-shown")
    return folder


def test_each_value_has_its_file_and_line_or_its_variable(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XAI_RUNBOOK_DATABASE__PORT", "6432")
    found = {each.key: each for each in sources("ours")}
    path = config / "ours.toml"
    assert (found["database.host"].value, found["database.host"].origin) == ("db.internal", f"{path}:4")
    assert found["database.port"].value == "6432"
    assert found["database.port"].origin == "variable XAI_RUNBOOK_DATABASE__PORT"
    assert found["nodes.node.1.url"].origin == f"{path}:16"
    assert found["limits.database.pool.threshold"].origin == f"{path}:19", "an inline table has one line"
    assert found["limits.database.pool.severity"].origin.startswith(str(loading.DEFAULTS / "database.toml"))
    assert found["description"].origin == f"{path}:1"


def test_every_line_of_the_shipped_files_is_the_keys_own() -> None:
    for each in sources("sandbox"):
        file, _, number = each.origin.rpartition(":")
        if file.endswith(".toml"):
            line = Path(file).read_text(encoding="utf-8").splitlines()[int(number) - 1]
            assert re.search(rf"\b{re.escape(each.key.rpartition('.')[2])}\b", line), (each, line)


def test_a_secret_is_shown_as_its_reference(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["env", "show", "database", "--env", "ours"]) == 0
    shown = capsys.readouterr().out
    assert "env:DB_PASSWORD" in shown and "hunter2" not in shown and "limits." not in shown


def test_a_secret_in_the_file_is_refused_and_not_shown(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (config / "ours.toml").write_text(TEXT.replace("env:DB_PASSWORD", "hunter2-typed-in"))
    assert main(["env", "show", "--env", "ours"]) == 3
    shown = capsys.readouterr()
    assert "hunter2" not in shown.out + shown.err


def test_a_list_replaces_the_earlier_one(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XAI_RUNBOOK_NODES__NODE", '[{name = "only", url = "http://only:1"}]')
    found = [each.key for each in sources("ours") if each.key.startswith("nodes.node.")]
    assert found == ["nodes.node.0.name", "nodes.node.0.url"]


def test_environments_are_listed_with_why_one_is_not_used(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (config / "open.toml").write_text("")
    (config / "open.toml").chmod(0o666)
    found = {each.name: each for each in environments()}
    assert found["ours"].problem == "" and found["sandbox"].path.parent == loading.SHIPPED
    assert "others can write" in found["open"].problem
    assert main(["env", "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["name"] for row in rows} >= {"ours", "open", "sandbox"}
    with pytest.raises(SettingsError, match="others can write"):
        sources("open")


def test_an_unknown_key_is_an_error_with_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["env", "show", "limits.databse"]) == 3
    assert "Try: limits.database" in capsys.readouterr().err
