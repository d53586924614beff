"""Process of a simulated node: ``python -m xai_runbook.sandbox.node --folder FOLDER --name node-1 ...``."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
from pathlib import Path

from xai_runbook.sandbox.node.api import serve
from xai_runbook.sandbox.node.node import SimulatedNode


def main() -> None:
    """Run the node until SIGTERM."""
    parser = argparse.ArgumentParser(prog="xai-node", description="A simulated XAI node.")
    parser.add_argument("--folder", type=Path, required=True, help="folder of chain/, control.json and node.log")
    parser.add_argument("--name", required=True, help="name of this node")
    parser.add_argument("--port", type=int, required=True, help="port of the HTTP API, on loopback")
    parser.add_argument("--peer-port", type=int, required=True, help="port for connections from peers, on loopback")
    parser.add_argument("--dial", type=json.loads, default={}, help='peers to connect to, as {"name": port}')
    parser.add_argument("--miner", action="store_true", help="mine new blocks")
    options = parser.parse_args()
    node = SimulatedNode(options.folder, options.name, options.peer_port, options.dial, miner=options.miner)
    asyncio.run(run(node, options.port))


async def run(node: SimulatedNode, port: int) -> None:
    """Serve the API and run the node's loops until SIGTERM. Raises OSError if a port is taken."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    server = serve(node, port)
    node.log("info", "started", port=port, height=node.chain.height, miner=node.miner)
    loops = [node.watch_control(), node.follow(), *([node.mine()] if node.miner else [])]
    tasks = [asyncio.ensure_future(loop) for loop in loops]
    stop = asyncio.ensure_future(ended.wait())
    done, _ = await asyncio.wait([stop, *tasks], return_when=asyncio.FIRST_COMPLETED)
    node.log("info", "stopping", height=node.chain.height)
    server.stop()
    for task in done:
        task.result()  # re-raises the error of a loop that failed


if __name__ == "__main__":
    main()
