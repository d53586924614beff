"""RECORDED SHAPES, NOT A GRAFANA: what Grafana 11's HTTP API answers.

The responses follow Grafana's HTTP API reference (Health, Organization, Search, Dashboard, Dashboard versions, Data
source) and its rule for saving: an outdated version is refused with 412 unless `overwrite`. This proves that our
requests match the documentation, not that a Grafana accepts them.
"""

from __future__ import annotations

import base64
import json
from copy import deepcopy
from typing import Any
from urllib.parse import parse_qs, urlsplit

DATASOURCE_UID = "PBFA97CFB590B2093"
UNAUTHORIZED = {"message": "Unauthorized", "messageId": "auth.unauthorized", "statusCode": 401, "traceID": ""}
NOT_FOUND = {"message": "Dashboard not found", "traceID": ""}
HEALTHY = (200, {"message": "Successfully queried the Prometheus API.", "status": "OK"})


class RecordedGrafana:
    """State of the simulated Grafana, and its response to each request."""

    def __init__(self, viewer: str, editor: str, prometheus: str = "http://prometheus:9090") -> None:
        """Create it with one data source. `viewer` and `editor` are its accounts' Authorization headers."""
        self.editor = editor
        self.version, self.database = "11.6.0", "ok"
        self.organizations = {viewer: (1, "Main Org."), editor: (1, "Main Org.")}
        self.versions: dict[str, list[dict[str, Any]]] = {}
        """Versions of each dashboard by uid, the current one last."""
        self.meta: dict[str, dict[str, Any]] = {}
        self.folders = {"ops-folder": "Operations"}
        self.logins = {"admin": "a better one"}
        self.datasources: list[dict[str, Any]] = [
            {
                "id": 1, "uid": DATASOURCE_UID, "orgId": 1, "name": "prometheus", "type": "prometheus",
                "typeName": "Prometheus", "typeLogoUrl": "public/app/plugins/datasource/prometheus/img/logo.svg",
                "access": "proxy", "url": prometheus, "user": "", "database": "", "basicAuth": False,
                "isDefault": True, "jsonData": {"httpMethod": "POST"}, "readOnly": False,
            }
        ]  # fmt: skip

    def put(self, dashboard: dict[str, Any], *, folder_uid: str = "", provisioned: bool = False) -> None:
        """Store a new version of a dashboard, as if a user had saved it."""
        uid = dashboard["uid"]
        versions = self.versions.setdefault(uid, [])
        versions.append({**deepcopy(dashboard), "id": 41, "version": len(versions) + 1})
        self.meta[uid] = {"folderUid": folder_uid, "provisioned": provisioned}

    def live(self, uid: str) -> dict[str, Any]:
        """Return the current version of a dashboard."""
        return self.versions[uid][-1]

    def datasource_health(self, uid: str) -> tuple[int, dict[str, Any]]:
        """Return status and body of a data source's health check."""
        return HEALTHY if uid == DATASOURCE_UID else (404, {"message": "Plugin not found", "traceID": ""})

    def read(self, target: str, authorization: str) -> tuple[int, Any]:
        """Return status and body for a GET of this path and query; `authorization` is the Authorization header."""
        path, query = urlsplit(target).path, parse_qs(urlsplit(target).query)
        if path == "/api/health":
            health = {"commit": "d2fdff9", "database": self.database, "version": self.version}
            return (200 if self.database == "ok" else 503), health
        if path == "/api/user":
            return self._user(authorization)
        if authorization not in self.organizations:
            return 401, UNAUTHORIZED
        match path.removeprefix("/api").strip("/").split("/"):
            case ["org"]:
                number, name = self.organizations[authorization]
                return 200, {"id": number, "name": name, "address": {"address1": "", "city": "", "country": ""}}
            case ["search"]:
                return 200, self._folders() if query.get("type") == ["dash-folder"] else self._search_results()
            case ["dashboards", "uid", uid] if uid in self.versions:
                meta = self.meta[uid]
                details = {
                    "type": "db", "canSave": False, "canEdit": False, "canAdmin": False, "canStar": True, "slug": uid,
                    "url": f"/d/{uid}/{uid}", "expires": "0001-01-01T00:00:00Z", "isFolder": False,
                    "version": self.live(uid)["version"], "provisionedExternalId": "",
                    "folderTitle": self.folders.get(meta["folderUid"], "Dashboards"), **meta,
                }  # fmt: skip
                return 200, {"meta": details, "dashboard": self.live(uid)}
            case ["dashboards", "uid", uid, "versions", number] if uid in self.versions:
                for data in self.versions[uid]:
                    if str(data["version"]) == number:
                        return 200, {"id": 1, "uid": uid, "version": data["version"], "message": "", "data": data}
                return 404, {"message": "Dashboard version not found", "traceID": ""}
            case ["dashboards", *_]:
                return 404, NOT_FOUND
            case ["datasources"]:
                return 200, self.datasources
            case ["datasources", "uid", uid, "health"]:
                return self.datasource_health(uid)
        return 404, {"message": "Not found"}

    def write(self, method: str, target: str, authorization: str, body: bytes) -> tuple[int, Any]:
        """Perform a POST or DELETE and return status and body; only the editor may write."""
        if refusal := self.refusal(authorization):
            return refusal
        path = urlsplit(target).path
        if method == "POST" and path == "/api/dashboards/db":
            return self._save(json.loads(body))
        if method == "DELETE" and path.startswith("/api/dashboards/uid/"):
            return self._delete(path.rpartition("/")[2])
        return 404, {"message": "Not found"}

    def refusal(self, authorization: str) -> tuple[int, Any] | None:
        """Return the response to an account that may not write, or None if it may."""
        if authorization == self.editor:
            return None
        return 403 if authorization in self.organizations else 401, UNAUTHORIZED

    def _save(self, body: dict[str, Any]) -> tuple[int, Any]:
        dashboard = body["dashboard"]
        uid = dashboard["uid"]
        stored = self.live(uid)["version"] if uid in self.versions else 0
        if stored and self.meta[uid]["provisioned"]:
            return 400, {"message": "Cannot save provisioned dashboard"}
        if stored and dashboard.get("version") != stored and not body["overwrite"]:
            message = "The dashboard has been changed by someone else"
            return 412, {"message": message, "status": "version-mismatch"}
        # fields that Grafana adds must not count as a change of the dashboard
        self.put({**dashboard, "liveNow": False, "weekStart": ""}, folder_uid=body["folderUid"])
        saved = {"id": 41, "uid": uid, "url": f"/d/{uid}/{uid}", "slug": uid, "folderUid": body["folderUid"]}
        return 200, {**saved, "status": "success", "version": self.live(uid)["version"]}

    def _delete(self, uid: str) -> tuple[int, Any]:
        if uid not in self.versions:
            return 404, NOT_FOUND
        title = self.versions.pop(uid)[-1]["title"]
        del self.meta[uid]
        return 200, {"title": title, "message": f"Dashboard {title} deleted", "uid": uid}

    def _search_results(self) -> list[dict[str, Any]]:
        return [
            {
                "id": 41, "uid": uid, "orgId": 1, "title": self.live(uid)["title"], "uri": f"db/{uid}",
                "url": f"/d/{uid}/{uid}", "slug": "", "type": "dash-db", "tags": self.live(uid).get("tags", []),
                "isStarred": False, "sortMeta": 0, "isDeleted": False,
                **({"folderId": 7, "folderUid": meta["folderUid"], "folderTitle": self.folders[meta["folderUid"]],
                    "folderUrl": f"/dashboards/f/{meta['folderUid']}/x"} if meta["folderUid"] else {}),
            }
            for uid, meta in self.meta.items()
        ]  # fmt: skip

    def _folders(self) -> list[dict[str, Any]]:
        return [
            {"id": 7, "uid": uid, "orgId": 1, "title": title, "uri": f"db/{uid}", "url": f"/dashboards/f/{uid}/x",
             "slug": "", "type": "dash-folder", "tags": [], "isStarred": False, "sortMeta": 0}
            for uid, title in self.folders.items()
        ]  # fmt: skip

    def _user(self, authorization: str) -> tuple[int, Any]:
        kind, _, credentials = authorization.partition(" ")
        user, _, password = base64.b64decode(credentials).decode().partition(":") if kind == "Basic" else ("", "", "")
        if password and self.logins.get(user) == password:
            return 200, {"id": 1, "login": user, "email": "admin@localhost", "orgId": 1, "isGrafanaAdmin": True}
        refusal = {"message": "Invalid username or password", "messageId": "password-auth.failed"}
        return 401, {**refusal, "statusCode": 401, "traceID": ""}
