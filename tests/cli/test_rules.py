"""`xai-runbook rules`: the rule file, its tests and the table, checked with promtool."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support import prometheus_server as server
from xai_runbook.cli.main import main
from xai_runbook.cli.rules import TESTS
from xai_runbook.operations.monitoring import alert_rules
from xai_runbook.settings import loading
from xai_runbook.settings.limits import Signals, section_of


def test_without_an_environment_the_rules_have_the_runbooks_own_values(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XAI_RUNBOOK_ENV", "sandbox")
    assert main(["rules"]) == 0
    output = capsys.readouterr().out
    assert output == server.rules(loading.shipped())
    assert "for: 30m" in output
    assert main(["rules", "--env", "sandbox"]) == 0
    assert "for: 30m" not in capsys.readouterr().out


def test_markdown_is_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "--markdown"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2 + len(Signals.model_fields)


def test_the_shipped_tests_pass_and_cover_every_rule(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    promtool = server.program("promtool")
    for words, name in ((["rules"], "rules.yml"), (["rules", "--tests"], "rules_test.yml")):
        assert main(words) == 0
        (tmp_path / name).write_text(capsys.readouterr().out)
    done = subprocess.run(
        [promtool, "test", "rules", "rules_test.yml"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    shipped_tests = TESTS.read_text()
    settings = loading.shipped()
    for rule in alert_rules.rule_table(settings, settings.limits):
        assert f"{{alertname: {rule.alert}, eval_time: " in shipped_tests, "one instant at which it does not fire yet"
        assert f"alertname: {rule.alert}\n" in shipped_tests, "one at which it does"


def test_the_shipped_tests_fail_for_every_changed_rule(tmp_path: Path) -> None:
    """With each limit relaxed a little, the test of its rule fails."""
    moves = {"ratio": 0.15, "seconds": 2, "blocks": 1, "peers": 1, "series": 1, "answers": 1}
    settings = loading.shipped()
    moved: dict[str, dict[str, Any]] = {}
    for name in Signals.model_fields:
        limit = settings.limits.by_name[name]
        by = moves[limit.unit] * (1 if limit.direction == "above" else -1)
        moved.setdefault(section_of(name), {})[name] = {"threshold": max(0.0, limit.threshold + by)}
    (tmp_path / "rules.yml").write_text(server.rules(server.settings(limits=moved)))
    shutil.copy(TESTS, tmp_path / "rules_test.yml")
    done = subprocess.run(
        [server.program("promtool"), "test", "rules", "rules_test.yml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 1
    assert [
        each.alert
        for each in alert_rules.rule_table(settings, settings.limits)
        if f"alertname: {each.alert}" not in output
    ] == []


def test_check_shows_the_answer_of_promtool(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server.program("promtool")
    assert main(["rules", "--check"]) == 0
    assert capsys.readouterr().out.count("SUCCESS") == 2, "read, and tested"
    assert main(["rules", "--check", "--env", "sandbox"]) == 0
    assert capsys.readouterr().out.count("SUCCESS") == 1, "the tests are of the runbook's own durations"
    (tmp_path / "odd.toml").write_text("[signals]\npeer_count = 'network_peers +'\n")
    monkeypatch.setenv("XAI_RUNBOOK_CONFIG", str(tmp_path))
    assert main(["rules", "--check", "--env", "odd"]) == 1
    assert "parse error" in capsys.readouterr().err


def test_check_without_promtool_exits_with_3(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["rules", "--check"]) == 3
    assert "promtool is not on PATH" in capsys.readouterr().err
    (tmp_path / "promtool").write_text("#!/nowhere/sh\n")
    (tmp_path / "promtool").chmod(0o755)
    assert main(["rules", "--check"]) == 3
    assert "promtool did not finish" in capsys.readouterr().err
