"""Read-only client of Alertmanager's API v2: its alerts and silences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xai_runbook.clients.http.get import get
from xai_runbook.errors import BadAnswer, WrongServer, inert

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from xai_runbook.settings.models import AlertmanagerSettings

_ALERTS = ["labels", "state", "silences", "inhibitors", "receivers", "starts_at", "updated_at"]
_SILENCES = ["silence", "state", "matchers", "by", "why", "starts_at", "ends_at"]
_HINT = "Alertmanager's own port is 9093; the version must be 0.16 or later"


class Alertmanager:
    """One Alertmanager. Only GET is sent, and first its version is read to make sure that it is one."""

    def __init__(self, access: AlertmanagerSettings, *, environment: str = "", production: bool = False) -> None:
        self.environment, self.production = environment, production
        self.access = access
        self._version = ""

    def identity(self) -> dict[str, str]:
        """Return its URL."""
        return {"url": self.url}

    @property
    def url(self) -> str:
        """Its URL."""
        return self.access.url

    def status(self) -> dict[str, str]:
        """Return `version`, and `cluster`: ready, settling or disabled. Errors: WrongServer if it is no Alertmanager.

        The configuration in the same answer is ignored, because it may contain secrets.
        """
        try:
            status = get(self.access, self.url, "/api/v2/status").json()
            version, cluster = status["versionInfo"]["version"], status["cluster"]["status"]
            if not isinstance(version, str) or not isinstance(cluster, str):
                raise TypeError
        except (BadAnswer, WrongServer) as error:
            raise WrongServer(f"no Alertmanager answers here: it {error.what}", on=self.url, hint=_HINT) from None
        except (KeyError, TypeError):
            message = "no Alertmanager answers here: the answer has no version"
            raise WrongServer(message, on=self.url, hint=_HINT) from None
        return {"version": inert(version, 100), "cluster": inert(cluster, 100)}

    def alerts(self) -> pd.DataFrame:
        """Return all its alerts; an empty frame if there are none.

        Columns: labels (a dict), state (active; suppressed: silenced or inhibited; unprocessed), silences (their ids),
        inhibitors (fingerprints of the alerts that hide it), receivers (names), starts_at, updated_at (UTC).
        """
        return self._table("alerts", _alert, _ALERTS)

    def silences(self) -> pd.DataFrame:
        """Return all its silences, expired ones too while it keeps them; an empty frame if there are none.

        Columns: silence (its id), state (active, pending, expired), matchers (a list of dicts: name, value, isRegex,
        isEqual), by, why, starts_at, ends_at (UTC).
        """
        return self._table("silences", _silence, _SILENCES)

    def _table(self, what: str, row: Callable[[Any], dict[str, Any]], columns: list[str]) -> pd.DataFrame:
        import pandas as pd

        if not self._version:  # another server may answer any path with a list
            self._version = self.status()["version"]
        items = get(self.access, self.url, f"/api/v2/{what}").json()
        try:
            frame = pd.DataFrame([row(item) for item in items], columns=columns)
            for column in columns:
                if column.endswith("_at"):
                    frame[column] = pd.to_datetime(frame[column], utc=True, format="ISO8601").astype(
                        "datetime64[ms, UTC]"
                    )
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
            raise BadAnswer(f"the {what} in its answer cannot be read", on=self.url, hint=_HINT) from None
        return frame

    def __repr__(self) -> str:
        return f"Alertmanager({self.url})"


def _alert(item: Any) -> dict[str, Any]:
    status = item["status"]
    return {
        "labels": {str(name): str(text) for name, text in item["labels"].items()},
        "state": str(status["state"]),
        "silences": [str(silence) for silence in status["silencedBy"]],
        "inhibitors": [str(fingerprint) for fingerprint in status["inhibitedBy"]],
        "receivers": [inert(str(receiver["name"]), 100) for receiver in item["receivers"]],
        "starts_at": item["startsAt"],
        "updated_at": item["updatedAt"],
    }


def _silence(item: Any) -> dict[str, Any]:
    return {
        "silence": str(item["id"]),
        "state": str(item["status"]["state"]),
        "matchers": [
            {
                "name": str(matcher["name"]),
                "value": str(matcher["value"]),
                "isRegex": bool(matcher["isRegex"]),
                "isEqual": bool(matcher.get("isEqual", True)),  # present from version 0.22 on
            }
            for matcher in item["matchers"]
        ],
        "by": inert(str(item["createdBy"]), 200),
        "why": inert(str(item["comment"]), 500),
        "starts_at": item["startsAt"],
        "ends_at": item["endsAt"],
    }
