"""A simulated XAI node: its state and its loops. ``__main__`` runs it, together with the HTTP API in ``api``.

Simulated are the chain's content and its rules. The rest is real: a process with its own store, log and metrics, an
HTTP API, TCP connections to its peers, blocks that it has to fetch. Everything it answers says ``"simulated": true``.
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
"""The miner waits a time between these two: 1.2 s a block on average."""

SYNCED_WITHIN = 10
"""A node calls itself synced while it is at most so many blocks behind the best height heard, and has a peer."""

MEMPOOL_SIZE = 5_000
TRANSACTIONS_PER_BLOCK = 40
CONTROL_SECONDS = 0.2


@dataclass(frozen=True)
class Control:
    """What the supervisor asks of a running node through ``control.json`` in its folder."""

    mining: bool = True
    peers: bool = True
    intake_blocks_per_second: float | None = None
    read_delay_seconds: float = 0.0
    clock_ahead_seconds: float = 0.0


class SimulatedNode:
    """One node: its chain, its peers, its waiting transactions, and the loops that keep them going."""

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
        """What this node takes the time to be: seconds since 1970, right unless ``clock_ahead_seconds`` says more."""
        return time.time() + self.control.clock_ahead_seconds

    def log(self, level: str, event: str, **facts: Any) -> None:
        """Writes one structured line to the node's log."""
        at = datetime.fromtimestamp(self.now(), UTC).isoformat(timespec="milliseconds")
        line = {"at": at, "level": level, "node": self.name}
        self._logger.info(json.dumps({**line, "event": event, **facts}))

    @property
    def is_synced(self) -> bool:
        """Whether the node has a peer and is close to the best height it heard of."""
        return bool(self.network.peers) and self.network.best_height - self.chain.height <= SYNCED_WITHIN

    def submit(self, transaction: dict[str, Any]) -> str:
        """The identifier of a new transaction, which the peers are told of. Raises ValueError for a malformed one."""
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
        """Keeps a transaction until a block holds it; when too many wait, the new one is dropped."""
        if txid not in self.mempool and len(self.mempool) < MEMPOOL_SIZE:
            self.mempool[txid] = None
            self.metrics.transactions.inc()
            self.metrics.mempool.set(len(self.mempool))

    async def read_block(self, height: int) -> Block | None:
        """The block from the store, which takes as long as a disk would, or as ``read_delay_seconds`` asks."""
        await asyncio.sleep(random.lognormvariate(-5.1, 0.6) + self.control.read_delay_seconds)  # median 6 ms
        return self.chain.read(height)

    def add_block(self, block: Block, origin: str) -> None:
        """Makes the block the tip, tells the peers, and forgets the transactions in it."""
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
        """Mines for ever, while it may and holds the best height heard."""
        while True:
            await asyncio.sleep(random.uniform(*BLOCK_SECONDS))
            if self.control.mining and self.chain.height >= self.network.best_height:
                chosen = list(self.mempool)[:TRANSACTIONS_PER_BLOCK]
                self.add_block(mine(self.chain.tip, self.name, chosen, self.now()), "mined")

    async def follow(self) -> None:
        """Fetches blocks that peers have, for ever, as fast as ``intake_blocks_per_second`` allows."""
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
                await asyncio.sleep(0.02)  # a peer that answers with nothing is not asked in a busy loop

    async def _pause(self, rate: float) -> None:
        """The time a block takes at that pace; ends at once when another pace is asked for."""
        end = time.monotonic() + (1 / rate if rate > 0 else 3600)
        while time.monotonic() < end and self.control.intake_blocks_per_second == rate:
            await asyncio.sleep(CONTROL_SECONDS / 2)

    async def watch_control(self) -> None:
        """Watches ``control.json`` for ever and opens or closes the peer network as it says."""
        path, read_at = self.folder / "control.json", 0
        while True:
            with suppress(OSError, ValueError, TypeError):  # none yet, or half written: asked again in a moment
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
    """A logger that writes bare lines to the file, which is turned over at 4 MB."""
    logger = logging.getLogger(f"xai-node {path}")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    if not logger.handlers:
        logger.addHandler(logging.handlers.RotatingFileHandler(path, maxBytes=4_000_000, backupCount=1))
    return logger


def parts(layout: Layout) -> list[Part]:
    """The network's nodes: three of the runbook's, of which the first mines, and the reference that others run."""
    started = time.time()
    return [_part(layout, name, started) for name in (*NODES, REFERENCE)]


def _part(layout: Layout, name: str, started: float) -> Part:
    folder = layout.part_folder(name)
    order = (REFERENCE, *NODES)
    dial = {peer: layout.ports[f"{peer}-peer"] for peer in order[order.index(name) + 1 :]}  # one connection a pair

    def prepare() -> None:
        if not list(folder.glob("chain*")):  # also not where a fault has moved the store away
            Chain.create(folder / "chain", seeded_blocks(started))

    def ready() -> bool:
        from xai_runbook.sandbox import loopback

        return loopback.answers_ok(f"{layout.url(name)}/health")

    return Part(
        name=name,
        argv=[
            *child.python("xai_runbook.sandbox.node"),
            "--folder", str(folder), "--name", name,
            "--port", str(layout.ports[name]), "--peer-port", str(layout.ports[f"{name}-peer"]),
            "--dial", json.dumps(dial), *(["--miner"] if name == NODES[0] else []),
        ],
        ready=ready,
        death_signal=signal.SIGKILL,
        prepare=prepare,
    )  # fmt: skip
