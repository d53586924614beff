"""The HTTP API of a simulated node, on tornado: the runbook's two routes, blocks, transactions, metrics and health."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tornado.httpserver import HTTPServer
from tornado.web import Application, RequestHandler

if TYPE_CHECKING:
    from xai_runbook.sandbox.node.node import SimulatedNode

NETWORK = "xai-sandbox"
UNCOUNTED = ("/metrics", "/health")
"""Polled by machines every second; counted, they would outnumber real traffic."""


def serve(node: SimulatedNode, port: int, host: str = "127.0.0.1") -> HTTPServer:
    """Start the HTTP server and return it. Raises OSError if the port is taken."""
    routes = {
        "/api/v1/blockchain/info": BlockchainInfo,
        "/api/v1/network/info": NetworkInfo,
        "/api/v1/blocks/{height}": BlockByHeight,
        "/api/v1/transactions": Transactions,
        "/metrics": NodeApiMetrics,
        "/health": Health,
    }
    handlers: list[Any] = [
        (route.replace("{height}", r"(\d{1,15})") + "$", handler, {"node": node, "route": route})
        for route, handler in routes.items()
    ]
    application = Application(
        handlers,
        default_handler_class=NoSuchRoute,
        default_handler_args={"node": node, "route": "unknown"},
        log_function=count_request,
    )
    server = HTTPServer(application, max_body_size=64_000, idle_connection_timeout=60)
    server.listen(port, host)
    return server


def count_request(handler: RequestHandler) -> None:
    """Count and log one answered request. Tornado calls this instead of its own access log."""
    if not isinstance(handler, NodeRequest) or handler.route in UNCOUNTED:
        return
    request, status, seconds = handler.request, handler.get_status(), handler.request.request_time()
    method = request.method or "unknown"
    handler.node.metrics.count_request(method, handler.route, status, seconds)
    level = "error" if status >= 500 else "info"
    handler.node.log(
        level, "request", method=method, path=request.path[:200], status=status, duration_seconds=round(seconds, 4)
    )


def iso_time(seconds: float) -> str:
    """Return a time as ISO 8601 in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


class NodeRequest(RequestHandler):
    """Base of all requests: the node, the route's name for the metrics, JSON answers and JSON errors."""

    node: SimulatedNode
    route: str

    def initialize(self, node: SimulatedNode, route: str) -> None:
        """Store the arguments that the route was registered with."""
        self.node, self.route = node, route

    def respond(self, body: dict[str, Any], status: int = 200) -> None:
        """Write the body as JSON, labelled as simulated."""
        self.set_status(status)
        self.write({**body, "simulated": True})

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Write an error as JSON, with the class of its cause, which a production API would hide."""
        cause = kwargs.get("exc_info", (None, None))[1]
        self.finish({"error": self._reason, "cause": type(cause).__name__ if cause else None, "simulated": True})

    def log_exception(self, typ: Any, value: BaseException | None, tb: Any) -> None:
        """Write the cause to the node's log instead of a traceback to stderr."""
        self.node.log(
            "error", "request failed", path=self.request.path[:200], reason=f"{type(value).__name__}: {value}"
        )


class BlockchainInfo(NodeRequest):
    """Sync status and the newest block."""

    def get(self) -> None:
        """Answer from memory."""
        node, tip = self.node, self.node.chain.tip
        self.respond(
            {
                "is_synced": node.is_synced,
                "block_height": tip.height,
                "best_block_hash": tip.hash,
                "latest_block_at": iso_time(tip.mined_at),
                "network_best_height": node.network.best_height,
                "mempool_transactions": len(node.mempool),
                "network": NETWORK,
                "node": node.name,
            }
        )


class NetworkInfo(NodeRequest):
    """The connected peers."""

    def get(self) -> None:
        """Answer from memory, peers sorted by name."""
        peers = sorted(self.node.network.peers.values(), key=lambda peer: peer.name)
        self.respond(
            {
                "peer_count": len(peers),
                "peers": [
                    {
                        "name": peer.name,
                        "address": peer.address,
                        "direction": peer.direction,
                        "height": peer.height,
                        "version": peer.version,
                        "last_seen_at": iso_time(peer.last_seen_at),
                    }
                    for peer in peers
                ],
                "network": NETWORK,
                "node": self.node.name,
            }
        )


class BlockByHeight(NodeRequest):
    """One block from the store."""

    async def get(self, height: str) -> None:
        """Answer 404 for a height that is not stored, 500 if the store cannot be read."""
        block = await self.node.read_block(int(height))
        if block is None:
            self.respond({"error": "no such block", "height": int(height)}, 404)
            return
        body = {name: getattr(block, name) for name in ("height", "hash", "parent_hash", "miner", "size_bytes")}
        self.respond({**body, "mined_at": iso_time(block.mined_at), "transactions": list(block.transactions)})


class Transactions(NodeRequest):
    """Submission of transactions."""

    def post(self) -> None:
        """Answer 202 with the transaction's identifier, 400 for an invalid transaction."""
        try:
            transaction = json.loads(self.request.body)
            txid = self.node.submit(transaction if isinstance(transaction, dict) else {})
        except ValueError as error:
            self.respond({"error": str(error)}, 400)
            return
        self.respond({"txid": txid}, 202)


class NodeApiMetrics(NodeRequest):
    """Metrics for Prometheus."""

    def get(self) -> None:
        """Answer in Prometheus' text format."""
        self.set_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.write(self.node.metrics.text())


class Health(NodeRequest):
    """Liveness of the process."""

    def get(self) -> None:
        """Answer 200, whatever the state of the chain."""
        self.respond({"status": "serving"})


class NoSuchRoute(NodeRequest):
    """Any other route."""

    def prepare(self) -> None:
        """Answer 404 to every method."""
        self.set_status(404)
        self.finish({"error": "no such route", "simulated": True})
