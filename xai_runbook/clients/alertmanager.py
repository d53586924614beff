"""An Alertmanager, read over its API v2: what it has been told, and what it keeps quiet about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xai_runbook.clients.http.get import get
from xai_runbook.errors import BadAnswer, WrongServer, inert

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from xai_runbook.settings.models import AlertmanagerSettings as Access

_ALERTS = ["labels", "state", "silences", "inhibitors", "receivers", "starts_at", "updated_at"]
_SILENCES = ["silence", "state", "matchers", "by", "why", "starts_at", "ends_at"]
_HINT = "Alertmanager's own port is 9093; is it of version 0.16 or later?"


class Alertmanager:
    """One server, which is asked what it is before it is believed; nothing but GET is sent to it."""

    def __init__(self, access: Access, *, environment: str = "", production: bool = False) -> None:
        self.environment, self.production = environment, production
        self.access = access
        self._version = ""

    def identity(self) -> dict[str, str]:
        """Where it is."""
        return {"url": self.url}

    @property
    def url(self) -> str:
        """Where it is."""
        return self.access.url

    def status(self) -> dict[str, str]:
        """`version`, and `cluster`: ready, settling or disabled. Errors: WrongServer where it is no Alertmanager.

        Its configuration, which the same answer holds and which may name secrets, is left where it is.
        """
        try:
            told = get(self.access, self.url, "/api/v2/status").json()
            version, cluster = told["versionInfo"]["version"], told["cluster"]["status"]
            if not isinstance(version, str) or not isinstance(cluster, str):
                raise TypeError
        except (BadAnswer, WrongServer) as error:
            raise WrongServer(f"no Alertmanager answers here: it {error.what}", on=self.url, hint=_HINT) from None
        except (KeyError, TypeError):
            words = "no Alertmanager answers here: it does not say its version"
            raise WrongServer(words, on=self.url, hint=_HINT) from None
        return {"version": inert(version, 100), "cluster": inert(cluster, 100)}

    def alerts(self) -> pd.DataFrame:
        """Every alert that it holds; none is an empty frame.

        Columns: labels (a dict), state (active; suppressed: silenced or inhibited; unprocessed), silences (their ids),
        inhibitors (fingerprints of the alerts that hide it), receivers (names), starts_at, updated_at (UTC).
        """
        return self._table("alerts", _alert, _ALERTS)

    def silences(self) -> pd.DataFrame:
        """Every silence, those that are expired too for as long as it keeps them; none is an empty frame.

        Columns: silence (its id), state (active, pending, expired), matchers (a list of dicts: name, value, isRegex,
        isEqual), by, why, starts_at, ends_at (UTC).
        """
        return self._table("silences", _silence, _SILENCES)

    def _table(self, what: str, row: Callable[[Any], dict[str, Any]], columns: list[str]) -> pd.DataFrame:
        import pandas as pd

        if not self._version:  # something else may answer a list to anything
            self._version = self.status()["version"]
        told = get(self.access, self.url, f"/api/v2/{what}").json()
        try:
            frame = pd.DataFrame([row(item) for item in told], columns=columns)
            for column in columns:
                if column.endswith("_at"):
                    frame[column] = pd.to_datetime(frame[column], utc=True, format="ISO8601").astype(
                        "datetime64[ms, UTC]"
                    )
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
            raise BadAnswer(f"its answer has no {what} that can be read", on=self.url, hint=_HINT) from None
        return frame

    def __repr__(self) -> str:
        return f"Alertmanager({self.url})"


def _alert(item: Any) -> dict[str, Any]:
    status = item["status"]
    return {
        "labels": {str(name): str(text) for name, text in item["labels"].items()},
        "state": str(status["state"]),
        "silences": [str(one) for one in status["silencedBy"]],
        "inhibitors": [str(one) for one in status["inhibitedBy"]],
        "receivers": [inert(str(one["name"]), 100) for one in item["receivers"]],
        "starts_at": item["startsAt"],
        "updated_at": item["updatedAt"],
    }


def _silence(item: Any) -> dict[str, Any]:
    return {
        "silence": str(item["id"]),
        "state": str(item["status"]["state"]),
        "matchers": [
            {
                "name": str(each["name"]),
                "value": str(each["value"]),
                "isRegex": bool(each["isRegex"]),
                "isEqual": bool(each.get("isEqual", True)),  # said from version 0.22 on
            }
            for each in item["matchers"]
        ],
        "by": inert(str(item["createdBy"]), 200),
        "why": inert(str(item["comment"]), 500),
        "starts_at": item["startsAt"],
        "ends_at": item["endsAt"],
    }
