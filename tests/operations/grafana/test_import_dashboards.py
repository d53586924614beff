"""The shipped dashboards: current, valid, filled in for any environment, and with data in every panel."""

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
    """Return the default settings with other values."""
    return Settings.model_validate(merged(loading.defaults(), tables, {"name": "test"}))


def test_the_titles_are_the_runbooks() -> None:
    assert [f"- {title}" for title in TITLES] == [
        row["literal"] for row in runbook()["item"] if 33 <= row["item"] <= 37
    ]
    assert [each.title for each in GrafanaSettings().dashboard] == TITLES


def test_the_committed_files_are_current(checkout: Path) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "dashboards", "--check"], cwd=checkout, capture_output=True, text=True, timeout=120
    )
    assert process.returncode == 0, process.stdout + process.stderr
    assert {path.stem for path in Path(shipped.__file__).parent.glob("*.json")} == set(FILES.values())


@pytest.mark.parametrize("title", TITLES)
def test_each_dashboard_is_valid_in_grafanas_model(title: str) -> None:
    made = dashboard(title, settings(), settings().limits)
    again = json.loads(JSONEncoder().encode(Dashboard.from_json(made)))
    assert again == made, "nothing is there that the model does not know, and nothing is lost in it"
    assert made["title"] == title and TAG in made["tags"] and made["timezone"] == "utc"
    assert re.fullmatch(r"xai-[a-z-]{3,36}", made["uid"])


@pytest.mark.parametrize("title", TITLES)
def test_every_placeholder_is_filled_in(title: str) -> None:
    for each in (settings(), loading.load("sandbox")):
        assert "${" not in json.dumps(dashboard(title, each, each.limits))


@pytest.mark.parametrize("title", TITLES)
def test_panels_have_titles_descriptions_and_units(title: str) -> None:
    made = list(queries.panels(dashboard(title, settings(), settings().limits)))
    assert len({panel["title"] for panel in made}) == len(made), "a finding names them so"
    assert len({panel["id"] for panel in made}) == len(made)
    for panel in made:
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "$datasource"}
        assert panel["targets"]


def test_thresholds_come_from_the_limits() -> None:
    changed = settings(limits={"monitoring": {"sync_lag": {"threshold": 77.0}, "peer_count": {"threshold": 5.0}}})
    made = {panel["title"]: panel for panel in queries.panels(dashboard("Network Status", changed, changed.limits))}
    assert made["Sync lag"]["fieldConfig"]["defaults"]["thresholds"]["steps"] == [
        {"value": None, "color": "green"},
        {"value": 77.0, "color": "red"},
    ]
    assert made["Sync lag"]["description"].endswith("Alert above 77 blocks for 5m.")
    assert made["Peers"]["fieldConfig"]["defaults"]["thresholds"]["steps"] == [
        {"value": None, "color": "red"},
        {"value": 5.0, "color": "green"},
    ]


def test_every_threshold_is_a_placeholder() -> None:
    """The shipped files contain no number from the limits."""
    for path in Path(shipped.__file__).parent.glob("*.json"):
        for panel in queries.panels(json.loads(path.read_text(encoding="utf-8"))):
            steps = (panel["fieldConfig"]["defaults"].get("thresholds") or {}).get("steps", [])
            assert all(step.get("value") is None or str(step["value"]).startswith("${limit.") for step in steps)


def test_metrics_and_signals_come_from_the_settings() -> None:
    changed = settings(metrics={"height": "my_height"}, signals={"cpu_used": "my_cpu"})
    found = {
        query.promql
        for title in TITLES
        for query in queries.panel_queries(dashboard(title, changed, changed.limits), rate="2m", step="15s")
    }
    assert "my_cpu" in found
    assert any("my_height" in promql for promql in found)
    assert not any("blockchain_height" in promql for promql in found)
    instances = dashboard("Blockchain Node", changed, changed.limits)["templating"]["list"][1]
    assert instances["query"] == "label_values(my_height, instance)"


@pytest.mark.parametrize("title", TITLES)
def test_every_panel_has_data_on_a_healthy_sandbox(title: str, env: Environment) -> None:
    found = queries.panel_queries(
        dashboard(title, env.settings, env.limits), rate=env.settings.windows.rate, step=env.settings.rule_step
    )
    assert len(found) >= 9

    def empty() -> list[queries.Query]:
        counts = health.series_counts(env.prometheus, [query.promql for query in found])
        assert not any(error for _, error in counts.values()), counts
        return [query for query in found if not counts[query.promql][0]]

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


def test_a_plan_to_import_records_what_it_observed(stub: Stub, there: Environment) -> None:
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


def test_nothing_is_imported_without_titles(there: Environment) -> None:
    plan = import_dashboards.import_dashboards(there.grafana, there.limits, titles=[])
    assert not plan.steps and plan.note == "no titles were given"


def test_a_changed_limit_is_a_changed_dashboard(stub: Stub, there: Environment) -> None:
    moved = settings(limits={"monitoring": {"sync_lag": {"threshold": 77.0}}})
    stub.put(dashboard("Network Status", moved, moved.limits))
    plan = import_dashboards.import_dashboards(there.grafana, there.limits, titles=["Network Status"])
    assert len(plan.steps) == 1


def test_fields_that_grafana_adds_are_no_difference(there: Environment) -> None:
    made = dashboard("Network Status", there.settings, there.limits)
    saved = {**made, "id": 41, "version": 9, "schemaVersion": 41, "liveNow": False}
    assert contents(saved) == contents(made)
    other = json.loads(json.dumps(made))
    other["panels"][0]["targets"][0]["expr"] = "up"
    assert contents(other) != contents(made)


def test_refused_if_another_dashboard_has_the_title(
    stub: Stub, there: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub.put({"uid": "theirs", "title": "Network Status", "panels": []})
    plan = import_dashboards.import_dashboards(there.grafana, there.limits, titles=["Network Status"])
    assert "another dashboard has the title 'Network Status' (uid theirs)" in plan.refused and not plan.steps
    named = environment(stub, monkeypatch, dashboard=[{"title": "Network Status", "uid": "theirs"}])
    plan = import_dashboards.import_dashboards(named.grafana, named.limits, titles=["Network Status"])
    assert plan.targets == ("Network Status (uid theirs)",)
    body = json.loads(plan.steps[0].body)  # type: ignore[union-attr]
    assert (body["dashboard"]["uid"], body["dashboard"]["version"], body["overwrite"]) == ("theirs", 1, False)


def test_refused_if_provisioned_from_a_file(stub: Stub, there: Environment) -> None:
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


def test_a_grafana_that_is_down_or_not_configured_refuses_the_plan(
    env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving() as gone:
        nowhere = environment(gone, monkeypatch)
    absent = Environment(env.settings.model_copy(update={"grafana": None}))
    for handle in (nowhere.grafana, absent.grafana):
        plan = import_dashboards.import_dashboards(handle, env.limits, titles=["Network Status"])
        assert "it cannot be planned, because" in plan.refused and not plan.steps
        assert import_dashboards.restore_dashboards(handle, uids=["x"], versions=[1]).refused


def test_only_imported_dashboards_are_deleted(stub: Stub, there: Environment) -> None:
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


def test_an_earlier_version_is_restored(stub: Stub, there: Environment) -> None:
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
