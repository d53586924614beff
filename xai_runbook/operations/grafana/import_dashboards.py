"""Import the runbook's five dashboards into Grafana, and undo that. Source: runbook, Grafana Dashboards."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from xai_runbook.dashboards import FILES, TAG, contents, dashboard
from xai_runbook.errors import InputError, inert
from xai_runbook.model.plans import Call, Condition, HttpCall, Plan, Risk, change, refused_plan
from xai_runbook.model.scalars import fact

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pandas import DataFrame

    from xai_runbook.clients.grafana import Grafana
    from xai_runbook.settings.limits import Limits
    from xai_runbook.settings.models import DashboardSettings


@change
def import_dashboards(grafana: Grafana, limits: Limits, *, titles: list[str]) -> Plan:
    """Plan to save the shipped dashboards with these titles to Grafana, as `xai-runbook dashboards export` writes them.

    A dashboard is found by its uid (from the settings, else the shipped one) and skipped if it is up to date. Grafana
    rejects the save (HTTP 412) if the dashboard's version has changed since the plan was made. Refused if another
    dashboard has the title, if the dashboard is provisioned from a file, or if its folder does not exist.
    Errors: InputError. Source: runbook, items 33 to 37; Grafana docs, HTTP API, Dashboard; errata E18.
    """
    wanted = [_settings_of(grafana, title) for title in dict.fromkeys(titles)]
    existing, folders = grafana.search(), grafana.search("dash-folder")
    rows, steps = [], []
    for each in wanted:
        shipped = _shipped(grafana, limits, each)
        row = _observed(grafana, shipped["uid"]) | {"title": each.title, "current": "false"}
        live = grafana.dashboard(shipped["uid"])
        others = [hit["uid"] for hit in existing if hit["title"] == each.title and hit["uid"] != shipped["uid"]]
        if others and live is None:
            return _refused(
                f"another dashboard has the title {each.title!r} (uid {', '.join(others)});"
                " to overwrite it, set its uid in [[grafana.dashboard]]"
            )
        if live is not None and live["meta"].get("provisioned"):
            return _refused(
                f"{each.title!r} is provisioned from a file on Grafana's host, which would overwrite the import;"
                " change that file instead"
            )
        matches = [hit["uid"] for hit in folders if each.folder and hit["title"] == each.folder]
        if each.folder and len(matches) != 1:
            return _refused(f"found {len(matches)} folders titled {each.folder!r} for {each.title!r}, need exactly one")
        folder = matches[0] if matches else str(live["meta"].get("folderUid") or "") if live else ""
        row["folder_uid"] = folder
        if live is not None and contents(live["dashboard"]) == contents(shipped):
            row["current"] = "true"
        else:
            steps.append(_save(grafana, shipped, _version(live), folder))
        rows.append(row)
    stale = [row for row in rows if row["current"] == "false"]
    return Plan(
        verb="import",
        scope="grafana",
        targets=tuple(inert(f"{row['title']} (uid {row['uid']})", 200) for row in stale),
        observed=tuple(rows),
        steps=tuple(steps),
        expected=_all_current(
            import_status, "the dashboards show what was imported", titles=[str(row["title"]) for row in stale]
        )
        if steps
        else None,
        undo=_undo_call(stale) if steps else "nothing to undo",
        risk=Risk.CHANGE,
        note="" if steps else "no titles were given" if not rows else "the dashboards are up to date",
    )


@change
def restore_dashboards(grafana: Grafana, *, uids: list[str], versions: list[int]) -> Plan:
    """Plan to restore each dashboard to an earlier version; version 0 deletes it.

    This undoes `import_dashboards`, whose plan records the versions. Only dashboards with our tag are ever deleted.
    Errors: InputError unless there is one version for each uid. Source: Grafana docs, HTTP API, Dashboard versions.
    """
    if len(uids) != len(versions) or len(set(uids)) != len(uids):
        raise InputError(
            f"got {len(uids)} uids and {len(versions)} versions", hint="one version for each uid, no uid twice"
        )
    rows, steps, removed = [], [], []
    for uid, version in zip(uids, versions, strict=True):
        live = grafana.dashboard(uid)
        row = _observed(grafana, uid) | {"to_version": fact(version)}
        if live is None and version:
            return _refused(f"no dashboard has uid {uid!r}, so its version {version} cannot be restored", "restore")
        if live is not None and not version:
            if TAG not in (live["dashboard"].get("tags") or []):
                return _refused(
                    f"the dashboard with uid {uid!r} was not imported by xai-runbook: it has no tag {TAG}", "restore"
                )
            steps.append(_remove(grafana, uid))
            removed.append(uid)
        elif live is not None and version != _version(live):
            earlier = grafana.dashboard_version(uid, version)
            folder = str(live["meta"].get("folderUid") or "")
            steps.append(_save(grafana, {**earlier, "uid": uid}, _version(live), folder))
        rows.append(row)
    remaining = [row for row in rows if row["uid"] not in removed]
    return Plan(
        verb="restore",
        scope="grafana",
        targets=tuple(inert(f"{row['title'] or row['uid']} to version {row['to_version']}", 200) for row in rows)
        if steps
        else (),
        observed=tuple(rows),
        steps=tuple(steps),
        expected=_all_current(restore_status, "the dashboards are at these versions", uids=uids, versions=versions)
        if steps
        else None,
        undo="plan grafana.import_dashboards again" if removed or not steps else _undo_call(remaining),
        risk=Risk.DESTRUCTIVE if removed else Risk.CHANGE,
        note="" if steps else "the dashboards are at these versions already",
    )


def import_status(grafana: Grafana, limits: Limits, *, titles: list[str]) -> DataFrame:
    """Return one row per title: uid, version (0 if it does not exist), current ("true" if it shows what we ship)."""
    from pandas import DataFrame

    rows = []
    for title in titles:
        shipped = _shipped(grafana, limits, _settings_of(grafana, title))
        live = grafana.dashboard(shipped["uid"])
        same = live is not None and contents(live["dashboard"]) == contents(shipped)
        rows.append({"title": title, "uid": shipped["uid"], "version": _version(live), "current": str(same).lower()})
    return DataFrame(rows)


def restore_status(grafana: Grafana, *, uids: list[str], versions: list[int]) -> DataFrame:
    """Return one row per uid: version, current ("true" if it shows that version's contents; for 0, if it is gone)."""
    from pandas import DataFrame

    rows = []
    for uid, version in zip(uids, versions, strict=True):
        live = grafana.dashboard(uid)
        if live is None or not version:
            same = live is None and not version
        else:
            same = contents(live["dashboard"]) == contents(grafana.dashboard_version(uid, version))
        rows.append({"uid": uid, "version": _version(live), "current": str(same).lower()})
    return DataFrame(rows)


def _settings_of(grafana: Grafana, title: str) -> DashboardSettings:
    """Return the one [[grafana.dashboard]] of the settings with this title."""
    if title not in FILES:
        raise InputError(f"{title!r:.80} is not a shipped dashboard", hint=f"one of {', '.join(FILES)}")
    matches = [each for each in grafana.access.dashboard if each.title == title]
    if len(matches) != 1:
        raise InputError(
            f"the settings name {len(matches)} dashboards {title!r}", hint="one [[grafana.dashboard]] for it"
        )
    return matches[0]


def _shipped(grafana: Grafana, limits: Limits, wanted: DashboardSettings) -> dict[str, Any]:
    shipped = dashboard(wanted.title, grafana.settings, limits)
    return {**shipped, "uid": wanted.uid or shipped["uid"]}


def _observed(grafana: Grafana, uid: str) -> dict[str, str | None]:
    live = grafana.dashboard(uid)
    title = inert(str(live["dashboard"].get("title", "")), 200) if live else ""
    return {"title": title, "uid": uid, "version": fact(_version(live))}


def _version(live: Mapping[str, Any] | None) -> int:
    return int(live["dashboard"]["version"]) if live else 0


def _save(grafana: Grafana, saved: Mapping[str, Any], version: int, folder_uid: str) -> HttpCall:
    """Save only if the dashboard still has `version`; 0 means that it must not exist yet."""
    body = {
        "dashboard": {**{key: value for key, value in saved.items() if key != "id"}, "id": None, "version": version},
        "folderUid": folder_uid,
        "message": "xai-runbook",
        "overwrite": False,
    }
    return HttpCall(
        part="grafana",
        method="POST",
        path="/api/dashboards/db",
        body=json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False),
        equivalent=f"curl -f -H @authorization --json @{saved['uid']}.json {grafana.url}/api/dashboards/db",
    )


def _remove(grafana: Grafana, uid: str) -> HttpCall:
    path = f"/api/dashboards/uid/{uid}"
    equivalent = f"curl -f -H @authorization -X DELETE {grafana.url}{path}"
    return HttpCall(part="grafana", method="DELETE", path=path, equivalent=equivalent)


def _undo_call(rows: list[dict[str, str | None]]) -> Call:
    uids, versions = [str(row["uid"]) for row in rows], [int(row["version"] or 0) for row in rows]
    return Call.of(restore_dashboards, uids=uids, versions=versions)


def _all_current(query: Callable[..., DataFrame], description: str, **arguments: list[str] | list[int]) -> Condition:
    return Condition.of(
        query, column="current", comparison="==", value="true", within="10s", description=description, **arguments
    )


def _refused(why: str, verb: str = "import") -> Plan:
    return refused_plan(verb, inert(why, 400))
