"""Section 6 of the runbook: troubleshooting. So far its blockchain sync questions, asked of the nodes' own API."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from xai_runbook.errors import NoData, NotConfigured, inert
from xai_runbook.model.findings import Finding, Limit, Status, judge

if TYPE_CHECKING:
    from pandas import DataFrame

    from xai_runbook.clients.nodes import NodeFacts, Nodes


def sync_status(nodes: Nodes) -> DataFrame:
    """One row a node: how far it is, what it says of itself, and how far the network is.

    Columns: node, synced (bool, as the node says), height (index of its newest block), network_height (of the highest
    reference), lag_blocks (network_height less height; below 0 it is ahead), error.
    Source: runbook, Blockchain Sync Issues, whose `curl -s | jq` prints null and exits 0 where there is no answer.
    Errors: NotConfigured where the settings name no reference node; NoData where none answers.
    """
    # the reference first: a block that arrives between the two questions must not look like a lag
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
    """One row a node: whether it says of itself that it is synced; no reference is needed for that.

    Columns: node, synced (1, 0, or missing), error. Source: runbook, Blockchain Sync Issues.
    """
    return _frame(nodes.facts("synced"), lambda facts: {"synced": float(facts.values.get("synced", math.nan))})


def network_height(nodes: Nodes) -> DataFrame:
    """One row a reference node: the height of the network as it tells it.

    Columns: node, height (index of the newest block), seconds, error. Errors: NotConfigured where the settings name
    no reference: the runbook's own is a reserved example domain. Source: runbook, Blockchain Sync Issues; RFC 2606.
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
    """One row a node: the peers that it counts and lists, itself left out.

    Columns: node, peer_count (as it counts), peers_listed (as it lists), peers (their addresses, comma-separated),
    error; a node whose two numbers differ says so in error, and its peer_count is missing: which one is right cannot
    be told. Source: runbook, Blockchain Sync Issues.
    """

    def row(facts: NodeFacts) -> dict[str, Any]:
        if facts.error:
            return {"peer_count": math.nan, "peers_listed": math.nan, "peers": ""}
        count, listed = facts.values["peer_count"], facts.values["peers_listed"]
        told = {"peer_count": count, "peers_listed": listed, "peers": ", ".join(map(_peer, facts.values["peers"]))}
        if count != listed:
            told |= {"peer_count": math.nan, "error": f"it counts {count} peers and lists {listed}"}
        return told

    return _frame(nodes.facts("peer_count", "peers"), row)


def check_network_lag(sync_status: DataFrame, limit: Limit) -> Finding:
    """`alert` that lists the nodes that are further behind the network than the limit allows.

    `unknown` for one that is as far ahead: a reference that stands still would make every lag a 0.
    """
    lag = sync_status["lag_blocks"]
    ahead = lag < -limit.threshold
    judged = sync_status.assign(
        lag_blocks=lag.clip(lower=0).mask(ahead),
        error=sync_status["error"].mask(ahead, "it is far ahead of every reference node, which may be stuck"),
    )
    return judge(limit, judged, value="lag_blocks", target="node", noun="blocks behind the network")


def check_synced(sync_claim: DataFrame, limit: Limit) -> Finding:
    """`alert` that lists the nodes that say themselves that they are not synced; `unknown` where one does not say."""
    rows = sync_claim.to_dict("records")
    if not rows:
        return Finding.unknown(limit.name, "there is no node to check", limit)
    behind = [row for row in rows if row["synced"] == row["synced"] and limit.exceeded(row["synced"])]
    mute = [row for row in rows if row["synced"] != row["synced"]]
    doubts = "; ".join(f"{row['node']} did not report it: {row['error']}" for row in mute)
    if behind:
        names = ", ".join(str(row["node"]) for row in behind)
        words = f"{len(behind)} of {len(rows)} report that they are not synced: {names}"
        status, wrong, summary = Status.ALERT, behind, f"{words}; {doubts}" if doubts else words
    elif mute:
        status, wrong, summary = Status.UNKNOWN, mute, f"unknown, because {doubts}"
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
    """`alert` that lists the nodes with fewer peers than the limit asks for."""
    return judge(limit, peer_status, value="peer_count", target="node", noun="peers connected")


def _frame(answers: list[NodeFacts], row: Any) -> DataFrame:
    from pandas import DataFrame

    rows = [{"node": facts.node, "error": facts.error.what if facts.error else "", **row(facts)} for facts in answers]
    frame = DataFrame(rows)
    frame["error"] = frame.pop("error")  # last, where the eye looks for it
    return frame


def _peer(peer: object) -> str:
    address = peer.get("address", "?") if isinstance(peer, dict) else peer
    return inert(str(address), 100)
