"""The simulated nodes: a real network of four processes, and each of its faults."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from urllib.request import Request, urlopen

import pytest

from tests.support.started import eventually, start, started
from xai_runbook.sandbox.node import node
from xai_runbook.sandbox.node.chain import BLOCKS_KEPT, Chain, follows, mine, seeded_blocks
from xai_runbook.sandbox.node.network import Network
from xai_runbook.sandbox.supervisor.component import NODES, REFERENCE, START_HEIGHT, Layout, free_ports, seed_hash

ALL = (*NODES, REFERENCE)


class Net:
    """A running network and requests to its nodes."""

    def __init__(self, layout: Layout, running: dict[str, subprocess.Popen[bytes]]) -> None:
        self.layout, self.running = layout, running

    def get(self, name: str, path: str) -> dict[str, Any]:
        with urlopen(f"{self.layout.url(name)}{path}", timeout=30) as answer:
            body = json.load(answer)
        assert isinstance(body, dict)
        return body

    def height(self, name: str) -> int:
        return int(self.get(name, "/api/v1/blockchain/info")["block_height"])

    def peers(self, name: str) -> int:
        return int(self.get(name, "/api/v1/network/info")["peer_count"])

    def metrics(self, name: str) -> str:
        with urlopen(f"{self.layout.url(name)}/metrics", timeout=30) as answer:
            return str(answer.read().decode())

    def control(self, name: str, **changes: Any) -> None:
        (self.layout.part_folder(name) / "control.json").write_text(json.dumps(changes))

    def in_sync(self) -> bool:
        """Return whether all nodes are synced and connected to each other."""
        heights = [self.height(name) for name in ALL]
        return max(heights) - min(heights) <= 2 and all(self.peers(name) == 3 for name in ALL)


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    layout = Layout(tmp_path_factory.mktemp("net"), tmp_path_factory.mktemp("cache"), free_ports())
    with started(layout, node.parts(layout)) as running:
        network = Net(layout, running)
        eventually(network.in_sync)
        yield network


@pytest.fixture(autouse=True)
def _healed(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "net" in request.fixturenames:
        eventually(request.getfixturevalue("net").in_sync)


def test_blocks_advance_and_reach_every_node(net: Net) -> None:
    before = net.height("node-1")
    assert before >= START_HEIGHT
    eventually(lambda: net.height("node-3") >= before + 2 and net.height("mainnet") >= before + 2)
    assert (
        net.get("node-2", f"/api/v1/blocks/{before}")["hash"] == net.get("node-1", f"/api/v1/blocks/{before}")["hash"]
    )


def test_seeded_blocks_match_the_database(net: Net) -> None:
    block = net.get("node-2", f"/api/v1/blocks/{START_HEIGHT}")
    assert block["hash"] == seed_hash(START_HEIGHT)
    assert net.get("node-2", f"/api/v1/blocks/{START_HEIGHT + 1}")["parent_hash"] == block["hash"]


def test_answers_say_that_they_are_simulated(net: Net) -> None:
    eventually(net.in_sync)
    info, network = net.get("node-1", "/api/v1/blockchain/info"), net.get("node-1", "/api/v1/network/info")
    assert info["simulated"] is True
    assert info["is_synced"] is True
    assert network["simulated"] is True
    assert {peer["name"] for peer in network["peers"]} == {"node-2", "node-3", "mainnet"}
    assert {"address", "direction", "height", "version", "last_seen_at"} <= set(network["peers"][0])


def test_a_transaction_is_mined(net: Net) -> None:
    body = json.dumps({"sender": "xai1a", "recipient": "xai1b", "amount": 1.5}).encode()
    with urlopen(Request(f"{net.layout.url('node-3')}/api/v1/transactions", body), timeout=30) as answer:
        assert answer.status == 202
        txid = json.load(answer)["txid"]
    first = net.height("node-1") - 1

    def mined() -> bool:
        last = net.height("node-2")
        return any(txid in net.get("node-2", f"/api/v1/blocks/{at}")["transactions"] for at in range(first, last + 1))

    eventually(mined)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"sender": "a", "recipient": "b", "amount": -1}'])
def test_an_invalid_transaction_is_refused(net: Net, body: bytes) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urlopen(Request(f"{net.layout.url('node-1')}/api/v1/transactions", body, method="POST"), timeout=30)
    with refused.value as answer:
        assert answer.code == 400
        assert "simulated" in json.load(answer)


def test_metrics_have_the_runbooks_names_and_only_observed_labels(net: Net) -> None:
    net.get("node-1", "/api/v1/blockchain/info")
    text = net.metrics("node-1")
    for name in ("blockchain_height", "network_peers", "network_best_height", "process_resident_memory_bytes"):
        assert f"\n{name} " in text
    assert 'http_requests_total{method="GET",route="/api/v1/blockchain/info",status="200"}' in text
    assert 'http_request_duration_seconds_bucket{le="0.05",route="/api/v1/blockchain/info"}' in text
    assert 'status="5' not in text
    assert 'route="/metrics"' not in text
    assert "_created" not in text


def test_height_frozen(net: Net) -> None:
    net.control("node-1", mining=False)
    eventually(lambda: (net.layout.part_folder("node-1") / "node.log").read_text().count('"control"'))

    def frozen_height() -> int:
        """Return the height that all nodes kept for a few blocks' time, or 0."""
        before = net.height("node-1")
        time.sleep(3)
        return before if {net.height(name) for name in ALL} == {before} else 0

    frozen = eventually(frozen_height)
    net.control("node-1", mining=True)
    eventually(lambda: net.height("node-3") > frozen)


def test_peers_lost(net: Net) -> None:
    net.control("node-3", peers=False)
    eventually(
        lambda: net.peers("node-3") == 0 and all(net.peers(name) == 2 for name in ("node-1", "node-2", "mainnet"))
    )
    assert net.get("node-3", "/api/v1/blockchain/info")["is_synced"] is False
    net.control("node-3", peers=True)
    eventually(net.in_sync)


def test_sync_lag_and_recovery(net: Net) -> None:
    net.control("node-3", intake_blocks_per_second=0.1)
    eventually(lambda: net.height("mainnet") - net.height("node-3") > 4)
    eventually(lambda: net.peers("node-3") == 3)
    net.control("node-3", intake_blocks_per_second=None)
    eventually(net.in_sync)


def test_a_lost_store_causes_api_errors_and_loses_no_block(net: Net) -> None:
    store = net.layout.part_folder("node-2") / "chain"
    store.rename(store.with_name("moved"))
    height = net.height("node-2")
    try:
        with pytest.raises(urllib.error.HTTPError) as failed:
            net.get("node-2", f"/api/v1/blocks/{height}")
        with failed.value as answer:
            assert answer.code == 500
            assert json.load(answer)["cause"] == "FileNotFoundError"
        eventually(lambda: net.height("node-2") >= height + 2)
    finally:
        store.with_name("moved").rename(store)
    assert 'route="/api/v1/blocks/{height}",status="500"' in net.metrics("node-2")
    eventually(lambda: net.height("node-2") >= height + 4)
    assert net.get("node-2", f"/api/v1/blocks/{height + 2}")["height"] == height + 2
    assert "block not stored" in (net.layout.part_folder("node-2") / "node.log").read_text()


def test_api_slow(net: Net) -> None:
    net.control("node-2", read_delay_seconds=0.7)

    def seconds() -> float:
        started = time.monotonic()
        net.get("node-2", f"/api/v1/blocks/{START_HEIGHT}")
        return time.monotonic() - started

    eventually(lambda: seconds() >= 0.7)
    net.control("node-2", read_delay_seconds=0)
    eventually(lambda: seconds() < 0.5)


def test_a_hung_node_loses_its_peers_and_recovers(net: Net) -> None:
    os.kill(net.running["node-2"].pid, signal.SIGSTOP)
    try:
        with pytest.raises(OSError, match="timed out"), urlopen(f"{net.layout.url('node-2')}/health", timeout=1):
            pass
        eventually(lambda: net.peers("node-1") == 2)
    finally:
        os.kill(net.running["node-2"].pid, signal.SIGCONT)
    eventually(net.in_sync)


def test_a_stopped_node_comes_back_with_its_chain_and_syncs(net: Net) -> None:
    part = {part.name: part for part in node.parts(net.layout)}["node-2"]
    net.running["node-2"].terminate()
    assert net.running["node-2"].wait(30) == 0
    stopped_at = net.height("node-1")
    eventually(lambda: net.peers("node-1") == 2 and net.height("node-1") > stopped_at + 2)
    assert part.prepare
    part.prepare()
    start(net.layout, part, net.running)
    eventually(part.ready)
    eventually(net.in_sync)


def test_a_node_too_far_behind_starts_a_new_chain(net: Net) -> None:
    part = {part.name: part for part in node.parts(net.layout)}["node-2"]
    net.running["node-2"].terminate()
    net.running["node-2"].wait(30)
    store = net.layout.part_folder("node-2") / "chain"
    shutil.rmtree(store)
    Chain.create(store, [replace(block, height=block.height - 9_000) for block in seeded_blocks(1_800_000_000.0)])
    start(net.layout, part, net.running)
    eventually(net.in_sync)
    assert net.get("node-2", f"/api/v1/blocks/{net.height('node-2')}")["height"] > START_HEIGHT
    with pytest.raises(urllib.error.HTTPError) as gone:
        net.get("node-2", f"/api/v1/blocks/{START_HEIGHT - 9_000}")
    gone.value.close()
    assert gone.value.code == 404


@pytest.mark.parametrize(
    "line", [b"GET / HTTP/1.1", b"5", b"{}", b'{"type": "new"}', b'{"type": "height", "height": "x"}']
)
def test_an_invalid_peer_message_closes_the_connection(net: Net, line: bytes) -> None:
    with socket.create_connection(("127.0.0.1", net.layout.ports["node-1-peer"]), timeout=60) as stranger:
        stranger.sendall(line + b"\n")
        stranger.shutdown(socket.SHUT_WR)
        received = b""
        while piece := stranger.recv(4096):
            received += piece
    assert json.loads(received.splitlines()[0])["type"] == "hello"
    eventually(lambda: net.peers("node-1") == 3)


def test_the_log_is_one_json_object_a_line(net: Net) -> None:
    lines = (net.layout.part_folder("node-1") / "node.log").read_text().splitlines()
    assert {"at", "level", "node", "event"} <= set(json.loads(lines[-1]))
    assert any(json.loads(line)["event"] == "block" for line in lines)


def test_a_store_survives_a_partial_line(tmp_path: Path) -> None:
    Chain.create(tmp_path / "chain", seeded_blocks(1_800_000_000.0))
    chain = Chain(tmp_path / "chain")
    chain.append(mine(chain.tip, "m", ["t"], 1_800_000_001.0))
    newest = max((tmp_path / "chain").glob("*.jsonl"), key=lambda path: int(path.stem))
    with open(newest, "a") as file:
        file.write('{"height":120')
    again = Chain(tmp_path / "chain")
    assert again.tip == chain.tip
    again.append(mine(again.tip, "m", [], 1_800_000_002.0))
    assert Chain(tmp_path / "chain").tip == again.tip


def test_the_store_is_pruned(tmp_path: Path) -> None:
    Chain.create(tmp_path / "chain", seeded_blocks(1_800_000_000.0))
    chain = Chain(tmp_path / "chain")
    for _ in range(BLOCKS_KEPT + 200):
        chain.append(mine(chain.tip, "m", [], chain.tip.mined_at + 1))
    assert chain.read(START_HEIGHT) is None
    assert chain.recent(START_HEIGHT, 1)[0].height == chain.height - BLOCKS_KEPT + 1
    assert len(list((tmp_path / "chain").iterdir())) <= BLOCKS_KEPT // 100 + 1
    assert chain.read(chain.height) == chain.tip


def test_invalid_blocks_are_refused() -> None:
    tip = seeded_blocks(1_800_000_000.0)[-1]
    good = mine(tip, "m", ["t"], tip.mined_at + 1)
    assert follows(good, tip)
    assert not follows(mine(good, "m", [], good.mined_at + 1), tip)
    assert not follows(replace(good, transactions=("forged",)), tip)
    assert not follows(replace(good, hash="00" + "f" * 62), tip)


def test_the_network_closes_while_a_message_arrives(tmp_path: Path) -> None:
    """A lost cancellation would leave a connection open, and the node would ignore further faults."""
    Chain.create(tmp_path / "chain", seeded_blocks(1_800_000_000.0))

    async def closes() -> None:
        network = Network("a", "1", Chain(tmp_path / "chain"), 0, {}, lambda *_, **__: None)
        await network.open()
        reader = asyncio.StreamReader()
        network._start(network._talk(reader, Mock(get_extra_info=lambda _: ("127.0.0.1", 1)), "inbound"))
        while reader._waiter is None:  # type: ignore[attr-defined]
            await asyncio.sleep(0)
        reader.feed_data(b'{"type": "height", "height": 1}\n')
        await asyncio.sleep(0)  # the line is read, but its reader was not scheduled yet
        async with asyncio.timeout(2):
            await network.close()

    asyncio.run(closes())
