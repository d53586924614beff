"""Read-only client of Grafana's HTTP API; only GET is sent."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from xai_runbook.clients.http.get import get
from xai_runbook.errors import AccessDenied, BadAnswer, TooMuch, Unreachable, WrongServer, inert
from xai_runbook.model.secret import Secret

if TYPE_CHECKING:
    from xai_runbook.settings.models import GrafanaSettings
    from xai_runbook.settings.promql import PromqlSettings

T = TypeVar("T")

MAX_HITS = 5000
"""Grafana's limit of hits in one search."""
_MAX_BYTES = 32 * 2**20
_CHECK_URL = "check the URL: the runbook's port is 12030, Grafana's own is 3000, and a proxy may add a path"
_CHECK_ROLE = "grafana.auth_value: the token of a service account with role Viewer that may also read data sources"
_UNHEALTHY = (400, 404, 500, 501, 503)


class Grafana:
    """One Grafana, read as a viewer."""

    def __init__(
        self, access: GrafanaSettings, settings: PromqlSettings, *, environment: str, production: bool
    ) -> None:
        self.access, self.settings = access, settings
        self.environment, self.production = environment, production

    @property
    def url(self) -> str:
        """Its URL."""
        return self.access.url

    def identity(self) -> dict[str, str]:
        """Return its URL and the current organization; each organization has its own dashboards."""
        org = self._ask("/api/org")
        return {"url": self.url, "organization": self._read(lambda: f"{org['id']:d} {inert(str(org['name']), 60)}")}

    def health(self) -> dict[str, str]:
        """Return `database` ("ok" or not) and `version` ("" if not reported).

        Errors: WrongServer if it is no Grafana; Unreachable, TimedOut ...
        """
        try:
            answer = get(self.access, self.url, "/api/health", informative=(503,), max_bytes=_MAX_BYTES)
            health = answer.json()
            return {"database": str(health["database"]), "version": str(health.get("version", ""))}
        except (WrongServer, BadAnswer) as error:
            raise WrongServer(f"no Grafana answers here: it {error.what}", on=self.url, hint=_CHECK_URL) from None
        except (KeyError, TypeError, AttributeError):
            if answer.status == 503:  # from a proxy, while Grafana is down
                raise Unreachable(
                    "is not ready (HTTP 503)", on=self.url, hint="check whether it is starting or down"
                ) from None
            raise WrongServer(
                "no Grafana answers here: the answer has no health", on=self.url, hint=_CHECK_URL
            ) from None

    def search(self, kind: str = "dash-db") -> list[dict[str, str]]:
        """Return all dashboards that the token may see, or with kind "dash-folder" all folders.

        Each has title, uid, folder (the folder's title), url (a path) and folder_uid.
        Errors: TooMuch for more than one search returns.
        """
        hits = self._ask("/api/search", type=kind, limit=str(MAX_HITS))
        rows = self._read(lambda: [_search_row(hit) for hit in _list(hits)])
        if len(rows) >= MAX_HITS:
            raise TooMuch(
                f"has {MAX_HITS} dashboards or more", on=self.url, hint="a token of an organization with fewer"
            )
        return rows

    def dashboard(self, uid: str) -> dict[str, Any] | None:
        """Return `dashboard` (its JSON) and `meta`; None if there is no such dashboard that the token may see."""
        answer = self._ask(f"/api/dashboards/uid/{quote(uid, safe='')}", informative=(404,))
        if isinstance(answer, dict) and "dashboard" not in answer and "message" in answer:
            return None
        return self._read(lambda: {"dashboard": dict(answer["dashboard"]), "meta": dict(answer["meta"])})

    def dashboard_version(self, uid: str, version: int) -> dict[str, Any]:
        """Return the JSON of an earlier version. Errors: WrongServer if Grafana no longer has it."""
        answer = self._ask(f"/api/dashboards/uid/{quote(uid, safe='')}/versions/{version:d}")
        return self._read(lambda: dict(answer["data"]))

    def datasources(self) -> list[dict[str, str]]:
        """Return all data sources: name, uid, type, url (from Grafana's machine), is_default ("true" or "false")."""
        sources = self._ask("/api/datasources")
        return self._read(
            lambda: [
                {
                    **{key: inert(str(source[key]), 200) for key in ("name", "uid", "type")},
                    "url": inert(str(source.get("url", "")), 200),
                    "is_default": str(bool(source.get("isDefault"))).lower(),
                }
                for source in _list(sources)
            ]
        )

    def datasource_health(self, uid: str) -> tuple[str, str]:
        """Run Grafana's check of a data source: OK, ERROR, UNKNOWN, or "" if it has no check; and the message."""
        path = f"/api/datasources/uid/{quote(uid, safe='')}/health"
        answer = get(self.access, self.url, path, informative=_UNHEALTHY, max_bytes=_MAX_BYTES)
        health = answer.json()
        message = inert(str(health.get("message", "")), 300) if isinstance(health, dict) else ""
        if isinstance(health, dict) and health.get("status") in ("OK", "ERROR", "UNKNOWN"):
            return str(health["status"]), message
        # 404 and 501: its plugin has no check; after any other failure it is not known whether the data source works
        return ("", message) if answer.status in (404, 501) else ("UNKNOWN", f"HTTP {answer.status} {message}".strip())

    def accepts_login(self, user: str, password: str) -> bool:
        """Try a published default login once, by HTTP basic authentication. Never pass a secret.

        False also if basic authentication is turned off. Errors: AccessDenied after too many attempts.
        """
        access = self.access.model_copy(
            update={"auth_header": "Authorization", "auth_value": _DefaultLogin(user, password)}
        )
        try:
            answer = get(access, self.url, "/api/user", max_bytes=_MAX_BYTES)
        except AccessDenied as error:
            if "429" in error.what:
                raise
            return False
        return bool(self._read(lambda: answer.json()["login"]) == user)

    def _ask(self, path: str, *, informative: tuple[int, ...] = (), **parameters: str) -> Any:
        try:
            answer = get(self.access, self.url, path, parameters, informative=informative, max_bytes=_MAX_BYTES)
        except AccessDenied as error:
            raise AccessDenied(error.what, on=error.on, hint=_CHECK_ROLE) from None
        return answer.json()

    def _read(self, rows: Callable[[], T]) -> T:
        try:
            return rows()
        except (KeyError, TypeError, ValueError, AttributeError):
            raise BadAnswer("its answer cannot be read", on=self.url, hint=_CHECK_URL) from None

    def __repr__(self) -> str:
        return f"Grafana({self.url})"


class _DefaultLogin(Secret):
    """A login that Grafana's manual prints, in the place of a secret."""

    __slots__ = ("_header",)

    def __init__(self, user: str, password: str) -> None:
        self.reference = "env:THE_DEFAULT_LOGIN"
        self._header = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    def reveal(self) -> str:
        return self._header


def _list(answer: Any) -> list[Any]:
    if not isinstance(answer, list):  # an empty object would look like an empty list
        raise TypeError
    return answer


def _search_row(hit: Any) -> dict[str, str]:
    row = {"title": hit["title"], "uid": hit["uid"], "folder": hit.get("folderTitle", ""), "url": hit.get("url", "")}
    return {key: inert(str(text), 300) for key, text in {**row, "folder_uid": hit.get("folderUid", "")}.items()}
