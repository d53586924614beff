"""`xai-runbook ping`: one line for each target, what to try, exit code 3 if one did not answer."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from tests.support.bad_server import hangs, says, serving
from xai_runbook.cli import ping
from xai_runbook.cli.ping import Reply
from xai_runbook.environment import Environment
from xai_runbook.settings import loading


def arguments(env: str, *, as_json: bool = False) -> argparse.Namespace:
    return argparse.Namespace(env=env, json=as_json)


def test_the_sandbox_answers(env: Environment, capsys: pytest.CaptureFixture[str]) -> None:
    assert ping.run(arguments("sandbox")) == 0
    output = capsys.readouterr().out
    for word in ("environment sandbox", "node-1", "node-3", "mainnet", "xai_monitor", "system_identifier", "ms"):
        assert word in output
    assert "try:" not in output
    assert "PRODUCTION" not in output


def test_json(env: Environment, capsys: pytest.CaptureFixture[str]) -> None:
    assert ping.run(arguments("sandbox", as_json=True)) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"prometheus", "nodes", "nodes.reference", "database", "cache"} <= {reply["part"] for reply in found}
    assert set(found[0]) == set(Reply._fields)
    absent = {reply["part"] for reply in found if reply["status"] == "not configured"}
    assert "grafana" not in absent
    assert {reply["status"] for reply in found if reply["part"] not in absent} == {"ok"}


def test_answers_as_a_frame(env: Environment) -> None:
    frame = ping.answers(env)
    assert list(frame.columns) == ["part", "target", "status", "detail", "seconds", "hint"]
    # the time is the question's, not that of loading the library that asks it
    assert (frame["seconds"].dropna() < 5).all()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XAI_RUNBOOK_CONFIG", str(tmp_path))
    return tmp_path


def test_servers_that_do_not_answer(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(hangs) as hung, serving(says(b"<html>")) as page, serving(says(b"x", "404 Not Found")) as gateway:
        (folder / "mine.toml").write_text(f"""
            production = true
            [prometheus]
            url = "{gateway.url}"
            [[nodes.node]]
            name = "hung"
            url = "{hung.url}"
            timeout = "500ms"
            [[nodes.node]]
            name = "page"
            url = "{page.url}"
            [database]
            host = "127.0.0.1"
            port = 1
            password = "env:NO_SUCH_VARIABLE_HERE"
        """)
        assert ping.run(arguments("mine")) == 3
    output = capsys.readouterr().out
    assert "environment mine - PRODUCTION" in output
    replies = {reply.target or reply.part: reply for reply in _parsed(output)}
    assert replies["hung"].status == "down"
    assert replies["page"].status == "unknown"
    assert replies["cache"].status == "not configured"
    assert replies["nodes.reference"].status == "not configured"
    assert replies[gateway.url].status == "unknown"
    assert "9090" in output  # the hint
    assert "the secret is empty or not set" in output


def _parsed(output: str) -> list[Reply]:
    words = ("not configured", "unknown", "down", "ok")
    lines = [line.strip() for line in output.splitlines()]
    found = []
    for line in lines:
        for word in words:
            if line.startswith(f"{word} "):
                part, *rest = line.removeprefix(word).split()
                found.append(Reply(part, rest[0] if rest else "", word))
                break
    return found


def test_nothing_configured_is_no_failure(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "mine.toml").write_text("")
    assert ping.run(arguments("mine")) == 0
    replies = _parsed(capsys.readouterr().out)
    assert {"prometheus", "nodes", "database", "database.proxy", "pooler", "cache"} <= {each.part for each in replies}
    assert {each.status for each in replies} == {"not configured"}


def test_the_text_of_servers_is_inert(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    body = b'{"status": "success", "data": {"version": "\\u001b]0;owned\\u0007\\u202e"}}'
    with serving(says(body)) as served:
        (folder / "mine.toml").write_text(f'[prometheus]\nurl = "{served.url}"')
        assert ping.run(arguments("mine")) == 0
    assert not {"\x1b", "\x07", "\u202e"} & set(capsys.readouterr().out)
    assert loading.load("mine").prometheus is not None
