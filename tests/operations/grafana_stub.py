"""RECORDED SHAPES, NOT A GRAFANA: a server that answers as Grafana 11's HTTP API does, for lack of a Grafana here.

What it answers is written after Grafana's HTTP API reference (Health, Organization, Search, Dashboard, Dashboard
versions, Data source) and its own rules for saving: a version that is not the stored one is refused with 412 unless
`overwrite`. It proves that we speak as the documents say; it does not prove that a Grafana listens.
"""

from __future__ import annotations

import base64
import http.server
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any
from urllib.parse import parse_qs, urlsplit

VIEWER, EDITOR = "Bearer glsa_viewer", "Bearer glsa_editor"
UNAUTHORIZED = {"message": "Unauthorized", "messageId": "auth.unauthorized", "statusCode": 401, "traceID": ""}
NOT_FOUND = {"message": "Dashboard not found", "traceID": ""}


class Stub:
    """What the stub holds. `then` is what the next writing request meets, once: see `Requests._write`."""

    def __init__(self) -> None:
        self.url = ""
        self.version, self.database = "11.6.0", "ok"
        self.organizations = {VIEWER: (1, "Main Org."), EDITOR: (1, "Main Org.")}
        self.versions: dict[str, list[dict[str, Any]]] = {}
        """Each dashboard's versions by uid, the present one last."""
        self.meta: dict[str, dict[str, Any]] = {}
        self.folders = {"ops-folder": "Operations"}
        self.datasources: list[dict[str, Any]] = [
            {
                "id": 1, "uid": "PBFA97CFB590B2093", "orgId": 1, "name": "prometheus", "type": "prometheus",
                "typeName": "Prometheus", "typeLogoUrl": "public/app/plugins/datasource/prometheus/img/logo.svg",
                "access": "proxy", "url": "http://prometheus:9090", "user": "", "database": "", "basicAuth": False,
                "isDefault": True, "jsonData": {"httpMethod": "POST"}, "readOnly": False,
            }
        ]  # fmt: skip
        self.health: dict[str, tuple[int, dict[str, Any]]] = {
            "PBFA97CFB590B2093": (200, {"message": "Successfully queried the Prometheus API.", "status": "OK"})
        }
        self.logins = {"admin": "a better one"}
        self.answers: dict[str, tuple[int, bytes]] = {}
        """What a path answers instead."""
        self.then = ""
        self.asked: list[tuple[str, str]] = []
        self.written: list[dict[str, Any]] = []

    def put(self, dashboard: dict[str, Any], *, folder_uid: str = "", provisioned: bool = False) -> None:
        """Stores a version as if somebody had saved it."""
        uid = dashboard["uid"]
        versions = self.versions.setdefault(uid, [])
        versions.append({**deepcopy(dashboard), "id": 41, "version": len(versions) + 1})
        self.meta[uid] = {"folderUid": folder_uid, "provisioned": provisioned}

    def live(self, uid: str) -> dict[str, Any]:
        """The present version."""
        return self.versions[uid][-1]


class Requests(http.server.BaseHTTPRequestHandler):
    """Answers as the documents say."""

    server: Any

    @property
    def stub(self) -> Stub:
        return self.server.stub  # type: ignore[no-any-return]

    def do_GET(self) -> None:
        path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
        self.stub.asked.append(("GET", self.path))
        if path in self.stub.answers:
            status, body = self.stub.answers[path]
            self._raw(status, body)
        elif path == "/api/health":
            told = {"commit": "d2fdff9", "database": self.stub.database, "version": self.stub.version}
            self._say(200 if self.stub.database == "ok" else 503, told)
        elif path == "/api/user":
            self._user()
        elif self.headers.get("Authorization") not in self.stub.organizations:
            self._say(401, UNAUTHORIZED)
        else:
            self._say(*self._read(path.removeprefix("/api").strip("/").split("/"), query))

    def _read(self, path: list[str], query: dict[str, list[str]]) -> tuple[int, Any]:
        match path:
            case ["org"]:
                number, name = self.stub.organizations[self.headers["Authorization"]]
                return 200, {"id": number, "name": name, "address": {"address1": "", "city": "", "country": ""}}
            case ["search"]:
                return 200, self._folders() if query.get("type") == ["dash-folder"] else self._found()
            case ["dashboards", "uid", uid] if uid in self.stub.versions:
                meta = self.stub.meta[uid]
                told = {
                    "type": "db", "canSave": False, "canEdit": False, "canAdmin": False, "canStar": True, "slug": uid,
                    "url": f"/d/{uid}/{uid}", "expires": "0001-01-01T00:00:00Z", "isFolder": False,
                    "version": self.stub.live(uid)["version"], "provisionedExternalId": "",
                    "folderTitle": self.stub.folders.get(meta["folderUid"], "Dashboards"), **meta,
                }  # fmt: skip
                return 200, {"meta": told, "dashboard": self.stub.live(uid)}
            case ["dashboards", "uid", uid, "versions", number] if uid in self.stub.versions:
                for data in self.stub.versions[uid]:
                    if str(data["version"]) == number:
                        return 200, {"id": 1, "uid": uid, "version": data["version"], "message": "", "data": data}
                return 404, {"message": "Dashboard version not found", "traceID": ""}
            case ["dashboards", *_]:
                return 404, NOT_FOUND
            case ["datasources"]:
                return 200, self.stub.datasources
            case ["datasources", "uid", uid, "health"]:
                return self.stub.health.get(uid, (404, {"message": "Plugin not found", "traceID": ""}))
        return 404, {"message": "Not found"}

    def _found(self) -> list[dict[str, Any]]:
        return [
            {
                "id": 41, "uid": uid, "orgId": 1, "title": self.stub.live(uid)["title"], "uri": f"db/{uid}",
                "url": f"/d/{uid}/{uid}", "slug": "", "type": "dash-db", "tags": self.stub.live(uid).get("tags", []),
                "isStarred": False, "sortMeta": 0, "isDeleted": False,
                **({"folderId": 7, "folderUid": meta["folderUid"], "folderTitle": self.stub.folders[meta["folderUid"]],
                    "folderUrl": f"/dashboards/f/{meta['folderUid']}/x"} if meta["folderUid"] else {}),
            }
            for uid, meta in self.stub.meta.items()
        ]  # fmt: skip

    def _folders(self) -> list[dict[str, Any]]:
        return [
            {"id": 7, "uid": uid, "orgId": 1, "title": title, "uri": f"db/{uid}", "url": f"/dashboards/f/{uid}/x",
             "slug": "", "type": "dash-folder", "tags": [], "isStarred": False, "sortMeta": 0}
            for uid, title in self.stub.folders.items()
        ]  # fmt: skip

    def _user(self) -> None:
        kind, _, told = self.headers.get("Authorization", "").partition(" ")
        user, _, password = base64.b64decode(told).decode().partition(":") if kind == "Basic" else ("", "", "")
        if password and self.stub.logins.get(user) == password:
            self._say(200, {"id": 1, "login": user, "email": "admin@localhost", "orgId": 1, "isGrafanaAdmin": True})
        else:
            refused = {"message": "Invalid username or password", "messageId": "password-auth.failed"}
            self._say(401, {**refused, "statusCode": 401, "traceID": ""})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._write(lambda: self._saved(body))

    def do_DELETE(self) -> None:
        self._write(self._deleted)

    def _write(self, act: Any) -> None:
        self.stub.asked.append((self.command, self.path))
        then, self.stub.then = self.stub.then, ""
        who = self.headers.get("Authorization")
        if who != EDITOR:
            self._say(401 if who not in self.stub.organizations else 403, UNAUTHORIZED)
        elif then == "fails before":
            self._say(500, {"message": "Failed to save dashboard"})
        elif then == "redirects":
            self.send_response(302)
            self.send_header("Location", "https://login.example.com/")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif then == "hangs":
            self.server.over.wait(30)
        elif then == "is cut off":
            self.connection.shutdown(socket.SHUT_RDWR)
        elif then == "is too fast":
            self._say(429, {"message": "Too many requests"})
        else:
            status, told = act()
            if then == "fails after":
                self._say(502, {"message": "Bad Gateway"})
            elif then == "is cut off after":
                self.connection.shutdown(socket.SHUT_RDWR)
            else:
                self._say(status, told)

    def _saved(self, body: dict[str, Any]) -> tuple[int, Any]:
        self.stub.written.append(body)
        made = body["dashboard"]
        uid = made["uid"]
        stored = self.stub.live(uid)["version"] if uid in self.stub.versions else 0
        if stored and self.stub.meta[uid]["provisioned"]:
            return 400, {"message": "Cannot save provisioned dashboard"}
        if stored and made.get("version") != stored and not body["overwrite"]:
            words = "The dashboard has been changed by someone else"
            return 412, {"message": words, "status": "version-mismatch"}
        # what a Grafana adds of its own must not make it another dashboard
        self.stub.put({**made, "liveNow": False, "weekStart": ""}, folder_uid=body["folderUid"])
        live = self.stub.live(uid)
        told = {"id": 41, "uid": uid, "url": f"/d/{uid}/{uid}", "slug": uid, "folderUid": body["folderUid"]}
        return 200, {**told, "status": "success", "version": live["version"]}

    def _deleted(self) -> tuple[int, Any]:
        uid = self.path.rpartition("/")[2]
        if uid not in self.stub.versions:
            return 404, NOT_FOUND
        title = self.stub.versions.pop(uid)[-1]["title"]
        del self.stub.meta[uid]
        return 200, {"title": title, "message": f"Dashboard {title} deleted", "uid": uid}

    def _say(self, status: int, told: Any) -> None:
        self._raw(status, json.dumps(told).encode())

    def _raw(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=UTF-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    """Ends its requests with itself; a client that hung up is no news."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


@contextmanager
def serving() -> Iterator[Stub]:
    """A stub on loopback."""
    server = Server(("127.0.0.1", 0), Requests)
    server.stub, server.over = Stub(), threading.Event()  # type: ignore[attr-defined]
    server.stub.url = f"http://127.0.0.1:{server.server_address[1]}"  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.stub  # type: ignore[attr-defined]
    finally:
        server.over.set()  # type: ignore[attr-defined]
        server.shutdown()
        server.server_close()
        thread.join(5)
