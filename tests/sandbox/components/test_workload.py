"""The workload: it uses every part, and continues after an outage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil
import psycopg

from tests.support.started import eventually
from xai_runbook import sandbox as sandboxes
from xai_runbook.sandbox.supervisor.component import START_HEIGHT

State = dict[str, Any]


def newest_block(folder: Path, state: State) -> int:
    """Return the newest height in the database, whose blocks must each name their predecessor."""
    database = state["overlay"]["database"]
    with psycopg.connect(
        host=database["host"],
        port=database["port"],
        dbname="xai_blockchain",
        user="xai_app",
        password=(folder / "secrets" / "app.password").read_text().strip(),
        connect_timeout=30,
    ) as connection:
        row = connection.execute(
            "SELECT max(height), bool_and(follows) FROM (SELECT height,"
            " previous_hash = lag(hash, 1, previous_hash) OVER (ORDER BY height) AS follows FROM blocks) AS chain"
        ).fetchone()
    assert row
    assert row[1]
    return int(row[0])


def sessions(folder: Path, state: State) -> set[str]:
    """Return the application names of the client sessions in the database, as the monitor sees them."""
    database = state["overlay"]["database"]
    with psycopg.connect(
        host=database["host"],
        port=database["port"],
        dbname="xai_blockchain",
        user="xai_monitor",
        password=(folder / "secrets" / "monitor.password").read_text().strip(),
        connect_timeout=30,
    ) as connection:
        rows = connection.execute("SELECT DISTINCT application_name FROM pg_stat_activity WHERE usename = 'xai_app'")
        return {str(row[0]) for row in rows}


def height(state: State, node: int) -> int:
    with urlopen(f"{state['overlay']['nodes']['node'][node]['url']}/api/v1/blockchain/info", timeout=30) as answer:
        return int(json.load(answer)["block_height"])


def indexed(folder: Path, state: State) -> bool:
    """Return whether the database has nearly all of the chain."""
    try:
        return START_HEIGHT < height(state, 2) - 8 <= newest_block(folder, state)
    except psycopg.OperationalError:
        return False


def test_it_survives_outages_of_the_database_and_of_a_node(tmp_path: Path) -> None:
    folder = tmp_path / "sandbox"
    state = sandboxes.up(folder, bound=True)
    try:
        workload = psutil.Process(state["parts"]["workload"]["pid"])
        eventually(lambda: indexed(folder, state))
        eventually(lambda: sessions(folder, state) == {"xai-explorer", "xai-indexer"})
        sandboxes.break_("database-down", folder)
        sandboxes.break_("node-hung", folder)
        before = height(state, 0)
        eventually(lambda: height(state, 0) > before + 8)  # about ten seconds: requests to the hung node time out
        assert workload.is_running()
        sandboxes.heal(None, folder)
        eventually(lambda: indexed(folder, state) and newest_block(folder, state) > before + 3)
        eventually(lambda: sessions(folder, state) == {"xai-explorer", "xai-indexer"})
        cpu_seconds = sum(workload.cpu_times()[:2])
        age = height(state, 0) - START_HEIGHT
        assert cpu_seconds < 3 + age * 1.2 * 0.15, "about 5 % of a core"
        assert not (folder / "logs" / "workload.log").read_bytes()
    finally:
        sandboxes.down(folder)
