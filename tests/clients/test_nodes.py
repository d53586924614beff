"""Facts of nodes from valid and invalid answers, and the rate of requests."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack
from typing import Any

import orjson
import pytest

from tests.support.bad_server import Behave, hangs, says, serving
from tests.support.pace import stretched
from xai_runbook.clients.nodes import Nodes
from xai_runbook.errors import BadAnswer, CannotAsk, SettingsError, TimedOut, Unreachable
from xai_runbook.operations.troubleshooting import nodes as troubleshooting
from xai_runbook.settings import models

NAMES = ("height", "synced", "peer_count", "peers")


def answer(**facts: Any) -> bytes:
    return orjson.dumps({"block_height": 10, "is_synced": True, "peer_count": 2, "peers": ["a", "b"]} | facts)


def one_node(behave: Behave, *names: str, **tables: Any) -> tuple[dict[str, Any], CannotAsk | None]:
    """Return values and error of one node with that behaviour."""
    with serving(behave) as served:
        settings = models.NodesSettings.model_validate(
            {"node": [{"name": "node-1", "url": served.url, "timeout": "500ms"}], "requests_per_second": 1000} | tables
        )
        (facts,) = Nodes(settings).facts(*names)
    assert facts.node == "node-1"
    return facts.values, facts.error  # type: ignore[return-value]


def fact(name: str, **fields: Any) -> dict[str, Any]:
    """Return the settings of one fact."""
    return {"facts": {name: {"path": "/x", "pointer": "/value"} | fields}}


def test_all_facts_by_the_runbooks_paths() -> None:
    values, error = one_node(says(answer()), *NAMES)
    assert error is None
    assert values == {"height": 10, "synced": True, "peer_count": 2, "peers": ["a", "b"], "peers_listed": 2}


@pytest.mark.parametrize(
    ("name", "fields", "body", "value"),
    [
        ("height", {}, b'{"value": 0}', 0),
        ("height", {"height_is": "count"}, b'{"value": 8}', 7),
        ("height", {}, b'{"value": 9007199254740993}', 9007199254740993),  # no float on the way
        ("peer_count", {"includes_self": True}, b'{"value": 4}', 3),
        ("height", {"pointer": "/a~1b/m~0n/1/"}, b'{"a/b": {"m~n": [0, {"": 5}]}}', 5),
        ("synced", {}, b'{"value": false}', False),
    ],
)
def test_a_fact_by_the_path_in_the_settings(name: str, fields: dict[str, Any], body: bytes, value: Any) -> None:
    values, error = one_node(says(body), name, **fact(name, **fields))
    assert (values.get(name), error) == (value, None)


@pytest.mark.parametrize(
    ("name", "body"),
    [
        *(
            ("height", b'{"value": %s}' % text)
            for text in (
                b"-1",
                b"1.0",
                b"1.5",
                b'"10"',
                b"true",
                b"null",
                b"[]",
                b"{}",
                b"1e400",
                b"99999999999999999999",
                b"9223372036854775808",
            )
        ),
        ("height", b'{"value": NaN}'),
        ("height", b"{}"),
        ("height", b"[1]"),
        ("height", b"7"),
        ("height", b"null"),
        ("peer_count", b'{"value": true}'),
        ("peer_count", b'{"value": -3}'),
        ("synced", b'{"value": 1}'),
        ("synced", b'{"value": "true"}'),
        ("peers", b'{"value": {"a": 1}}'),
        ("peers", b'{"value": "abc"}'),
    ],
)
def test_a_value_of_the_wrong_type_or_range(name: str, body: bytes) -> None:
    values, error = one_node(says(body), name, **fact(name))
    assert values == {}
    assert type(error) is BadAnswer
    assert error.hint


@pytest.mark.parametrize(
    ("name", "fields"),
    [("height", {"height_is": "count"}), ("peer_count", {"includes_self": True})],
)
def test_a_count_of_zero(name: str, fields: dict[str, Any]) -> None:
    """A count of no blocks has no newest block; a node that counts itself counts at least one."""
    _, error = one_node(says(b'{"value": 0}'), name, **fact(name, **fields))
    assert type(error) is BadAnswer


@pytest.mark.parametrize("pointer", ["/list/2", "/list/-", "/list/01x", "/list/-1", "/text/0", "/list/0/x", "/List"])
def test_a_pointer_that_finds_nothing(pointer: str) -> None:
    _, error = one_node(says(b'{"list": [1, 2], "text": "abc"}'), "height", **fact("height", pointer=pointer))
    assert type(error) is BadAnswer
    assert pointer in error.what
    assert "nodes.facts.height.pointer" in error.hint


def test_a_node_that_syncs_says_so_with_503() -> None:
    behave = says(answer(is_synced=False), "503 Service Unavailable")
    values, error = one_node(behave, "height", "synced")
    assert (values, error) == ({"height": 10, "synced": False}, None)
    values, error = one_node(behave, "height", "synced", informative_statuses=[])
    assert values == {}
    assert "503" in str(error)


def test_facts_of_one_path_are_asked_once() -> None:
    with serving(says(answer())) as served:
        settings = models.NodesSettings.model_validate(
            {"node": [{"name": "a", "url": served.url}], "requests_per_second": 1000}
        )
        Nodes(settings).facts(*NAMES)
        paths = [line.split(b" ")[1] for line in served.requests]
    assert paths == [b"/api/v1/blockchain/info", b"/api/v1/network/info"]


def test_a_dead_node_does_not_affect_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as stack:
        good = stack.enter_context(serving(says(answer())))
        hung = stack.enter_context(serving(hangs))
        with socket.create_server(("127.0.0.1", 0)) as closed:
            gone = closed.getsockname()[1]
        node = [
            {"name": "well", "url": good.url},
            {"name": "hung", "url": hung.url, "timeout": "500ms"},
            {"name": "gone", "url": f"http://127.0.0.1:{gone}"},
            {"name": "secret", "url": good.url, "auth_value": "env:NO_SUCH_VARIABLE_HERE"},
            {"name": "other", "url": good.url, "facts": {"height": {"path": "/y", "pointer": "/peer_count"}}},
        ]
        nodes = Nodes(models.NodesSettings.model_validate({"node": node, "requests_per_second": 1000}))
        started = time.monotonic()
        facts = nodes.facts("height")
        assert time.monotonic() - started < stretched(3)
    assert [one.node for one in facts] == nodes.names == ["well", "hung", "gone", "secret", "other"]
    assert [type(one.error) for one in facts] == [type(None), TimedOut, Unreachable, SettingsError, type(None)]
    assert [one.values.get("height") for one in facts] == [10, None, None, None, 2]


def test_no_more_requests_than_the_settings_allow() -> None:
    with serving(says(answer())) as served:
        node = [{"name": f"n{place}", "url": served.url} for place in range(3)]
        nodes = Nodes(models.NodesSettings.model_validate({"node": node, "requests_per_second": 20}))
        started = time.monotonic()
        nodes.facts("height", "peers")
        nodes.facts("height")
        seconds = time.monotonic() - started
        assert len(served.requests) == 9
    assert seconds >= 8 / 20


def test_no_reference_is_an_empty_list() -> None:
    settings = models.NodesSettings.model_validate({"node": [{"name": "a"}]})
    assert Nodes(settings).reference_facts("height") == []


@pytest.mark.parametrize(
    ("peers", "count", "listed", "shown"),
    [
        ([], 0, 0, ""),
        ([None, 5, {"address": "10.0.0.1:9"}, {"x": 1}, ["\x1b[31m"]], 5, 5, "None, 5, 10.0.0.1:9, ?, ['\\x1b[31m']"),
        ([{"address": "\u202eevil\x1b]0;x\x07"}], 1, 1, "�evil�]0;x�"),
    ],
)  # fmt: skip
def test_peers_of_any_shape(peers: list[Any], count: int, listed: int, shown: str) -> None:
    with serving(says(answer(peers=peers, peer_count=count))) as served:
        settings = models.NodesSettings.model_validate(
            {"node": [{"name": "a", "url": served.url}], "requests_per_second": 1000}
        )
        (row,) = troubleshooting.peer_status(Nodes(settings)).to_dict("records")
    assert (row["peer_count"], row["peers_listed"], row["peers"], row["error"]) == (count, listed, shown, "")


def test_a_peer_list_that_includes_the_node() -> None:
    facts = {
        "peers": {"path": "/api/v1/network/info", "pointer": "/peers", "includes_self": True},
        "peer_count": {"path": "/api/v1/network/info", "pointer": "/peer_count", "includes_self": True},
    }
    values, error = one_node(says(answer(peer_count=3, peers=["me", "a", "b"])), "peer_count", "peers", facts=facts)
    assert error is None
    assert (values["peer_count"], values["peers_listed"]) == (2, 2)


@pytest.mark.parametrize(("count", "peers"), [(3, ["a"]), (0, ["a"]), (2, [])])
def test_a_count_that_differs_from_the_list_is_unknown(count: int, peers: list[str]) -> None:
    with serving(says(answer(peers=peers, peer_count=count))) as served:
        settings = models.NodesSettings.model_validate(
            {"node": [{"name": "a", "url": served.url}], "requests_per_second": 1000}
        )
        (row,) = troubleshooting.peer_status(Nodes(settings)).to_dict("records")
    assert row["peer_count"] != row["peer_count"]
    assert row["error"] == f"it counts {count} peers and lists {len(peers)}"
