"""Blockchain sync of the nodes, from their own HTTP API. Source: runbook, Blockchain Sync Issues."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from xai_runbook.errors import NoData, NotConfigured, inert
from xai_runbook.model.findings import Finding, Limit, Status, judge

if TYPE_CHECKING:
    from collections.abc import Callable

    from pandas import DataFrame

    from xai_runbook.clients.nodes import NodeFacts, Nodes


def sync_status(nodes: Nodes) -> DataFrame:
    """Return each node's height and how far it is behind the network.

    Columns: node, synced (bool, reported by the node), height (index of its newest block), network_height (of the
    highest reference node), lag_blocks (network_height - height; negative if the node is ahead), error.
    The runbook's `curl -s | jq` prints null and exits 0 if there is no answer.
    Errors: NotConfigured if the settings name no reference node; NoData if none answers.
    """
    # the reference nodes first: a block that arrives between the two requests must not look like a lag
    network = network_height(nodes)["height"].max()
    if math.isnan(network):
        raise NoData(
            "no reference node reports its height", on="nodes.reference", hint="are the reference nodes reachable?"
        )

    def row(facts: NodeFacts) -> dict[str, Any]:
        height = facts.values.get("height", math.nan)
        return {
            "synced": facts.values.get("synced"),
            "height": height,
            "network_height": network,
            "lag_blocks": network - height,
        }

    return _frame(nodes.facts("synced", "height"), row)


def sync_claim(nodes: Nodes) -> DataFrame:
    """Return whether each node reports that it is synced. Needs no reference node.

    Columns: node, synced (1, 0 or NaN), error.
    """
    return _frame(nodes.facts("synced"), lambda facts: {"synced": float(facts.values.get("synced", math.nan))})


def network_height(nodes: Nodes) -> DataFrame:
    """Return the height that each reference node reports.

    Columns: node, height (index of the newest block), seconds (duration of the request), error.
    Errors: NotConfigured if the settings name no reference node: the runbook's is a reserved example domain (RFC 2606).
    """
    answers = nodes.reference_facts("height")
    if not answers:
        raise NotConfigured(
            "no reference node is configured, so the network height is not checked",
            on="nodes.reference",
            hint="add a table [[nodes.reference]] with a node of another operator",
        )
    return _frame(answers, lambda facts: {"height": facts.values.get("height", math.nan), "seconds": facts.seconds})


def peer_status(nodes: Nodes) -> DataFrame:
    """Return the peers that each node counts and lists, itself excluded.

    Columns: node, peer_count (as the node counts them), peers_listed (length of its list), peers (addresses, separated
    by commas), error. If the two numbers differ, peer_count is NaN and error says so: nothing shows which one is right.
    """

    def row(facts: NodeFacts) -> dict[str, Any]:
        if facts.error:
            return {"peer_count": math.nan, "peers_listed": math.nan, "peers": ""}
        count, listed = facts.values["peer_count"], facts.values["peers_listed"]
        cells = {"peer_count": count, "peers_listed": listed, "peers": ", ".join(map(_peer, facts.values["peers"]))}
        if count != listed:
            cells |= {"peer_count": math.nan, "error": f"it counts {count} peers and lists {listed}"}
        return cells

    return _frame(nodes.facts("peer_count", "peers"), row)


def check_network_lag(sync_status: DataFrame, limit: Limit) -> Finding:
    """Return an alert that lists the nodes that are further behind the network than the limit allows.

    A node that is as far ahead is unknown, because a reference node that is stuck would hide every lag.
    """
    lag = sync_status["lag_blocks"]
    ahead = lag < -limit.threshold
    judged = sync_status.assign(
        lag_blocks=lag.clip(lower=0).mask(ahead),
        error=sync_status["error"].mask(ahead, "it is far ahead of every reference node, which may be stuck"),
    )
    return judge(limit, judged, value="lag_blocks", target="node", noun="blocks behind the network")


def check_synced(sync_claim: DataFrame, limit: Limit) -> Finding:
    """Return an alert that lists the nodes that report that they are not synced; unknown if a node does not report."""
    rows = sync_claim.to_dict("records")
    if not rows:
        return Finding.unknown(limit.name, "there is no node to check", limit)
    behind = [row for row in rows if not math.isnan(row["synced"]) and limit.exceeded(row["synced"])]
    silent = [row for row in rows if math.isnan(row["synced"])]
    doubts = "; ".join(f"{row['node']} did not report it: {row['error']}" for row in silent)
    if behind:
        names = ", ".join(str(row["node"]) for row in behind)
        not_synced = f"{len(behind)} of {len(rows)} report that they are not synced: {names}"
        status, wrong, summary = Status.ALERT, behind, f"{not_synced}; {doubts}" if doubts else not_synced
    elif silent:
        status, wrong, summary = Status.UNKNOWN, silent, f"unknown, because {doubts}"
    else:
        status, wrong, summary = Status.OK, [], f"all {len(rows)} report that they are synced"
    return Finding(
        name=limit.name,
        status=status,
        severity=limit.severity,
        summary=inert(summary),
        hint=limit.hint,
        targets=tuple(inert(str(row["node"]), 200) for row in wrong),
    )


def check_peers(peer_status: DataFrame, limit: Limit) -> Finding:
    """Return an alert that lists the nodes with fewer peers than the limit requires."""
    return judge(limit, peer_status, value="peer_count", target="node", noun="peers connected")


def _frame(answers: list[NodeFacts], row: Callable[[NodeFacts], dict[str, Any]]) -> DataFrame:
    from pandas import DataFrame

    rows = [{"node": facts.node, "error": facts.error.what if facts.error else "", **row(facts)} for facts in answers]
    frame = DataFrame(rows)
    frame["error"] = frame.pop("error")  # move it to the end
    return frame


def _peer(peer: object) -> str:
    address = peer.get("address", "?") if isinstance(peer, dict) else peer
    return inert(str(address), 100)
