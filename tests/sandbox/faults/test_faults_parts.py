"""Each fault has its effect in the real part, and none after it was healed. Findings are tested elsewhere."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.pace import stretched
from xai_runbook import sandbox
from xai_runbook.errors import SandboxError
from xai_runbook.sandbox.supervisor.component import accepts_connections

INFO, NETWORK = "/api/v1/blockchain/info", "/api/v1/network/info"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("faults") / "run"
    sandbox.up(folder, bound=True)
    yield folder
    sandbox.down(folder)


@pytest.fixture
def folder(running: Path) -> Iterator[Path]:
    """Yield the run folder of a sandbox without active faults, and heal it afterwards."""
    yield running
    sandbox.heal(folder=running)


def port(folder: Path, name: str) -> int:
    state = sandbox.status(folder)
    assert state is not None
    return int(state["parts"][name]["port"])


def condition(folder: Path, name: str) -> str:
    state = sandbox.status(folder)
    assert state is not None
    return str(state["parts"][name]["condition"])


def get(folder: Path, node: str, path: str, timeout: float = 30.0) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port(folder, node)}{path}", timeout=timeout) as answer:
        decoded: dict[str, Any] = json.load(answer)
        return decoded


def height(folder: Path, node: str) -> int:
    return int(get(folder, node, INFO)["block_height"])


def wait_until(seconds: float, condition: Callable[[], object]) -> None:
    seconds = stretched(seconds)
    end = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except OSError as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()
        assert time.monotonic() < end, f"condition not met within {seconds} s"
        time.sleep(0.2)


def test_every_fault_names_its_part_and_finding(folder: Path) -> None:
    faults = {fault["name"]: fault for fault in sandbox.known_faults(folder)}
    assert {"node-stopped", "height-frozen", "database-down"} <= set(faults)
    assert not any(fault["broken"] for fault in faults.values())
    assert all(fault["finding"] and fault["does"] and fault["part"] for fault in faults.values())


def test_node_stopped(folder: Path) -> None:
    assert sandbox.break_("node-stopped", folder) == ["node-stopped"]
    assert condition(folder, "node-2") == "ended"
    assert not accepts_connections(port(folder, "node-2"))
    before = height(folder, "node-1")
    assert sandbox.heal("node-stopped", folder) == ["node-stopped"]
    assert condition(folder, "node-2") == "running"
    wait_until(20, lambda: height(folder, "node-2") >= before and get(folder, "node-2", INFO)["is_synced"])


def test_node_hung(folder: Path) -> None:
    sandbox.break_("node-hung", folder)
    assert condition(folder, "node-2") == "frozen"
    assert accepts_connections(port(folder, "node-2")), "it still accepts"
    with pytest.raises(TimeoutError):
        get(folder, "node-2", INFO, timeout=1)
    sandbox.heal("node-hung", folder)
    wait_until(10, lambda: get(folder, "node-2", INFO)["is_synced"])


def test_height_frozen(folder: Path) -> None:
    sandbox.break_("height-frozen", folder)

    def is_frozen() -> bool:
        """Return whether all heights are equal and stay so for a few blocks' time."""
        before = height(folder, "node-1")
        time.sleep(3)
        return {height(folder, node) for node in ("node-1", "node-2", "node-3", "mainnet")} == {before}

    wait_until(20, is_frozen)
    before = height(folder, "node-1")
    sandbox.heal("height-frozen", folder)
    wait_until(20, lambda: height(folder, "node-3") > before)


def test_peers_lost(folder: Path) -> None:
    wait_until(10, lambda: get(folder, "node-3", NETWORK)["peer_count"] == 3)
    sandbox.break_("peers-lost", folder)
    wait_until(10, lambda: get(folder, "node-3", NETWORK)["peer_count"] == 0)
    wait_until(10, lambda: get(folder, "node-1", NETWORK)["peer_count"] == 2)
    sandbox.heal("peers-lost", folder)
    wait_until(20, lambda: get(folder, "node-3", NETWORK)["peer_count"] == 3)


def test_sync_lag(folder: Path) -> None:
    sandbox.break_("sync-lag", folder)
    started = height(folder, "node-3")
    wait_until(40, lambda: height(folder, "node-1") - height(folder, "node-3") > 10)
    wait_until(10, lambda: get(folder, "node-3", NETWORK)["peer_count"] == 3)  # it lags although it is connected
    wait_until(15, lambda: height(folder, "node-3") > started)
    sandbox.heal("sync-lag", folder)
    wait_until(20, lambda: abs(height(folder, "node-1") - height(folder, "node-3")) <= 2)


def test_api_errors(folder: Path) -> None:
    sandbox.break_("api-errors", folder)
    tip = height(folder, "node-1")

    def status() -> int:
        try:
            get(folder, "node-2", f"/api/v1/blocks/{tip}")
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        return 200

    wait_until(10, lambda: status() == 500)
    sandbox.heal("api-errors", folder)
    wait_until(15, lambda: status() == 200)


def test_api_slow(folder: Path) -> None:
    tip = height(folder, "node-2")

    def seconds() -> float:
        started = time.monotonic()
        get(folder, "node-2", f"/api/v1/blocks/{tip}", timeout=30)
        return time.monotonic() - started

    sandbox.break_("api-slow", folder)
    wait_until(15, lambda: seconds() > 1)
    sandbox.heal("api-slow", folder)
    wait_until(15, lambda: seconds() < 0.5)


@pytest.mark.parametrize(("fault", "part"), [("database-down", "postgres"), ("prometheus-down", "prometheus")])
def test_a_server_down(folder: Path, fault: str, part: str) -> None:
    state = sandbox.status(folder)
    assert state is not None
    if part in state["missing"]:
        with pytest.raises(SandboxError, match="is not part of this sandbox"):
            sandbox.break_(fault, folder)
        return
    sandbox.break_(fault, folder)
    assert condition(folder, part) == "ended"
    assert not accepts_connections(port(folder, part))
    sandbox.heal(fault, folder)
    assert condition(folder, part) == "running"
    assert accepts_connections(port(folder, part))


def test_one_fault_a_part_and_no_fault_twice(folder: Path) -> None:
    sandbox.break_("node-hung", folder)
    with pytest.raises(SandboxError, match="is already broken"):
        sandbox.break_("node-hung", folder)
    with pytest.raises(SandboxError, match="node-2 is already broken by node-hung"):
        sandbox.break_("node-stopped", folder)
    sandbox.break_("height-frozen", folder)
    assert [fault["name"] for fault in sandbox.known_faults(folder) if fault["broken"]] == [
        "node-hung",
        "height-frozen",
    ]
    assert sandbox.heal(folder=folder) == ["height-frozen", "node-hung"]
    assert sandbox.heal(folder=folder) == []


def test_an_unknown_fault_is_refused_with_the_known_names(folder: Path) -> None:
    with pytest.raises(SandboxError, match="node-stopped"):
        sandbox.break_("everything", folder)
    with pytest.raises(SandboxError, match="unknown fault"):
        sandbox.heal("everything", folder)


def test_a_frozen_part_goes_down_too(tmp_path: Path) -> None:
    sandbox.up(tmp_path / "run", bound=True)
    sandbox.break_("node-hung", tmp_path / "run")
    started = time.monotonic()
    assert sandbox.down(tmp_path / "run")
    assert time.monotonic() - started < stretched(30)
    assert not (tmp_path / "run").exists()
