"""A Grafana server, read over its HTTP API; nothing but GET is sent to it."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from xai_runbook.clients.http.get import get
from xai_runbook.errors import AccessDenied, BadAnswer, TooMuch, Unreachable, WrongServer, inert
from xai_runbook.model.secret import Secret

if TYPE_CHECKING:
    from xai_runbook.settings.models import GrafanaSettings as Access
    from xai_runbook.settings.promql import PromqlSettings

T = TypeVar("T")

MOST_FOUND = 5000
"""What a search answers at most, whatever is asked for."""
_MOST_BYTES = 32 * 2**20
_NOT_ONE = "is it a Grafana? The runbook has it on 12030; its own port is 3000, and a proxy may add a path"
_ROLE = "grafana.auth_value: a service account's token, role Viewer; for data sources the right to read them too"
_UNHEALTHY = (400, 404, 500, 501, 503)


class Grafana:
    """One server, as one who may only view."""

    def __init__(self, access: Access, settings: PromqlSettings, *, environment: str, production: bool) -> None:
        self.access, self.settings = access, settings
        self.environment, self.production = environment, production

    @property
    def url(self) -> str:
        """Where it is."""
        return self.access.url

    def identity(self) -> dict[str, str]:
        """Where it is, and which of its organizations we are in: each has dashboards of its own."""
        told = self._ask("/api/org")
        return {"url": self.url, "organization": self._read(lambda: f"{told['id']:d} {inert(str(told['name']), 60)}")}

    def health(self) -> dict[str, str]:
        """What it says of itself: `database` ("ok" or not), and `version` where it tells.

        Errors: WrongServer where it is no Grafana; Unreachable, TimedOut ...
        """
        try:
            answer = get(self.access, self.url, "/api/health", informative=(503,), most_bytes=_MOST_BYTES)
            told = answer.json()
            return {"database": str(told["database"]), "version": str(told.get("version", ""))}
        except (WrongServer, BadAnswer) as error:
            raise WrongServer(f"no Grafana answers here: it {error.what}", on=self.url, hint=_NOT_ONE) from None
        except (KeyError, TypeError, AttributeError):
            if answer.status == 503:  # a proxy in front of a Grafana that is not there
                raise Unreachable("is not ready (HTTP 503)", on=self.url, hint="does it start, or not run?") from None
            raise WrongServer(
                "no Grafana answers here: it does not tell its health", on=self.url, hint=_NOT_ONE
            ) from None

    def search(self, kind: str = "dash-db") -> list[dict[str, str]]:
        """All that we may see: dashboards, or folders by kind "dash-folder".

        Each has title, uid, folder (the folder's title), url (a path) and folder_uid.
        Errors: TooMuch where there are more than a search tells.
        """
        found = self._ask("/api/search", type=kind, limit=str(MOST_FOUND))
        rows = self._read(lambda: [_found(hit) for hit in _list(found)])
        if len(rows) >= MOST_FOUND:
            raise TooMuch(
                f"finds {MOST_FOUND} hits or more", on=self.url, hint="a Grafana, or an organization, with fewer"
            )
        return rows

    def dashboard(self, uid: str) -> dict[str, Any] | None:
        """Its JSON and its `meta`; None where there is none of that uid, or none that we may see."""
        told = self._ask(f"/api/dashboards/uid/{quote(uid, safe='')}", informative=(404,))
        if isinstance(told, dict) and "dashboard" not in told and "message" in told:
            return None
        return self._read(lambda: {"dashboard": dict(told["dashboard"]), "meta": dict(told["meta"])})

    def dashboard_version(self, uid: str, version: int) -> dict[str, Any]:
        """The JSON of an earlier version. Errors: WrongServer where that is not kept."""
        told = self._ask(f"/api/dashboards/uid/{quote(uid, safe='')}/versions/{version:d}")
        return self._read(lambda: dict(told["data"]))

    def datasources(self) -> list[dict[str, str]]:
        """Every data source: name, uid, type, url (as Grafana's machine sees it), is_default ("true" or "false")."""
        told = self._ask("/api/datasources")
        return self._read(
            lambda: [
                {
                    **{key: inert(str(source[key]), 200) for key in ("name", "uid", "type")},
                    "url": inert(str(source.get("url", "")), 200),
                    "is_default": str(bool(source.get("isDefault"))).lower(),
                }
                for source in _list(told)
            ]
        )

    def datasource_health(self, uid: str) -> tuple[str, str]:
        """What Grafana's own check of a data source says: OK, ERROR, UNKNOWN, or "" where it has no check; and why."""
        path = f"/api/datasources/uid/{quote(uid, safe='')}/health"
        answer = get(self.access, self.url, path, informative=_UNHEALTHY, most_bytes=_MOST_BYTES)
        told = answer.json()
        words = inert(str(told.get("message", "")), 300) if isinstance(told, dict) else ""
        if isinstance(told, dict) and told.get("status") in ("OK", "ERROR", "UNKNOWN"):
            return str(told["status"]), words
        # its plugin has no check; any other failure leaves open whether it works
        return ("", words) if answer.status in (404, 501) else ("UNKNOWN", f"HTTP {answer.status} {words}".strip())

    def accepts_login(self, user: str, password: str) -> bool:
        """Whether that login works: tried once, by HTTP basic authentication. For logins that are no secret alone.

        False where basic authentication is turned off, too. Errors: AccessDenied where too many were tried.
        """
        access = self.access.model_copy(
            update={"auth_header": "Authorization", "auth_value": _Published(user, password)}
        )
        try:
            answer = get(access, self.url, "/api/user", most_bytes=_MOST_BYTES)
        except AccessDenied as error:
            if "429" in error.what:
                raise
            return False
        return bool(self._read(lambda: answer.json()["login"]) == user)

    def _ask(self, path: str, *, informative: tuple[int, ...] = (), **parameters: str) -> Any:
        try:
            answer = get(self.access, self.url, path, parameters, informative=informative, most_bytes=_MOST_BYTES)
        except AccessDenied as error:
            raise AccessDenied(error.what, on=error.on, hint=_ROLE) from None
        return answer.json()

    def _read(self, rows: Callable[[], T]) -> T:
        try:
            return rows()
        except (KeyError, TypeError, ValueError, AttributeError):
            raise BadAnswer("its answer cannot be read", on=self.url, hint=_NOT_ONE) from None

    def __repr__(self) -> str:
        return f"Grafana({self.url})"


class _Published(Secret):
    """A login that a manual prints: sent where a secret would be, and none."""

    __slots__ = ("_header",)

    def __init__(self, user: str, password: str) -> None:
        self.reference = "env:THE_DEFAULT_LOGIN"
        self._header = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    def reveal(self) -> str:
        return self._header


def _list(told: Any) -> list[Any]:
    if not isinstance(told, list):  # an empty object would pass for "none"
        raise TypeError
    return told


def _found(hit: Any) -> dict[str, str]:
    known = {"title": hit["title"], "uid": hit["uid"], "folder": hit.get("folderTitle", ""), "url": hit.get("url", "")}
    return {key: inert(str(text), 300) for key, text in {**known, "folder_uid": hit.get("folderUid", "")}.items()}
