"""The peer protocol of simulated nodes: one TCP connection per pair, JSON lines, blocks on request.

A connection counts as a peer once both ends have sent hello. Each end announces its height with every new block and
once a second. An end that is silent for SILENCE_SECONDS (stopped, disconnected) is dropped, and the end that dialled
reconnects.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from xai_runbook.sandbox.node.chain import Block, Chain, from_dict

HOST = "127.0.0.1"
HEARTBEAT_SECONDS = 1.0
SILENCE_SECONDS = 4.0
REDIAL_SECONDS = 0.5
BATCH = 100
LINE_BYTES = 4 * 1024 * 1024

Log = Callable[..., None]


@dataclass
class Peer:
    """A node at the other end of a connection, and its last announcements."""

    name: str
    address: str
    direction: str
    version: str
    height: int
    last_seen_at: float
    writer: asyncio.StreamWriter
    answer: asyncio.Future[list[Block]] | None = field(default=None, repr=False)

    def send(self, **message: Any) -> None:
        """Queue one message. A peer that does not read is dropped for its silence, not waited for."""
        if not self.writer.is_closing():
            self.writer.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")


class Network:
    """A node's side of the peer network: a listener, the peers that it dials, and what they announce."""

    def __init__(self, name: str, version: str, chain: Chain, port: int, dial: Mapping[str, int], log: Log) -> None:
        """Create it without connecting. ``dial`` maps the peers that this node dials to their ports."""
        self.name, self.version, self.chain, self.port, self.dial, self.log = name, version, chain, port, dial, log
        self.peers: dict[str, Peer] = {}
        self.highest_announced = chain.height
        self.behind = asyncio.Event()
        self.on_transaction: Callable[[str], None] = lambda txid: None
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def best_height(self) -> int:
        """Highest height that this node holds or any peer has announced so far."""
        return max(self.highest_announced, self.chain.height)

    async def open(self) -> None:
        """Listen and start dialling. Raises OSError if the port is taken."""
        self._server = await asyncio.start_server(self._accept, HOST, self.port, limit=LINE_BYTES)
        for name, port in self.dial.items():
            self._start(self._keep_dialling(name, port))
        self._start(self._heartbeat())

    async def close(self) -> None:
        """Close the listener and every connection."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def is_open(self) -> bool:
        """Whether this node listens and dials."""
        return self._server is not None

    def announce_height(self) -> None:
        """Send the height of the newest block to every peer."""
        for peer in self.peers.values():
            peer.send(type="height", height=self.chain.height)

    def announce_transaction(self, txid: str) -> None:
        """Send a transaction's identifier to every peer."""
        for peer in self.peers.values():
            peer.send(type="transaction", txid=txid)

    async def request_blocks(self, count: int) -> list[Block]:
        """Return up to ``count`` next blocks from the highest peer; none if no peer is ahead or it does not answer."""
        peer = max(self.peers.values(), key=lambda peer: peer.height, default=None)
        if peer is None or peer.height <= self.chain.height:
            return []
        peer.answer = asyncio.get_running_loop().create_future()
        peer.send(type="get_blocks", first=self.chain.height + 1, count=min(count, BATCH))
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                return await peer.answer
        except TimeoutError:
            return []
        finally:
            peer.answer = None

    def _start(self, coroutine: Any) -> None:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _heartbeat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            self.announce_height()

    async def _keep_dialling(self, name: str, port: int) -> None:
        while True:
            try:
                reader, writer = await asyncio.open_connection(HOST, port, limit=LINE_BYTES)
            except OSError:
                pass  # the peer does not listen now; dial again
            else:
                await self._talk(reader, writer, "outbound")
            await asyncio.sleep(REDIAL_SECONDS)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._start(self._talk(reader, writer, "inbound"))

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: str) -> None:
        """Handle one connection from hello to its end."""
        host, port = writer.get_extra_info("peername")[:2]
        peer = Peer("", f"{host}:{port}", direction, "", 0, time.time(), writer)
        try:
            peer.send(type="hello", node=self.name, version=self.version, height=self.chain.height)
            while line := await _next_line(reader):
                self._handle(peer, json.loads(line))
        except (OSError, TimeoutError, ValueError, KeyError, TypeError) as error:
            self.log("warning", "peer lost", peer=peer.name or peer.address, reason=type(error).__name__)
        finally:
            if self.peers.get(peer.name) is peer:
                del self.peers[peer.name]
                self.log("info", "peer disconnected", peer=peer.name, peers=len(self.peers))
            writer.close()

    def _handle(self, peer: Peer, message: dict[str, Any]) -> None:
        peer.last_seen_at = time.time()
        match message["type"]:
            case "hello":
                peer.name, peer.version = str(message["node"]), str(message["version"])
                self.peers[peer.name] = peer
                self._update_height(peer, int(message["height"]))
                self.log("info", "peer connected", peer=peer.name, direction=peer.direction, peers=len(self.peers))
            case "height":
                self._update_height(peer, int(message["height"]))
            case "get_blocks":
                blocks = self.chain.recent(int(message["first"]), min(int(message["count"]), BATCH))
                peer.send(type="blocks", lines=[block.line() for block in blocks])
            case "blocks":
                if peer.answer is not None and not peer.answer.done():
                    peer.answer.set_result([from_dict(json.loads(line)) for line in message["lines"]])
            case "transaction":
                self.on_transaction(str(message["txid"]))
            case unknown:
                raise ValueError(f"unknown message {unknown!r}")

    def _update_height(self, peer: Peer, height: int) -> None:
        peer.height = height
        self.highest_announced = max(self.highest_announced, height)
        if height > self.chain.height:
            self.behind.set()


async def _next_line(reader: asyncio.StreamReader) -> bytes:
    """Return the next line, b"" at the end of the stream. Raises TimeoutError after SILENCE_SECONDS.

    Before Python 3.12, `asyncio.wait_for` loses a cancellation that comes together with the answer.
    """
    async with asyncio.timeout(SILENCE_SECONDS):
        return await reader.readline()
