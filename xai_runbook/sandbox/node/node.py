"""A simulated XAI node: its state and its loops. ``__main__`` runs it together with the HTTP API in ``api``.

Only the chain's content and rules are simulated. The rest is real: a process with its own store, log and metrics, an
HTTP API, and TCP connections to its peers, from which it fetches blocks. Every answer contains ``"simulated": true``.
"""

from __future__ import annotations

import asyncio
import json
import logging
import logging.handlers
import random
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from xai_runbook.sandbox.node.chain import Block, Chain, follows, mine, seeded_blocks
from xai_runbook.sandbox.node.network import BATCH, Network
from xai_runbook.sandbox.supervisor.component import NODES, REFERENCE, Layout, Part
from xai_runbook.system import child

VERSION = "1.4.2-sim"
BLOCK_SECONDS = (0.8, 1.6)
"""The miner waits a random time between these two, 1.2 s on average."""

SYNCED_WITHIN = 10
"""A node is synced while it has a peer and is at most this many blocks behind the best height."""

MEMPOOL_SIZE = 5_000
TRANSACTIONS_PER_BLOCK = 40
CONTROL_SECONDS = 0.2
"""How often ``control.json`` is read."""


@dataclass(frozen=True)
class Control:
    """Faults of a running node, set by the supervisor through ``control.json`` in the node's folder."""

    mining: bool = True
    peers: bool = True
    intake_blocks_per_second: float | None = None
    read_delay_seconds: float = 0.0
    clock_ahead_seconds: float = 0.0


class SimulatedNode:
    """One node: its chain, peers and pending transactions, and the loops that drive them."""

    def __init__(self, folder: Path, name: str, peer_port: int, dial: dict[str, int], *, miner: bool) -> None:
        from xai_runbook.sandbox.node.metrics import NodeMetrics

        self.folder, self.name, self.miner = folder, name, miner
        self.control = Control()
        self.mempool: dict[str, None] = {}
        self._logger = json_log(folder / "node.log")
        self.chain = Chain(folder / "chain")
        self.network = Network(name, VERSION, self.chain, peer_port, dial, self.log)
        self.network.on_transaction = self.add_transaction
        self.metrics = NodeMetrics(
            lambda: self.chain.height, lambda: self.network.best_height, lambda: len(self.network.peers), self.now
        )

    def now(self) -> float:
        """Return this node's clock in seconds since 1970, which is ``clock_ahead_seconds`` ahead."""
        return time.time() + self.control.clock_ahead_seconds

    def log(self, level: str, event: str, **facts: Any) -> None:
        """Write one structured line to the node's log."""
        at = datetime.fromtimestamp(self.now(), UTC).isoformat(timespec="milliseconds")
        line = {"at": at, "level": level, "node": self.name}
        self._logger.info(json.dumps({**line, "event": event, **facts}))

    @property
    def is_synced(self) -> bool:
        """Whether the node has a peer and is close to the best height."""
        return bool(self.network.peers) and self.network.best_height - self.chain.height <= SYNCED_WITHIN

    def submit(self, transaction: dict[str, Any]) -> str:
        """Accept a new transaction, announce it to the peers and return its identifier. Errors: ValueError."""
        amount = transaction.get("amount")
        if not all(isinstance(transaction.get(key), str) for key in ("sender", "recipient")):
            raise ValueError("sender and recipient must be addresses")
        if not (isinstance(amount, int | float) and amount > 0):
            raise ValueError("amount must be a positive number")
        txid = sha256(json.dumps([transaction, time.time_ns()], sort_keys=True).encode()).hexdigest()
        self.add_transaction(txid)
        self.network.announce_transaction(txid)
        return txid

    def add_transaction(self, txid: str) -> None:
        """Keep a transaction until a block contains it; drop it if the mempool is full."""
        if txid not in self.mempool and len(self.mempool) < MEMPOOL_SIZE:
            self.mempool[txid] = None
            self.metrics.transactions.inc()
            self.metrics.mempool.set(len(self.mempool))

    async def read_block(self, height: int) -> Block | None:
        """Return the block from the store, with the latency of a disk plus ``read_delay_seconds``."""
        await asyncio.sleep(random.lognormvariate(-5.1, 0.6) + self.control.read_delay_seconds)  # median 6 ms
        return self.chain.read(height)

    def add_block(self, block: Block, origin: str) -> None:
        """Append the block, announce the new height, and remove its transactions from the mempool."""
        try:
            self.chain.append(block)
        except OSError as error:
            self.log("error", "block not stored", height=block.height, reason=str(error))
        for txid in block.transactions:
            self.mempool.pop(txid, None)
        self.metrics.blocks.labels(origin).inc()
        self.metrics.mempool.set(len(self.mempool))
        self.network.announce_height()
        self.log("info", "block", height=block.height, origin=origin, transactions=len(block.transactions))

    async def mine(self) -> None:
        """Mine forever, while mining is enabled and no peer is ahead."""
        while True:
            await asyncio.sleep(random.uniform(*BLOCK_SECONDS))
            if self.control.mining and self.chain.height >= self.network.best_height:
                chosen = list(self.mempool)[:TRANSACTIONS_PER_BLOCK]
                self.add_block(mine(self.chain.tip, self.name, chosen, self.now()), "mined")

    async def follow(self) -> None:
        """Fetch blocks from peers forever, at most ``intake_blocks_per_second``."""
        while True:
            await self.network.behind.wait()
            self.network.behind.clear()
            rate = self.control.intake_blocks_per_second
            for block in await self.network.request_blocks(BATCH if rate is None else 1):
                if follows(block, self.chain.tip):
                    self.add_block(block, "peer")
                elif block.height > self.chain.height + 1:
                    self.log("warning", "peers no longer keep the next block", held=self.chain.height)
                    self.chain.clear()
                    self.add_block(block, "peer")
                else:
                    self.log("error", "block refused", height=block.height)
                    break
            if rate is not None:
                await self._pause(rate)
            if self.chain.height < self.network.best_height and self.network.peers:
                self.network.behind.set()
                await asyncio.sleep(0.02)  # no busy loop if the peer has no block

    async def _pause(self, rate: float) -> None:
        """Wait for the time of one block at that rate; return at once when the rate changes."""
        end = time.monotonic() + (1 / rate if rate > 0 else 3600)
        while time.monotonic() < end and self.control.intake_blocks_per_second == rate:
            await asyncio.sleep(CONTROL_SECONDS / 2)

    async def watch_control(self) -> None:
        """Apply ``control.json`` forever: open or close the peer network, change rates and delays."""
        path, read_at = self.folder / "control.json", 0
        while True:
            with suppress(OSError, ValueError, TypeError):  # missing or half written: read again shortly
                changed = path.stat().st_mtime_ns
                if changed != read_at:
                    changes = json.loads(path.read_bytes())
                    known = {field.name for field in fields(Control)}
                    self.control = Control(**{key: value for key, value in changes.items() if key in known})
                    read_at = changed
                    self.log("info", "control", **changes)
            if self.control.peers != self.network.is_open:
                await (self.network.open() if self.control.peers else self.network.close())
            await asyncio.sleep(CONTROL_SECONDS)


def json_log(path: Path) -> logging.Logger:
    """Return a logger that writes bare lines to the file, which is rotated at 4 MB."""
    logger = logging.getLogger(f"xai-node {path}")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    if not logger.handlers:
        logger.addHandler(logging.handlers.RotatingFileHandler(path, maxBytes=4_000_000, backupCount=1))
    return logger


def parts(layout: Layout) -> list[Part]:
    """Return the nodes as parts: three of the runbook's, of which the first mines, and the reference node."""
    started = time.time()
    return [_part(layout, name, started) for name in (*NODES, REFERENCE)]


def _part(layout: Layout, name: str, started: float) -> Part:
    folder = layout.part_folder(name)
    order = (REFERENCE, *NODES)
    dial = {peer: layout.ports[f"{peer}-peer"] for peer in order[order.index(name) + 1 :]}  # one connection per pair

    def prepare() -> None:
        if not list(folder.glob("chain*")):  # nor if a fault has moved the store away
            Chain.create(folder / "chain", seeded_blocks(started))

    def ready() -> bool:
        from xai_runbook.sandbox import loopback

        return loopback.answers_ok(f"{layout.url(name)}/health")

    return Part(
        name=name,
        argv=[
            *child.module_argv("xai_runbook.sandbox.node"),
            "--folder", str(folder), "--name", name,
            "--port", str(layout.ports[name]), "--peer-port", str(layout.ports[f"{name}-peer"]),
            "--dial", json.dumps(dial), *(["--miner"] if name == NODES[0] else []),
        ],
        ready=ready,
        death_signal=signal.SIGKILL,
        prepare=prepare,
    )  # fmt: skip
