"""Steps that are HTTP requests, applied against a stub that answers as Grafana's documentation says."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.support.changing import with_journal
from tests.support.grafana_environment import environment
from tests.support.grafana_stub import EDITOR, VIEWER, Stub, serving
from xai_runbook import apply
from xai_runbook.changes import reconcile
from xai_runbook.changes.journal import Journal
from xai_runbook.changes.steps import http
from xai_runbook.environment import Environment
from xai_runbook.errors import InputError, NotConfigured, Refused
from xai_runbook.model.outcome import Outcome
from xai_runbook.model.plans import HttpCall, Plan
from xai_runbook.model.steps import Step
from xai_runbook.operations.grafana import import_dashboards
from xai_runbook.settings.models import GrafanaSettings

ONE = ["Network Status"]
UID = "xai-network-status"


@pytest.fixture
def stub() -> Iterator[Stub]:
    with serving() as found:
        yield found


@pytest.fixture
def there(stub: Stub, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """The stub as Grafana, a journal of the test's own."""
    return with_journal(environment(stub, monkeypatch), journal)


def applied(plan: Plan, env: Environment) -> Outcome:
    outcome = apply(plan, env, confirm=plan.confirmation)
    assert isinstance(outcome, Outcome)
    return outcome


def planned(env: Environment, titles: list[str] | None = None) -> Plan:
    plan = import_dashboards.import_dashboards(env.grafana, env.limits, titles=ONE if titles is None else titles)
    assert not plan.refused, plan.refused
    return plan


def writes(stub: Stub) -> list[tuple[str, str]]:
    return [asked for asked in stub.asked if asked[0] != "GET"]


def test_dashboards_are_imported_once_and_undone(stub: Stub, there: Environment, terminal: int) -> None:
    titles = [each.title for each in there.grafana.access.dashboard]
    outcome = applied(planned(there, titles), there)
    assert outcome.status == "done", outcome
    assert len(stub.versions) == 5 and len(writes(stub)) == 5
    again = planned(there, titles)
    assert not again.steps and again.note == "the dashboards are up to date"
    back = reconcile.undo(there, outcome.entry)
    assert back.risk == "destructive" and len(back.steps) == 5
    assert applied(back, there).status == "done"
    assert stub.versions == {}


def test_undo_restores_the_previous_dashboard(stub: Stub, there: Environment, terminal: int) -> None:
    before = {"uid": UID, "title": "Network Status", "tags": ["theirs"], "panels": [], "refresh": "5m"}
    stub.put(before, folder_uid="ops-folder")
    outcome = applied(planned(there), there)
    assert outcome.status == "done"
    assert stub.live(UID)["version"] == 2 and len(stub.live(UID)["panels"]) == 10
    assert stub.meta[UID]["folderUid"] == "ops-folder", "it stays where it lies"
    back = reconcile.undo(there, outcome.entry)
    assert back.risk == "change"
    assert applied(back, there).status == "done"
    assert {key: stub.live(UID)[key] for key in before} == before and stub.live(UID)["version"] == 3


def test_a_version_saved_since_the_plan_is_not_overwritten(
    stub: Stub, there: Environment, terminal: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub.put({"uid": UID, "title": "Network Status", "panels": []})
    plan = planned(there)
    saved = {"uid": UID, "title": "Network Status", "panels": [], "description": "saved meanwhile"}
    send = http.RequestSender.send

    def late(self: http.RequestSender, step: HttpCall) -> Any:
        stub.put(saved)  # after the last look, right before the act
        return send(self, step)

    monkeypatch.setattr(http.RequestSender, "send", late)
    outcome = applied(plan, there)
    assert outcome.status == "failed" and "HTTP 412" in outcome.summary and "changed by someone else" in outcome.summary
    assert stub.live(UID)["description"] == "saved meanwhile"


def test_a_dashboard_created_since_the_plan_is_not_overwritten(
    stub: Stub, there: Environment, terminal: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(there)
    send = http.RequestSender.send

    def late(self: http.RequestSender, step: HttpCall) -> Any:
        stub.put({"uid": UID, "title": "Theirs", "panels": []})
        return send(self, step)

    monkeypatch.setattr(http.RequestSender, "send", late)
    assert applied(plan, there).status == "failed"
    assert stub.live(UID)["title"] == "Theirs"


def test_a_dashboard_that_changed_since_the_plan(stub: Stub, there: Environment, terminal: int) -> None:
    plan = planned(there)
    stub.put({"uid": UID, "title": "Network Status", "panels": []})
    with pytest.raises(Refused, match="the system has changed"):
        applied(plan, there)
    assert not writes(stub)


def test_an_operator_without_permission(
    stub: Stub, there: Environment, terminal: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUB_EDITOR", VIEWER)
    outcome = applied(planned(there), there)
    assert (outcome.status, stub.versions) == ("failed", {})
    assert "HTTP 403" in outcome.summary


def test_an_operator_with_a_revoked_token(
    stub: Stub, there: Environment, terminal: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUB_EDITOR", "Bearer revoked")
    with pytest.raises(Exception, match="HTTP 401"):  # it proves who it is before the intent is written
        applied(planned(there), there)
    assert not writes(stub)


def test_an_operator_of_another_organization(stub: Stub, there: Environment, terminal: int) -> None:
    stub.organizations[EDITOR] = (2, "Other Org.")
    with pytest.raises(Refused, match="the operator connects to another grafana: organization is 2 Other Org"):
        applied(planned(there), there)
    assert not writes(stub)


def test_no_operator(stub: Stub, journal: Journal, monkeypatch: pytest.MonkeyPatch, terminal: int) -> None:
    env = with_journal(environment(stub, monkeypatch, operator=None), journal)
    with pytest.raises(NotConfigured, match=r"grafana\.operator is not configured, so nothing can be changed"):
        applied(planned(env), env)


@pytest.mark.parametrize(
    ("then", "message", "fulfilled"),
    [
        ("fails before", "HTTP 500 Failed to save dashboard", False),
        ("fails after", "HTTP 502 Bad Gateway", True),
        ("redirects", "the server redirects to 'https://login.example.com/' (HTTP 302)", False),
        ("hangs", "no whole answer within 1 s", False),
        ("is cut off", "it closed the connection without an answer", False),
        ("is cut off after", "it closed the connection without an answer", True),
    ],
)
def test_a_lost_answer_is_unknown_blocks_and_is_never_sent_again(
    stub: Stub,
    journal: Journal,
    monkeypatch: pytest.MonkeyPatch,
    terminal: int,
    then: str,
    message: str,
    fulfilled: bool,
) -> None:
    there = with_journal(environment(stub, monkeypatch, timeout="1s"), journal)
    stub.then = then
    outcome = applied(planned(there), there)
    assert outcome.status == "unknown" and message in outcome.summary, outcome.summary
    assert len(writes(stub)) == 1
    other = planned(there, ["System Resources"])
    with pytest.raises(Refused, match="the outcome of an earlier change is unknown"):
        applied(other, there)
    assert len(writes(stub)) == 1
    looked = reconcile.reconcile(there, outcome.entry)
    assert looked.status == ("done" if fulfilled else "failed")
    assert applied(planned(there, ["System Resources"]), there).status == "done"


def test_too_many_requests_had_no_effect(stub: Stub, there: Environment, terminal: int) -> None:
    stub.then = "is too fast"
    outcome = applied(planned(there), there)
    assert outcome.status == "failed" and "HTTP 429" in outcome.summary


def test_the_first_refusal_ends_it(stub: Stub, there: Environment, terminal: int) -> None:
    stub.then = "is too fast"
    outcome = applied(planned(there, ["Network Status", "System Resources"]), there)
    assert outcome.status == "failed" and len(writes(stub)) == 1


def sender(url: str, **access: Any) -> http.RequestSender:
    """Requests with a credential for `url`, as if it had been proved."""
    found = http.RequestSender(None)  # type: ignore[arg-type]
    found._access["grafana"] = GrafanaSettings(url=url, **access)
    return found


CALL = HttpCall(part="grafana", method="POST", path="/api/dashboards/db", equivalent="", body="{}")


def test_a_request_that_was_not_sent_had_no_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUB_EDITOR", EDITOR)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    done = sender(f"http://127.0.0.1:{port}", auth_value="env:STUB_EDITOR").send(CALL)
    assert not done.had_effect and done.summary == "the request was not sent: the connection was refused"
    monkeypatch.delenv("STUB_EDITOR")
    done = sender(f"http://127.0.0.1:{port}", auth_value="env:STUB_EDITOR").send(CALL)
    assert not done.had_effect and "env:STUB_EDITOR" in done.summary


def test_nothing_is_sent_after_the_deadline(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is made only after the deadline: nothing may be sent over it."""
    monkeypatch.setenv("STUB_EDITOR", EDITOR)
    connects = threading.Event()
    late: list[threading.Thread] = []
    connect = http.http.client.HTTPConnection.connect

    def slow(self: Any) -> None:
        late.append(threading.current_thread())
        connects.wait(10)
        connect(self)

    monkeypatch.setattr(http.http.client.HTTPConnection, "connect", slow)
    done = sender(stub.url, auth_value="env:STUB_EDITOR", timeout="200ms").send(CALL)
    assert not done.had_effect and "no whole answer within 0.2 s" in done.summary
    connects.set()
    late[0].join(10)
    assert not writes(stub)


def test_a_plan_without_grafana_sends_nothing(stub: Stub, there: Environment) -> None:
    assert http.RequestSender(there).send(CALL) == http.StepResult(False, "the plan names no grafana")


@pytest.mark.parametrize(
    "path",
    [
        "", "api", "//evil.example/api", "/api//x", "@evil.example/", "http://evil.example/", "/api/../x", "/api/..",
        "/api/x?y=z", "/api/x#y", "/api/x\r\nHost: evil", "/api/x y", "/api/%2e%2e/x", "/api/x\n", "/api/é",
    ],
)  # fmt: skip
def test_a_request_goes_nowhere_else(path: str) -> None:
    with pytest.raises(InputError, match="plain segments on the part's own server"):
        HttpCall(part="grafana", method="POST", path=path, equivalent="")


def test_a_plan_file_cannot_name_another_host_or_part(stub: Stub, there: Environment) -> None:
    plan = planned(there)
    data = json.loads(json.dumps(plan.to_json()))
    assert Plan.from_json(data) == plan
    for key, value in (("path", "//evil.example/"), ("part", "database"), ("method", "GET"), ("headers", {})):
        edited = json.loads(json.dumps(data))
        edited["steps"][0][key] = value
        with pytest.raises(InputError):
            Plan.from_json(edited)


def test_neither_plan_nor_journal_holds_a_secret(
    stub: Stub, there: Environment, journal: Journal, terminal: int
) -> None:
    plan = planned(there)
    outcome = applied(plan, there)
    shown = f"{plan} {plan._repr_html_()} {plan.file()!r} {outcome} {journal.path.read_text()}"
    assert "glsa_" not in shown
    assert "POST /api/dashboards/db of grafana with" in str(plan) and "legendFormat" not in str(plan)


def test_headless_nothing_is_sent(stub: Stub, there: Environment) -> None:
    plan = planned(there)
    with pytest.raises(Refused, match="no person"):
        apply(plan, there, confirm=plan.confirmation)
    assert not writes(stub)


def test_an_edited_body_is_refused(stub: Stub, there: Environment, terminal: int) -> None:
    plan = planned(there)
    step: Step = replace(plan.steps[0], body="{}")  # type: ignore[arg-type, call-arg]
    edited = replace(plan, steps=(step,))
    with pytest.raises(Refused, match="the system has changed"):
        applied(edited, there)
    with pytest.raises(Refused, match="the plan was edited"):
        apply(edited, there, confirm=plan.confirmation, digest=plan.digest)
    assert not writes(stub)
