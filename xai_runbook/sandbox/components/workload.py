"""The sandbox's workload: callers of the nodes' API, an explorer's database sessions, and its block indexer.

Run as ``python -m xai_runbook.sandbox.components.workload``. Every task survives an outage of a part.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xai_runbook.sandbox.supervisor.component import NODES, START_HEIGHT, Layout, Part
from xai_runbook.system import child
from xai_runbook.system.config_line import ConfigLine
from xai_runbook.system.files import write_atomically

if TYPE_CHECKING:
    import psycopg
    from tornado.httpclient import AsyncHTTPClient

ROUTES = {
    "/api/v1/blockchain/info": ("GET", 200, 0.7, 0.0012),
    "/api/v1/network/info": ("GET", 200, 0.3, 0.0012),
    "/api/v1/blocks/{height}": ("GET", 200, 1.1, 0.008),
    "/api/v1/transactions": ("POST", 202, 0.5, 0.0015),
}
"""Route: method, status, requests per second at each node, and median latency in seconds (for the history)."""

TIMEOUT_SECONDS = 6.0
MAX_PENDING = 15
"""Most requests that wait for one node, so that a hung node does not collect more and more."""

SESSIONS = 6
"""Sessions that the explorer keeps, until its configuration is changed."""

STATEMENT_SECONDS = (1.0, 3.0)
RETRY_SECONDS = 1.0
UNKNOWN_BLOCK_RATIO = 0.004
"""Share of block reads that ask for a block that does not exist yet."""

WALLETS = 1_500
STATEMENTS = (
    "SELECT height, hash, mined_at, transaction_count FROM blocks ORDER BY height DESC LIMIT 20",
    "SELECT * FROM blocks WHERE height = %(tip)s - %(n)s",
    "SELECT id, amount, fee, created_at FROM transactions WHERE block_height = %(tip)s - %(n)s ORDER BY position",
    "SELECT sum(amount) FROM utxos WHERE spent_by IS NULL AND address = %(wallet)s",
    "SELECT id, amount, created_at FROM transactions WHERE receiver = %(wallet)s ORDER BY created_at DESC LIMIT 50",
    "UPDATE wallets SET balance = balance WHERE address = %(wallet)s",
)
INSERT_BLOCK = """
INSERT INTO blocks (height, hash, previous_hash, mined_at, miner, difficulty, transaction_count, size_bytes)
VALUES (%(height)s, %(hash)s, %(parent_hash)s, %(mined_at)s, %(wallet)s, 48000, %(count)s, %(size_bytes)s)
ON CONFLICT DO NOTHING
"""
INSERT_TRANSACTION = """
INSERT INTO transactions (id, block_height, position, kind, sender, receiver, amount, fee, created_at)
VALUES (%(id)s, %(height)s, %(position)s, %(kind)s, %(sender)s, %(receiver)s, %(amount)s, %(fee)s, %(mined_at)s)
ON CONFLICT DO NOTHING
"""
INSERT_OUTPUT = """
INSERT INTO utxos (transaction_id, output_index, address, amount) VALUES (%(id)s, 0, %(receiver)s, %(amount)s)
ON CONFLICT DO NOTHING
"""


def wallet(number: int) -> str:
    """Return the address of a seeded wallet, 1 to WALLETS."""
    return "XAI" + sha256(f"wallet {number}".encode()).hexdigest()[:40]


class ApiCallers:
    """Callers of the nodes' API; ``tip`` is the newest height that any of them saw."""

    def __init__(self, nodes: Mapping[str, str], client: AsyncHTTPClient) -> None:
        self.nodes, self.client = nodes, client
        self.tip = START_HEIGHT
        self._pending = dict.fromkeys(nodes, 0)
        self._tasks: set[asyncio.Task[None]] = set()

    async def call(self, name: str, route: str) -> None:
        """Call one route of one node forever, at its rate, without waiting for earlier answers."""
        method, _, per_second, _ = ROUTES[route]
        while True:
            await asyncio.sleep(random.expovariate(per_second))
            if self._pending[name] < MAX_PENDING:
                task = asyncio.ensure_future(self._call_once(name, route, method))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def read(self, name: str, path: str, body: bytes | None = None) -> Any:
        """Return the decoded answer, or None after an error or without an answer."""
        from tornado.httpclient import HTTPClientError

        self._pending[name] += 1
        try:
            method = "GET" if body is None else "POST"
            answer = await self.client.fetch(
                self.nodes[name] + path, method=method, body=body, request_timeout=TIMEOUT_SECONDS, raise_error=False
            )
            return json.loads(answer.body) if answer.code < 300 else None
        except (HTTPClientError, OSError, ValueError):  # HTTPClientError includes timeouts
            return None
        finally:
            self._pending[name] -= 1

    async def _call_once(self, name: str, route: str, method: str) -> None:
        offset = 1_000 if random.random() < UNKNOWN_BLOCK_RATIO else -random.randrange(90)
        path = route.replace("{height}", str(self.tip + offset))
        answer = await self.read(name, path, transfer() if method == "POST" else None)
        if isinstance(answer, dict) and "block_height" in answer:
            self.tip = max(self.tip, int(answer["block_height"]))


def transfer() -> bytes:
    """Return the body of a new transaction between two seeded wallets."""
    sender, recipient = random.sample(range(1, WALLETS + 1), 2)
    amount = round(random.expovariate(0.1) + 0.01, 4)
    return json.dumps({"sender": wallet(sender), "recipient": wallet(recipient), "amount": amount}).encode()


class Explorer:
    """The application behind a block explorer: several sessions that read, and one that inserts new blocks."""

    def __init__(self, callers: ApiCallers, port: int, database: str, user: str, password_file: Path) -> None:
        self.callers, self.password_file = callers, password_file
        self.address = f"host=127.0.0.1 port={port} dbname={database} user={user} sslmode=disable connect_timeout=3"

    async def connect(self, application: str) -> psycopg.AsyncConnection[Any]:
        """Open a session. Raises psycopg.Error or OSError if there is no server or no password yet."""
        import psycopg

        password = self.password_file.read_text(encoding="ascii").strip()
        return await psycopg.AsyncConnection.connect(
            self.address, password=password, application_name=application, autocommit=True
        )

    async def keep_session(self, application: str, use: Any) -> None:
        """Keep one session open forever and call ``use`` with the connection."""
        import psycopg

        while True:
            with suppress(psycopg.Error, OSError):
                async with await self.connect(application) as connection:
                    await use(connection)
            await asyncio.sleep(RETRY_SECONDS)

    async def read(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """Run one random statement after the other, with pauses."""
        while True:
            await asyncio.sleep(random.uniform(*STATEMENT_SECONDS))
            parameters = {
                "tip": self.callers.tip,
                "n": random.randrange(200),
                "wallet": wallet(random.randint(1, WALLETS)),
            }
            statement = random.choice(STATEMENTS)
            await connection.execute(statement.encode(), parameters)

    async def index(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """Insert each new block of the chain with its transactions, one database transaction per block."""
        cursor = await connection.execute("SELECT max(height) FROM blocks")
        row = await cursor.fetchone()
        height = int(row[0]) if row and row[0] is not None else START_HEIGHT
        names = list(self.callers.nodes)
        while True:
            if height >= self.callers.tip:
                await asyncio.sleep(0.5)
                continue
            block = await self.callers.read(random.choice(names), f"/api/v1/blocks/{height + 1}")
            if block is None:
                await asyncio.sleep(0.5)
                continue
            async with connection.transaction():
                await write_block(connection, block)
            height += 1


async def write_block(connection: psycopg.AsyncConnection[Any], block: Mapping[str, Any]) -> None:
    """Insert one block from the nodes' API: its row, its coinbase, its transfers and their outputs."""
    miner = wallet(NODES.index(block["miner"]) + 1 if block["miner"] in NODES else 1)
    parameters = {**block, "wallet": miner, "count": 1 + len(block["transactions"])}
    await connection.execute(INSERT_BLOCK, parameters)
    coinbase = sha256(f"coinbase {block['hash']}".encode()).hexdigest()
    rows = [{"id": coinbase, "kind": "coinbase", "sender": None, "receiver": miner, "amount": 12.5, "fee": 0}]
    for txid in block["transactions"]:
        sender, receiver = (wallet(1 + int(part, 16) % WALLETS) for part in (txid[:8], txid[8:16]))
        amount = 0.01 + int(txid[16:24], 16) % 250_000 / 10_000
        rows.append(
            {"id": txid, "kind": "transfer", "sender": sender, "receiver": receiver, "amount": amount, "fee": 0.0005}
        )
    for position, row in enumerate(rows):
        row |= {"height": block["height"], "position": position, "mined_at": block["mined_at"]}
    async with connection.cursor() as cursor:
        await cursor.executemany(INSERT_TRANSACTION, rows)
        await cursor.executemany(INSERT_OUTPUT, rows)


async def run(
    nodes: Mapping[str, str], port: int, database: str, user: str, password_file: Path, sessions: int
) -> None:
    """Run all tasks forever."""
    from tornado.httpclient import AsyncHTTPClient
    from tornado.simple_httpclient import SimpleAsyncHTTPClient

    AsyncHTTPClient.configure(SimpleAsyncHTTPClient, max_clients=MAX_PENDING * (len(nodes) + 1))
    callers = ApiCallers(nodes, AsyncHTTPClient())
    explorer = Explorer(callers, port, database, user, password_file)
    await asyncio.gather(
        *(callers.call(name, route) for name in nodes for route in ROUTES),
        *(explorer.keep_session("xai-explorer", explorer.read) for _ in range(sessions)),
        explorer.keep_session("xai-indexer", explorer.index),
    )


def parts(layout: Layout) -> list[Part]:
    """Return the workload as a part, one small process; it needs no other part to start."""
    app = layout.role("app")
    argv = child.module_argv("xai_runbook.sandbox.components.workload")
    argv += ["--nodes", json.dumps({name: layout.url(name) for name in NODES})]
    argv += ["--database-port", str(layout.ports["postgres"]), "--database", layout.database]
    argv += ["--user", app.name, "--password-file", str(app.password_file), "--configuration", str(pool_file(layout))]

    def prepare() -> None:
        layout.part_folder("workload")
        if not pool_file(layout).exists():
            write_atomically(pool_file(layout), f"# the explorer's connection pool\npool_size = {SESSIONS}\n".encode())

    return [Part("workload", argv, lambda: True, signal.SIGKILL, prepare=prepare)]


def pool_file(layout: Layout) -> Path:
    """Return the explorer's configuration with the size of its pool; it is read when the workload starts."""
    return layout.folder / "workload" / "explorer.toml"


def overlay(layout: Layout) -> dict[str, Any]:
    """Return the database settings that describe the explorer's pool."""
    return {"pool": {"file": str(pool_file(layout)), "processes": 1}}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run as the workload's process until it is killed."""
    parser = argparse.ArgumentParser(description="Light load on a sandbox's nodes and database.")
    parser.add_argument("--nodes", type=json.loads, required=True, help='{"name": "URL"}')
    parser.add_argument("--database-port", type=int, required=True)
    parser.add_argument("--database", required=True)
    parser.add_argument("--user", required=True)
    parser.add_argument("--password-file", type=Path, required=True)
    parser.add_argument("--configuration", type=Path, required=True)
    options = parser.parse_args(arguments)
    sessions = int(ConfigLine.find(options.configuration.read_text(encoding="utf-8"), "pool_size").value)
    asyncio.run(
        run(options.nodes, options.database_port, options.database, options.user, options.password_file, sessions)
    )


if __name__ == "__main__":
    main()
