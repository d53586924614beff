"""The shipped dashboards: current, valid, filled in for any environment, and every panel shows something."""

from __future__ import annotations

import json
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from tests.support.grafana_environment import environment
from tests.support.grafana_stub import Stub, serving
from tests.support.prometheus_server import merged, until
from xai_runbook import dashboards as shipped
from xai_runbook.cli.main import main
from xai_runbook.dashboards import FILES, TAG, contents, dashboard, queries
from xai_runbook.environment import Environment
from xai_runbook.errors import InputError
from xai_runbook.operations.grafana import health, import_dashboards
from xai_runbook.runbook.coverage import runbook
from xai_runbook.settings import loading
from xai_runbook.settings.models import GrafanaSettings, Settings

TITLES = list(FILES)


def settings(**tables: dict[str, Any]) -> Settings:
    """The defaults with other keys."""
    return Settings.model_validate(merged(loading.defaults(), tables, {"name": "test"}))


def test_they_are_the_runbooks_five() -> None:
    assert [f"- {title}" for title in TITLES] == [
        row["literal"] for row in runbook()["item"] if 33 <= row["item"] <= 37
    ]
    assert [each.title for each in GrafanaSettings().dashboard] == TITLES


def test_the_committed_files_are_current(checkout: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-m", "dashboards", "--check"], cwd=checkout, capture_output=True, text=True, timeout=120
    )
    assert told.returncode == 0, told.stdout + told.stderr
    assert {path.stem for path in Path(shipped.__file__).parent.glob("*.json")} == set(FILES.values())


@pytest.mark.parametrize("title", TITLES)
def test_each_is_a_dashboard_as_grafanas_model_has_it(title: str) -> None:
    made = dashboard(title, settings(), settings().limits)
    again = json.loads(JSONEncoder().encode(Dashboard.from_json(made)))
    assert again == made, "nothing is there that the model does not know, and nothing is lost in it"
    assert made["title"] == title and TAG in made["tags"] and made["timezone"] == "utc"
    assert re.fullmatch(r"xai-[a-z-]{3,36}", made["uid"])


@pytest.mark.parametrize("title", TITLES)
def test_no_blank_is_left(title: str) -> None:
    for told in (settings(), loading.load("sandbox")):
        assert "${" not in json.dumps(dashboard(title, told, told.limits))


@pytest.mark.parametrize("title", TITLES)
def test_panels_say_what_they_show(title: str) -> None:
    made = list(queries.panels(dashboard(title, settings(), settings().limits)))
    assert len({panel["title"] for panel in made}) == len(made), "a finding names them so"
    assert len({panel["id"] for panel in made}) == len(made)
    for panel in made:
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "$datasource"}
        assert panel["targets"]


def test_limits_come_from_the_table() -> None:
    told = settings(limits={"monitoring": {"sync_lag": {"threshold": 77.0}, "peer_count": {"threshold": 5.0}}})
    made = {panel["title"]: panel for panel in queries.panels(dashboard("Network Status", told, told.limits))}
    assert made["Sync lag"]["fieldConfig"]["defaults"]["thresholds"]["steps"] == [
        {"value": None, "color": "green"},
        {"value": 77.0, "color": "red"},
    ]
    assert made["Sync lag"]["description"].endswith("Alert above 77 blocks for 5m.")
    assert made["Peers"]["fieldConfig"]["defaults"]["thresholds"]["steps"] == [
        {"value": None, "color": "red"},
        {"value": 5.0, "color": "green"},
    ]


def test_every_threshold_is_a_blank() -> None:
    """No number of the table of limits stands in the shipped files."""
    for path in Path(shipped.__file__).parent.glob("*.json"):
        for panel in queries.panels(json.loads(path.read_text(encoding="utf-8"))):
            steps = (panel["fieldConfig"]["defaults"].get("thresholds") or {}).get("steps", [])
            assert all(step.get("value") is None or str(step["value"]).startswith("${limit.") for step in steps)


def test_metrics_and_signals_come_from_the_settings() -> None:
    told = settings(metrics={"height": "my_height"}, signals={"cpu_used": "my_cpu"})
    asked = {
        query.promql
        for title in TITLES
        for query in queries.panel_queries(dashboard(title, told, told.limits), rate="2m", step="15s")
    }
    assert "my_cpu" in asked
    assert any("my_height" in promql for promql in asked)
    assert not any("blockchain_height" in promql for promql in asked)
    instances = dashboard("Blockchain Node", told, told.limits)["templating"]["list"][1]
    assert instances["query"] == "label_values(my_height, instance)"


@pytest.mark.parametrize("title", TITLES)
def test_every_panel_shows_something_on_a_healthy_sandbox(title: str, env: Environment) -> None:
    asked = queries.panel_queries(
        dashboard(title, env.settings, env.limits), rate=env.settings.windows.rate, step=env.settings.rule_step
    )
    assert len(asked) >= 9

    def empty() -> list[queries.Query]:
        told = health.series_counts(env.prometheus, [query.promql for query in asked])
        assert not any(error for _, error in told.values()), told
        return [query for query in asked if not told[query.promql][0]]

    until(lambda: not empty(), "every query of a panel has series", 60)


# the command


def test_list_and_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dashboards", "list"]) == 0
    assert [line[:22].strip() for line in capsys.readouterr().out.splitlines()] == TITLES
    assert main(["dashboards", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["uid"] == "xai-blockchain-node"
    assert main(["dashboards", "export"]) == 0
    whole = json.loads(capsys.readouterr().out)
    assert [each["title"] for each in whole] == TITLES
    out = tmp_path / "new" / "folder"
    assert main(["dashboards", "export", "--out", str(out), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [json.loads(Path(row["file"]).read_text()) for row in rows] == whole
    assert {stat.S_IMODE(path.stat().st_mode) for path in out.iterdir()} == {0o644}, "Grafana is another user"


def test_export_where_nothing_can_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["dashboards", "export", "--out", str(tmp_path / "file")]) == 3
    assert "cannot be written" in capsys.readouterr().err


# the plans; how they are carried out is tested in tests/changes/steps/test_http.py


@pytest.fixture
def stub() -> Iterator[Stub]:
    with serving() as found:
        yield found


@pytest.fixture
def there(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> Environment:
    return environment(stub, monkeypatch)


def test_a_plan_to_import_says_what_it_saw(stub: Stub, there: Environment) -> None:
    stub.put(dashboard("Network Status", there.settings, there.limits))
    plan = import_dashboards.import_dashboards(
        there.grafana, there.limits, titles=["Network Status", "System Resources"]
    )
    assert plan.targets == ("System Resources (uid xai-system-resources)",), "what shows the same is left alone"
    assert [row["current"] for row in plan.observed] == ["true", "false"]
    assert [(step.kind, step.method, step.path) for step in plan.steps if step.kind == "http"] == [
        ("http", "POST", "/api/dashboards/db")
    ]
    assert plan.expected is not None and plan.expected.arguments == {"titles": ["System Resources"]}
    assert plan.identity == {"grafana.url": stub.url, "grafana.organization": "1 Main Org."}
    assert not [asked for asked in stub.asked if asked[0] != "GET"], "planning reads"
    assert (
        import_dashboards.import_dashboards(
            there.grafana, there.limits, titles=["Network Status", "System Resources"]
        ).comparable
        == plan.comparable
    )


def test_nothing_is_imported_unnamed(there: Environment) -> None:
    plan = import_dashboards.import_dashboards(there.grafana, there.limits, titles=[])
    assert not plan.steps and plan.note == "no titles were given"


def test_a_changed_limit_is_a_changed_dashboard(stub: Stub, there: Environment) -> None:
    moved = settings(limits={"monitoring": {"sync_lag": {"threshold": 77.0}}})
    stub.put(dashboard("Network Status", moved, moved.limits))
    plan = import_dashboards.import_dashboards(there.grafana, there.limits, titles=["Network Status"])
    assert len(plan.steps) == 1


def test_what_grafana_adds_is_no_difference(there: Environment) -> None:
    made = dashboard("Network Status", there.settings, there.limits)
    saved = {**made, "id": 41, "version": 9, "schemaVersion": 41, "liveNow": False}
    assert contents(saved) == contents(made)
    other = json.loads(json.dumps(made))
    other["panels"][0]["targets"][0]["expr"] = "up"
    assert contents(other) != contents(made)


def test_refused_where_the_title_is_anothers(stub: Stub, there: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    stub.put({"uid": "theirs", "title": "Network Status", "panels": []})
    plan = import_dashboards.import_dashboards(there.grafana, there.limits, titles=["Network Status"])
    assert "another dashboard has the title 'Network Status' (uid theirs)" in plan.refused and not plan.steps
    named = environment(stub, monkeypatch, dashboard=[{"title": "Network Status", "uid": "theirs"}])
    plan = import_dashboards.import_dashboards(named.grafana, named.limits, titles=["Network Status"])
    assert plan.targets == ("Network Status (uid theirs)",)
    body = json.loads(plan.steps[0].body)  # type: ignore[union-attr]
    assert (body["dashboard"]["uid"], body["dashboard"]["version"], body["overwrite"]) == ("theirs", 1, False)


def test_refused_where_a_file_provides_it(stub: Stub, there: Environment) -> None:
    stub.put({"uid": "xai-network-status", "title": "Network Status", "panels": []}, provisioned=True)
    assert (
        "provisioned from a file"
        in import_dashboards.import_dashboards(there.grafana, there.limits, titles=["Network Status"]).refused
    )


def test_folders_are_found_by_title(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    env = environment(stub, monkeypatch, dashboard=[{"title": "Network Status", "folder": "Operations"}])
    plan = import_dashboards.import_dashboards(env.grafana, env.limits, titles=["Network Status"])
    assert json.loads(plan.steps[0].body)["folderUid"] == "ops-folder"  # type: ignore[union-attr]
    stub.folders["other"] = "Operations"
    assert (
        "2 folders" in import_dashboards.import_dashboards(env.grafana, env.limits, titles=["Network Status"]).refused
    )
    stub.folders.clear()
    assert (
        "0 folders" in import_dashboards.import_dashboards(env.grafana, env.limits, titles=["Network Status"]).refused
    )


def test_other_titles_are_refused(there: Environment, stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="not a shipped dashboard"):
        import_dashboards.import_dashboards(there.grafana, there.limits, titles=["Kubernetes"])
    bare = environment(stub, monkeypatch, dashboard=[])
    with pytest.raises(InputError, match="the settings name 0 dashboards"):
        import_dashboards.import_dashboards(bare.grafana, bare.limits, titles=["Network Status"])


def test_a_grafana_that_is_not_there_or_not_configured(env: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as gone:
        nowhere = environment(gone, monkeypatch)
    absent = Environment(env.settings.model_copy(update={"grafana": None}))
    for handle in (nowhere.grafana, absent.grafana):
        plan = import_dashboards.import_dashboards(handle, env.limits, titles=["Network Status"])
        assert "it cannot be planned, because" in plan.refused and not plan.steps
        assert import_dashboards.restore_dashboards(handle, uids=["x"], versions=[1]).refused


def test_only_what_is_ours_is_removed(stub: Stub, there: Environment) -> None:
    stub.put({"uid": "theirs", "title": "Theirs", "panels": [], "tags": []})
    plan = import_dashboards.restore_dashboards(there.grafana, uids=["theirs"], versions=[0])
    assert "was not imported by xai-runbook" in plan.refused
    assert (
        "no dashboard has uid 'gone'"
        in import_dashboards.restore_dashboards(there.grafana, uids=["gone"], versions=[3]).refused
    )
    plan = import_dashboards.restore_dashboards(there.grafana, uids=["gone"], versions=[0])
    assert not plan.steps and plan.note == "the dashboards are at these versions already"
    for uids, versions in ((["a"], []), (["a", "a"], [1, 2])):
        with pytest.raises(InputError, match="one version for each uid"):
            import_dashboards.restore_dashboards(there.grafana, uids=uids, versions=versions)


def test_an_earlier_version_is_saved_over_the_present_one(stub: Stub, there: Environment) -> None:
    for description in ("first", "second"):
        stub.put({"uid": "x", "title": "X", "panels": [], "description": description}, folder_uid="ops-folder")
    plan = import_dashboards.restore_dashboards(there.grafana, uids=["x"], versions=[1])
    body = json.loads(plan.steps[0].body)  # type: ignore[union-attr]
    assert body["dashboard"] == {
        "uid": "x", "title": "X", "panels": [], "description": "first", "id": None, "version": 2
    }  # fmt: skip
    assert body["folderUid"] == "ops-folder"
    assert plan.risk == "change" and not isinstance(plan.undo, str)
    assert plan.undo.arguments == {"uids": ["x"], "versions": [2]}
    assert not import_dashboards.restore_dashboards(there.grafana, uids=["x"], versions=[2]).steps
    # a version that is not kept any more
    assert "HTTP 404" in import_dashboards.restore_dashboards(there.grafana, uids=["x"], versions=[9]).refused
