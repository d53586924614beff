"""Section 6 against the sandbox's nodes, and the texts of its findings."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest

from xai_runbook.clients.nodes import Nodes
from xai_runbook.environment import Environment
from xai_runbook.errors import NoData, NotConfigured
from xai_runbook.model.findings import Status
from xai_runbook.operations.troubleshooting import nodes as troubleshooting
from xai_runbook.settings import models


def test_sync_status(env: Environment) -> None:
    status = troubleshooting.sync_status(env.nodes)
    assert list(status.columns) == ["node", "synced", "height", "network_height", "lag_blocks", "error"]
    assert status["node"].tolist() == ["node-1", "node-2", "node-3"]
    assert status["synced"].all()
    assert (status["height"] > 1_000_000).all()
    assert status["lag_blocks"].between(-10, 10).all()
    finding = troubleshooting.check_network_lag(status, env.limits.troubleshooting.network_lag)
    assert finding.status is Status.OK, finding
    assert finding.summary.endswith("; alert when above 10 blocks")


def test_sync_claim(env: Environment) -> None:
    claims = troubleshooting.sync_claim(env.nodes)
    assert list(claims.columns) == ["node", "synced", "error"]
    assert claims["synced"].tolist() == [1.0, 1.0, 1.0]
    finding = troubleshooting.check_synced(claims, env.limits.troubleshooting.node_synced)
    assert (finding.status, finding.summary) == (Status.OK, "all 3 report that they are synced")


def test_a_node_that_says_it_is_not_synced_is_an_alert_without_any_reference(env: Environment) -> None:
    """Without this a report without a reference node is ok while a node reports is_synced: false."""
    claims = pd.DataFrame(
        {"node": ["a", "b", "c"], "synced": [1.0, 0.0, math.nan], "error": ["", "", "no answer in time"]}
    )
    finding = troubleshooting.check_synced(claims, env.limits.troubleshooting.node_synced)
    assert (finding.status, finding.targets) == (Status.ALERT, ("b",))
    assert finding.summary == "1 of 3 report that they are not synced: b; c did not report it: no answer in time"
    doubt = troubleshooting.check_synced(claims.drop(index=1), env.limits.troubleshooting.node_synced)
    assert (doubt.status, doubt.targets) == (Status.UNKNOWN, ("c",))
    assert troubleshooting.check_synced(claims.head(0), env.limits.troubleshooting.node_synced).status is Status.UNKNOWN


def test_network_height(env: Environment) -> None:
    (row,) = troubleshooting.network_height(env.nodes).to_dict("records")
    assert row["node"] == "mainnet"
    assert row["height"] > 1_000_000
    assert row["error"] == ""


def test_peer_status(env: Environment) -> None:
    status = troubleshooting.peer_status(env.nodes)
    assert status["peer_count"].tolist() == status["peers_listed"].tolist() == [3, 3, 3]
    assert all(len(peers.split(", ")) == 3 for peers in status["peers"])
    finding = troubleshooting.check_peers(status, env.limits.troubleshooting.node_peers)
    assert finding.status is Status.OK
    assert finding.summary == "3 peers connected on each of 3; alert when below 3 peers"


def nodes(**tables: Any) -> Nodes:
    node = [{"name": "node-1", "url": "http://127.0.0.1:1", "timeout": "500ms"}]
    return Nodes(models.NodesSettings.model_validate({"node": node} | tables))


def test_no_reference_is_not_configured() -> None:
    with pytest.raises(NotConfigured) as caught:
        troubleshooting.sync_status(nodes())
    assert caught.value.part == "nodes.reference"


def test_a_reference_that_does_not_answer() -> None:
    reference = [{"name": "mainnet", "url": "http://127.0.0.1:1", "timeout": "500ms"}]
    with pytest.raises(NoData, match="no reference node"):
        troubleshooting.sync_status(nodes(reference=reference))


def lags(**lag: float) -> pd.DataFrame:
    errors = ["the connection was refused" if math.isnan(blocks) else "" for blocks in lag.values()]
    return pd.DataFrame({"node": list(lag), "lag_blocks": list(lag.values()), "error": errors})


@pytest.mark.parametrize(
    ("lag", "status", "summary", "targets"),
    [
        ({"a": 0, "b": 2}, "ok", "at most 2 blocks behind the network (b); alert when above 10 blocks", ()),
        ({"a": 10, "b": 10}, "ok", "10 blocks behind the network on each of 2; alert when above 10 blocks", ()),
        ({"a": 1}, "ok", "1 block behind the network; alert when above 10 blocks", ()),
        ({"a": 11}, "alert", "11 blocks behind the network: above 10 blocks", ("a",)),
        ({"a": 0, "b": 25}, "alert", "25 blocks behind the network on b: above 10 blocks (1 of 2)", ("b",)),
        (
            {"a": 12, "b": 25, "c": math.nan},
            "alert",
            "25 blocks behind the network on b, 12 blocks on a: above 10 blocks (2 of 3); "
            "c could not be judged: the connection was refused",
            ("b", "a"),
        ),
        (
            {"a": 0, "b": math.nan},
            "unknown",
            "unknown, because b could not be judged: the connection was refused",
            ("b",),
        ),
        ({"a": -10}, "ok", "0 blocks behind the network; alert when above 10 blocks", ()),
        (
            {"a": 0, "b": -11},
            "unknown",
            "unknown, because b could not be judged: it is far ahead of every reference node, which may be stuck",
            ("b",),
        ),
        (
            {"a": math.nan, "b": math.nan},
            "unknown",
            "unknown, because none of 2 could be judged: the connection was refused",
            ("a", "b"),
        ),
    ],
)
def test_the_finding_for_each_lag(
    env: Environment, lag: dict[str, float], status: str, summary: str, targets: tuple[str]
) -> None:
    finding = troubleshooting.check_network_lag(lags(**lag), env.limits.troubleshooting.network_lag)
    assert (finding.status, finding.summary, finding.targets) == (status, summary, targets)


def test_two_numbers_of_peers_that_differ(env: Environment) -> None:
    status = pd.DataFrame({"node": ["a"], "peer_count": [math.nan], "error": ["it counts 4 peers and lists 3"]})
    finding = troubleshooting.check_peers(status, env.limits.troubleshooting.node_peers)
    assert finding.status is Status.UNKNOWN
    assert finding.summary == "unknown, because a could not be judged: it counts 4 peers and lists 3"
