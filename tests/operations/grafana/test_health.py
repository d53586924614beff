"""Grafana's health: every finding with its fault, against a stub of Grafana and the sandbox's Prometheus."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.bad_server import hangs, says
from tests.support.bad_server import serving as serving_badly
from tests.support.grafana_environment import environment
from tests.support.grafana_stub import VIEWER, Stub, serving
from tests.support.prometheus_server import until
from xai_runbook.cli.main import main
from xai_runbook.dashboards import FILES, dashboard
from xai_runbook.environment import Environment
from xai_runbook.errors import AccessDenied, BadAnswer, NoData, NotConfigured, Refused, WrongServer
from xai_runbook.model.findings import Finding, Severity, Status
from xai_runbook.operations import reachability
from xai_runbook.operations.grafana import health


@pytest.fixture
def stub() -> Iterator[Stub]:
    with serving() as found:
        yield found


@pytest.fixture
def there(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """An environment with only the stub, which has the five dashboards."""
    env = environment(stub, monkeypatch)
    for title in FILES:
        stub.put(dashboard(title, env.settings, env.limits))
    return env


def reachable(env: Environment) -> Finding:
    return reachability.check_reachable(reachability.grafana(env.grafana), env.limits.grafana.grafana_reachable)


def test_grafana_answers(stub: Stub, there: Environment) -> None:
    row = reachability.grafana(there.grafana).iloc[0]
    assert (row["answers"], row["detail"], row["target"]) == (1.0, "Grafana 11.6.0", stub.url)
    assert reachable(there).status is Status.OK
    stub.version = ""  # auth.anonymous.hide_version
    assert reachable(there).status is Status.OK


def test_its_own_database_fails(stub: Stub, there: Environment) -> None:
    stub.database = "failing"
    finding = reachable(there)
    assert finding.status is Status.ALERT and "its own database is not ok: failing" in finding.summary


@pytest.mark.parametrize(
    ("behave", "status", "words"),
    [
        (hangs, Status.ALERT, "no whole answer within 0.5 s"),
        (says(b"nope", "503 Service Unavailable"), Status.UNKNOWN, "no Grafana answers here"),
        (says(b'{"a": 1}', "503 Service Unavailable"), Status.ALERT, "is not ready (HTTP 503)"),
        (says(b"<html>Sign in</html>"), Status.UNKNOWN, "an HTML page"),
        (says(b"", "302 Found", "Location: https://sso.example/"), Status.UNKNOWN, "redirects to"),
        (says(b"x", "404 Not Found"), Status.UNKNOWN, "no Grafana answers here"),
        (says(b'{"status": "success"}'), Status.UNKNOWN, "the answer has no health"),
        (says(b"[]"), Status.UNKNOWN, "the answer has no health"),
        (says(b'{"database": "ok"}', length=400), Status.UNKNOWN, "cut short"),
    ],
)
def test_another_kind_of_server_is_not_a_grafana(
    monkeypatch: pytest.MonkeyPatch, behave: Any, status: Status, words: str
) -> None:
    with serving_badly(behave) as bad:
        stub = Stub()
        stub.url = bad.url
        finding = reachable(environment(stub, monkeypatch, timeout="500ms"))
    assert finding.status is status and words in finding.summary, finding.summary


def test_a_server_that_is_down_is_an_alert(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as gone:
        env = environment(gone, monkeypatch)
    assert reachable(env).status is Status.ALERT


def test_not_configured_raises_no_alert(env: Environment) -> None:
    env = Environment(env.settings.model_copy(update={"grafana": None}))
    for ask in (reachability.grafana, health.dashboards, health.datasources):
        with pytest.raises(NotConfigured) as caught:
            ask(env.grafana)
        assert caught.value.part == "grafana"


def test_all_dashboards_exist(stub: Stub, there: Environment) -> None:
    frame = health.dashboards(there.grafana)
    assert list(frame.columns) == ["title", "uid", "folder", "url", "found"]
    assert list(frame["title"]) == list(FILES), "the runbook's, in its order"
    assert list(frame["found"]) == [1] * 5
    assert frame["url"].iloc[0] == f"{stub.url}/d/xai-blockchain-node"
    finding = health.check_dashboards(frame, there.limits.grafana.dashboards)
    assert finding.status is Status.OK and finding.summary == "all 5 dashboards exist, each exactly once"


def test_a_dashboard_is_missing(stub: Stub, there: Environment) -> None:
    del stub.versions["xai-network-status"], stub.meta["xai-network-status"]
    finding = health.check_dashboards(health.dashboards(there.grafana), there.limits.grafana.dashboards)
    assert finding.status is Status.ALERT and finding.targets == ("Network Status",)
    assert "missing, or not visible to our account: Network Status" in finding.summary


def test_a_duplicate_dashboard_is_an_alert(stub: Stub, there: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    stub.put({"uid": "copy", "title": "Network Status", "panels": []}, folder_uid="ops-folder")
    frame = health.dashboards(there.grafana)
    assert sorted(frame[frame["title"] == "Network Status"]["found"]) == [2, 2]
    finding = health.check_dashboards(frame, there.limits.grafana.dashboards)
    assert finding.status is Status.ALERT and finding.targets == ("Network Status",)
    assert "found 2 times (xai-network-status in no folder, copy in Operations)" in finding.summary
    for one in ({"uid": "copy"}, {"folder": "Operations"}):  # the settings say which is meant
        frame = health.dashboards(
            environment(stub, monkeypatch, dashboard=[{"title": "Network Status", **one}]).grafana
        )
        assert list(frame["uid"]) == ["copy"]
        assert health.check_dashboards(frame, there.limits.grafana.dashboards).status is Status.OK
    elsewhere = environment(stub, monkeypatch, dashboard=[{"title": "Network Status", "folder": "Attic"}])
    frame = health.dashboards(elsewhere.grafana)
    assert health.check_dashboards(frame, there.limits.grafana.dashboards).status is Status.ALERT


def test_a_title_must_match_completely(stub: Stub, there: Environment) -> None:
    stub.versions["xai-network-status"][-1]["title"] = "Network Status (old)"
    finding = health.check_dashboards(health.dashboards(there.grafana), there.limits.grafana.dashboards)
    assert finding.targets == ("Network Status",)


def test_no_dashboards_named(stub: Stub, there: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = health.dashboards(environment(stub, monkeypatch, dashboard=[]).grafana)
    assert health.check_dashboards(frame, there.limits.grafana.dashboards).status is Status.UNKNOWN


def test_an_unknown_token_is_denied(stub: Stub, there: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUB_VIEWER", "Bearer gone")
    with pytest.raises(AccessDenied, match="service account"):
        health.dashboards(there.grafana)
    with pytest.raises(AccessDenied):
        there.grafana.identity()


@pytest.mark.parametrize("body", [b"{}", b'"x"', b"[1]", b'[{"uid": "a"}]', b"null"])
def test_an_unreadable_answer_is_an_error(stub: Stub, there: Environment, body: bytes) -> None:
    stub.answers |= dict.fromkeys(("/api/search", "/api/datasources", "/api/org"), (200, body))
    for ask in (there.grafana.search, there.grafana.datasources, there.grafana.identity):
        with pytest.raises(BadAnswer, match="cannot be read"):
            ask()


def test_its_identity_is_the_organization(there: Environment, stub: Stub) -> None:
    assert there.grafana.identity() == {"url": stub.url, "organization": "1 Main Org."}
    stub.organizations[VIEWER] = (7, "Evil\x1b[31m")
    assert "\x1b" not in there.grafana.identity()["organization"]


# panels: the stub's dashboards, asked of the sandbox's Prometheus


@pytest.fixture
def shown(stub: Stub, monkeypatch: pytest.MonkeyPatch, env: Environment) -> Environment:
    """The sandbox with the stub as its Grafana and one dashboard in the settings."""
    return environment(stub, monkeypatch, env, dashboard=[{"title": "One"}])


def one(*targets: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a dashboard with one panel that has these targets."""
    panel = {"id": 1, "type": "timeseries", "title": "P", "targets": list(targets)}
    return {"uid": "one", "title": "One", "panels": [panel], **more}


def panels_finding(env: Environment) -> Finding:
    return health.check_panels(health.panels(env.grafana, env.prometheus), env.limits.grafana.dashboard_panels)


def test_the_shipped_dashboards_show_data(stub: Stub, monkeypatch: pytest.MonkeyPatch, env: Environment) -> None:
    whole = environment(stub, monkeypatch, env)
    for title in FILES:
        stub.put(dashboard(title, env.settings, env.limits))
    panels = health.panels(whole.grafana, whole.prometheus)
    assert list(panels.columns) == ["panel", "query", "series", "error"]
    assert len(panels) > 50
    # rates of what is scraped every five seconds need a few of them
    until(lambda: panels_finding(whole).status is Status.OK, "every panel shows something", 40)


def test_a_panel_without_data(stub: Stub, shown: Environment) -> None:
    stub.put(one({"refId": "A", "expr": "up"}, {"refId": "B", "expr": "no_such_metric"}))
    finding = panels_finding(shown)
    assert finding.status is Status.ALERT and finding.targets == ("One / P / B",)


def test_an_empty_panel_is_unknown_while_prometheus_is_too_young_for_its_query(stub: Stub, shown: Environment) -> None:
    stub.put(one({"refId": "A", "expr": "up"}, {"refId": "B", "expr": "rate(no_such_metric[52w])"}))
    finding = panels_finding(shown)
    assert finding.status is Status.UNKNOWN and finding.targets == ("One / P / B",)
    assert "Prometheus started" in finding.summary and "ago" in finding.summary


def test_a_query_that_does_not_parse(stub: Stub, shown: Environment) -> None:
    stub.put(one({"refId": "A", "expr": "up"}, {"refId": "B", "expr": "sum("}))
    finding = panels_finding(shown)
    assert finding.status is Status.UNKNOWN and finding.targets == ("One / P / B",)
    assert "cannot parse the query" in finding.summary


def test_hidden_queries_and_other_data_sources_are_skipped(stub: Stub, shown: Environment) -> None:
    stub.put(
        one(
            {"refId": "A", "expr": "up"},
            {"refId": "B", "expr": "no_such_metric", "hide": True},
            {"refId": "C", "expr": '{app="x"}', "datasource": {"type": "loki", "uid": "l"}},
            {"refId": "D", "rawSql": "SELECT 1", "datasource": {"type": "postgres", "uid": "p"}},
        )
    )
    assert list(health.panels(shown.grafana, shown.prometheus)["panel"]) == ["One / P / A"]


def test_a_collapsed_row_and_a_library_panel(stub: Stub, shown: Environment) -> None:
    inner = {"id": 3, "type": "stat", "targets": [{"refId": "A", "expr": "no_such_metric"}]}
    library = {"id": 4, "title": "L", "libraryPanel": {"uid": "x", "name": "L"}}
    stub.put({**one(), "panels": [{"id": 2, "type": "row", "title": "R", "panels": [inner]}, library]})
    panels = health.panels(shown.grafana, shown.prometheus)
    assert list(panels["panel"]) == ["One / panel 3 / A", "One / L / library panel"]
    finding = health.check_panels(panels, shown.limits.grafana.dashboard_panels)
    assert finding.status is Status.ALERT and finding.targets == ("One / panel 3 / A",)
    assert "a library panel" in finding.summary


def test_no_panel_is_unknown(stub: Stub, shown: Environment) -> None:
    with pytest.raises(NoData):
        panels_finding(shown)
    stub.put(one())
    with pytest.raises(NoData):
        panels_finding(shown)


@pytest.mark.parametrize(
    ("variable", "promql", "series"),
    [
        ({"name": "i", "type": "query", "current": {"value": "node-2"}}, 'up{instance="$i"}', 1),
        ({"name": "i", "type": "query", "current": {"value": ["node-1", "node-2"]}, "multi": True},
         'up{instance=~"${i}"}', 2),
        ({"name": "i", "type": "query", "current": {"value": "$__all"}, "includeAll": True, "allValue": "node-.+"},
         'up{instance=~"[[i]]"}', 3),
        ({"name": "i", "type": "query", "current": {}, "includeAll": True},
         'up{job="xai-node",instance=~"${i:regex}"}', 3),
        ({"name": "i", "type": "custom", "current": {}, "options": [{"value": "node-1"}, {"value": "node-2"}]},
         'up{instance="$i"}', 1),
        ({"name": "i", "type": "custom", "current": {"value": ["$__all"]}, "includeAll": True,
          "options": [{"value": "$__all"}, {"value": "node-1"}, {"value": "node-2"}]}, 'up{instance=~"$i"}', 2),
        ({"name": "i", "type": "query", "current": {"value": ["node.1"]}, "multi": True}, 'up{instance=~"$i"}', 0),
        ({"name": "w", "type": "interval", "current": {"value": "$__auto_interval_w"}, "options": [{"value": "30s"}]},
         'rate(process_cpu_seconds_total{instance="node-1"}[$w])', 1),
        ({"name": "n", "type": "constant", "query": "node-1"}, 'up{instance="$n"}', 1),
        ({"name": "n", "type": "textbox", "query": "x", "current": {"value": "node-1"}}, 'up{instance="$n"}', 1),
        ({"name": "d", "type": "datasource", "current": {"value": "u"}}, 'up{instance="node-1"}', 1),
        ({"name": "x", "type": "constant", "query": "y"},
         'label_replace(changes(up{instance="node-1"}[$__rate_interval]), "a", "$1", "job", "(.+)")', 1),
        ({"name": "x", "type": "constant", "query": "y"}, "increase(up{instance='node-1'}[${__range_s}s])", 1),
    ],
)  # fmt: skip
def test_variables_are_substituted(
    stub: Stub, shown: Environment, variable: dict[str, Any], promql: str, series: int
) -> None:
    stub.put(one({"refId": "A", "expr": promql}, templating={"list": [variable]}))
    (row,) = health.panels(shown.grafana, shown.prometheus).to_dict("records")
    assert (row["series"], row["error"]) == (series, ""), row["query"]


def test_data_sources(stub: Stub, there: Environment) -> None:
    sources = health.datasources(there.grafana)
    assert sources.iloc[0][["target", "type", "is_default", "answers"]].to_list() == [
        "prometheus",
        "prometheus",
        "true",
        1.0,
    ]
    assert health.check_datasources(sources, there.limits.grafana.datasources).status is Status.OK


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        ((400, {"message": "connection refused", "status": "ERROR"}), Status.ALERT, "connection refused"),
        ((200, {"message": "", "status": "UNKNOWN"}), Status.UNKNOWN, "no reason given"),
        ((500, {"message": "Plugin health check failed"}), Status.UNKNOWN, "HTTP 500 Plugin health check failed"),
        ((400, {"message": "bad request data"}), Status.UNKNOWN, "HTTP 400 bad request data"),
        ((403, {"message": "no"}), Status.UNKNOWN, "access denied (HTTP 403)"),
    ],
)
def test_a_data_source_that_fails(stub: Stub, there: Environment, answer: Any, status: Status, words: str) -> None:
    stub.health["PBFA97CFB590B2093"] = answer
    finding = health.check_datasources(health.datasources(there.grafana), there.limits.grafana.datasources)
    assert finding.status is status and words in finding.summary, finding.summary
    assert finding.targets == ("prometheus",)


def test_a_data_source_without_a_check_is_not_judged(stub: Stub, there: Environment) -> None:
    stub.datasources.append({"uid": "j", "name": "json", "type": "json", "url": "", "isDefault": False})
    sources = health.datasources(there.grafana)
    assert list(sources["has_check"]) == [True, False]
    assert health.check_datasources(sources, there.limits.grafana.datasources).status is Status.OK
    del stub.datasources[0]
    assert health.check_datasources(health.datasources(there.grafana), there.limits.grafana.datasources).status is (
        Status.UNKNOWN
    )


def test_no_data_source(stub: Stub, there: Environment) -> None:
    stub.datasources.clear()
    with pytest.raises(NoData):
        health.datasources(there.grafana)


# the default login


@pytest.fixture
def person(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Simulate a person at a terminal."""
    master, slave = os.openpty()
    with os.fdopen(slave) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield
    os.close(master)


def tries(stub: Stub) -> int:
    return [path for _, path in stub.asked].count("/api/user")


def test_the_default_login_is_tried_once(stub: Stub, there: Environment, person: None) -> None:
    finding = health.check_default_login(health.default_login(there.grafana, probe=True))
    assert (finding.status, tries(stub)) == (Status.OK, 1)
    stub.logins["admin"] = "admin"
    finding = health.check_default_login(health.default_login(there.grafana, probe=True))
    assert (finding.status, finding.severity, tries(stub)) == (Status.ALERT, Severity.CRITICAL, 2)
    assert finding.targets == (stub.url,)


def test_the_default_login_is_not_tried_unasked(stub: Stub, there: Environment, person: None) -> None:
    with pytest.raises(NotConfigured, match="only when asked for"):
        health.default_login(there.grafana)
    assert not tries(stub)


def test_the_default_login_is_never_tried_without_a_person(stub: Stub, there: Environment) -> None:
    with pytest.raises(Refused, match="without a person"):
        health.default_login(there.grafana, probe=True)
    assert not tries(stub)


def test_a_login_that_is_neither_accepted_nor_rejected_is_an_error(
    stub: Stub, there: Environment, person: None
) -> None:
    stub.answers["/api/user"] = (429, b"{}")
    with pytest.raises(AccessDenied):
        health.default_login(there.grafana, probe=True)
    stub.answers["/api/user"] = (200, b'{"login": ""}')  # anonymous
    assert not health.default_login(there.grafana, probe=True)["works"].any()
    stub.answers["/api/user"] = (404, b"{}")
    with pytest.raises(WrongServer):
        health.default_login(there.grafana, probe=True)


# the health report's own cells


QUESTIONS = ["grafana_reachable", "dashboards", "dashboard_panels", "datasources"]


@pytest.fixture
def checked(stub: Stub, shown: Environment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Return a function that runs `xai-runbook check` and returns the status of each finding by name."""
    monkeypatch.setenv("XAI_RUNBOOK_GRAFANA__URL", stub.url)
    monkeypatch.setenv("XAI_RUNBOOK_GRAFANA__AUTH_VALUE", "env:STUB_VIEWER")

    def check() -> dict[str, str]:
        main(["check", *QUESTIONS, "--env", "sandbox", "--json"])
        report = json.loads(capsys.readouterr().out)
        return {finding["name"]: finding["status"] for finding in report["findings"]}

    return check


def test_every_check_of_the_report_can_alert(stub: Stub, env: Environment, checked: Any) -> None:
    for title in FILES:
        stub.put(dashboard(title, env.settings, env.limits))
    until(lambda: checked() == dict.fromkeys(QUESTIONS, "ok"), "all is well", 40)
    stub.put(
        {
            **dashboard("Network Status", env.settings, env.limits),
            "panels": one({"refId": "A", "expr": "gone"})["panels"],
        }
    )
    assert checked()["dashboard_panels"] == "alert"
    del stub.versions["xai-network-status"], stub.meta["xai-network-status"]
    stub.health["PBFA97CFB590B2093"] = (400, {"message": "connection refused", "status": "ERROR"})
    stub.database = "failing"
    assert checked() == {**dict.fromkeys(QUESTIONS, "alert"), "dashboard_panels": "ok"}
