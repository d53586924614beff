"""Brings the runbook's five dashboards into Grafana, and takes them back. Runbook, Grafana Dashboards."""

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
    from xai_runbook.settings.models import Dashboard


@change
def import_dashboards(grafana: Grafana, limits: Limits, *, titles: list[str]) -> Plan:
    """A Plan that makes Grafana's dashboards of these titles what `xai-runbook dashboards export` writes.

    Each is found by its uid, the settings' or the shipped one; one that already shows the same is left alone. Grafana
    refuses to save over a version that is not the one that was seen (HTTP 412). Refused where another dashboard has
    the title, where a file on Grafana's disk provides it, and where the folder is not there. Errors: InputError.
    Source: runbook, items 33 to 37; Grafana docs, HTTP API, Dashboard; errata E18.
    """
    wanted = [_named(grafana, title) for title in dict.fromkeys(titles)]
    every, folders = grafana.search(), grafana.search("dash-folder")
    rows, steps = [], []
    for each in wanted:
        made = _made(grafana, limits, each)
        row = _seen(grafana, made["uid"]) | {"title": each.title, "current": "false"}
        live = grafana.dashboard(made["uid"])
        others = [hit["uid"] for hit in every if hit["title"] == each.title and hit["uid"] != made["uid"]]
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
        places = [hit["uid"] for hit in folders if each.folder and hit["title"] == each.folder]
        if each.folder and len(places) != 1:
            return _refused(f"found {len(places)} folders titled {each.folder!r} for {each.title!r}, need exactly one")
        folder = places[0] if places else str(live["meta"].get("folderUid") or "") if live else ""
        row["folder_uid"] = folder
        if live is not None and contents(live["dashboard"]) == contents(made):
            row["current"] = "true"
        else:
            steps.append(_save(grafana, made, _version(live), folder))
        rows.append(row)
    stale = [row for row in rows if row["current"] == "false"]
    return Plan(
        verb="import",
        scope="grafana",
        targets=tuple(inert(f"{row['title']} (uid {row['uid']})", 200) for row in stale),
        observed=tuple(rows),
        steps=tuple(steps),
        expected=_true(imported, "the dashboards show what was imported", titles=[str(row["title"]) for row in stale])
        if steps
        else None,
        undo=_undo_call(stale) if steps else "nothing to undo",
        risk=Risk.CHANGE,
        note="" if steps else "no titles were given" if not rows else "the dashboards are up to date",
    )


@change
def restore_dashboards(grafana: Grafana, *, uids: list[str], versions: list[int]) -> Plan:
    """A Plan that saves an earlier version of each dashboard over the present one; version 0 removes it.

    The way back from `import_dashboards`, whose plan knows the versions. Only what is tagged as ours is ever removed.
    Errors: InputError where there is not one version for each uid.
    Source: Grafana docs, HTTP API, Dashboard versions.
    """
    if len(uids) != len(versions) or len(set(uids)) != len(uids):
        raise InputError(
            f"got {len(uids)} uids and {len(versions)} versions", hint="one version for each uid, no uid twice"
        )
    rows, steps, removed = [], [], []
    for uid, version in zip(uids, versions, strict=True):
        live = grafana.dashboard(uid)
        row = _seen(grafana, uid) | {"to_version": fact(version)}
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
            former = grafana.dashboard_version(uid, version)
            folder = str(live["meta"].get("folderUid") or "")
            steps.append(_save(grafana, {**former, "uid": uid}, _version(live), folder))
        rows.append(row)
    back = [row for row in rows if row["uid"] not in removed]
    return Plan(
        verb="restore",
        scope="grafana",
        targets=tuple(inert(f"{row['title'] or row['uid']} to version {row['to_version']}", 200) for row in rows)
        if steps
        else (),
        observed=tuple(rows),
        steps=tuple(steps),
        expected=_true(restored, "the dashboards are at these versions", uids=uids, versions=versions)
        if steps
        else None,
        undo="plan grafana.import_dashboards again" if removed or not steps else _undo_call(back),
        risk=Risk.DESTRUCTIVE if removed else Risk.CHANGE,
        note="" if steps else "the dashboards are at these versions already",
    )


def imported(grafana: Grafana, limits: Limits, *, titles: list[str]) -> DataFrame:
    """One row a title: uid, version (0 where it is not there), current ("true" where it shows what we ship)."""
    from pandas import DataFrame

    rows = []
    for title in titles:
        made = _made(grafana, limits, _named(grafana, title))
        live = grafana.dashboard(made["uid"])
        same = live is not None and contents(live["dashboard"]) == contents(made)
        rows.append({"title": title, "uid": made["uid"], "version": _version(live), "current": str(same).lower()})
    return DataFrame(rows)


def restored(grafana: Grafana, *, uids: list[str], versions: list[int]) -> DataFrame:
    """One row a uid: version now, current ("true" where it shows what that version did, or is gone for version 0)."""
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


def _named(grafana: Grafana, title: str) -> Dashboard:
    """What the settings say of that title."""
    if title not in FILES:
        raise InputError(f"{title!r:.80} is not a shipped dashboard", hint=f"one of {', '.join(FILES)}")
    named = [each for each in grafana.access.dashboard if each.title == title]
    if len(named) != 1:
        raise InputError(
            f"the settings name {len(named)} dashboards {title!r}", hint="one [[grafana.dashboard]] for it"
        )
    return named[0]


def _made(grafana: Grafana, limits: Limits, named: Dashboard) -> dict[str, Any]:
    shipped = dashboard(named.title, grafana.settings, limits)
    return {**shipped, "uid": named.uid or shipped["uid"]}


def _seen(grafana: Grafana, uid: str) -> dict[str, str | None]:
    live = grafana.dashboard(uid)
    title = inert(str(live["dashboard"].get("title", "")), 200) if live else ""
    return {"title": title, "uid": uid, "version": fact(_version(live))}


def _version(live: Mapping[str, Any] | None) -> int:
    return int(live["dashboard"]["version"]) if live else 0


def _save(grafana: Grafana, made: Mapping[str, Any], version: int, folder_uid: str) -> HttpCall:
    """Compare-and-set: `overwrite` false, and the version that was seen; 0 where nothing may be there yet."""
    body = {
        "dashboard": {**{key: value for key, value in made.items() if key != "id"}, "id": None, "version": version},
        "folderUid": folder_uid,
        "message": "xai-runbook",
        "overwrite": False,
    }
    return HttpCall(
        part="grafana",
        method="POST",
        path="/api/dashboards/db",
        body=json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False),
        equivalent=f"curl -f -H @authorization --json @{made['uid']}.json {grafana.url}/api/dashboards/db",
    )


def _remove(grafana: Grafana, uid: str) -> HttpCall:
    path = f"/api/dashboards/uid/{uid}"
    equivalent = f"curl -f -H @authorization -X DELETE {grafana.url}{path}"
    return HttpCall(part="grafana", method="DELETE", path=path, equivalent=equivalent)


def _undo_call(rows: list[dict[str, str | None]]) -> Call:
    uids, versions = [str(row["uid"]) for row in rows], [int(row["version"] or 0) for row in rows]
    return Call.of(restore_dashboards, uids=uids, versions=versions)


def _true(query: Callable[..., DataFrame], description: str, **arguments: list[str] | list[int]) -> Condition:
    return Condition.of(
        query, column="current", comparison="==", value="true", within="10s", description=description, **arguments
    )


def _refused(why: str, verb: str = "import") -> Plan:
    return refused_plan(verb, inert(why, 400))
