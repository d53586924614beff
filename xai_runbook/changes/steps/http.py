"""How an HTTP request acts: it is sent once, to the part's own address, as its operator, within its timeout."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Mapping
from copy import copy
from typing import TYPE_CHECKING, Any, get_args
from urllib.parse import urlsplit

from xai_runbook.changes.steps.result import OutcomeUnknown, StepResult
from xai_runbook.clients.http.deadline import within
from xai_runbook.clients.http.get import connection_error, header_value, new_connection
from xai_runbook.errors import CannotAsk, NotConfigured, Refused, SettingsError, inert
from xai_runbook.model.steps import HttpCall
from xai_runbook.model.window import duration_seconds
from xai_runbook.settings import models

if TYPE_CHECKING:
    from xai_runbook.environment import Environment

PARTS = tuple(
    part
    for part in models.PARTS
    if (operator := models.table(part).model_fields.get("operator"))
    and models.HttpOperatorSettings in get_args(operator.annotation)
)
"""Parts that requests can be sent to: their settings have an operator for requests."""
_MOST_BYTES = 2**20
_TIMED_OUT_WAITING = 408  # HTTP 408: a proxy may have passed the request on


class RequestSender:
    """The operators' credentials for the parts that a plan names."""

    def __init__(self, env: Environment) -> None:
        self._env = env
        self._access: dict[str, models.AccessSettings] = {}

    def open(self, plan_identity: Mapping[str, str]) -> None:
        """Verify the identity of each part, as its operator. Errors: Refused, CannotAsk, NotConfigured."""
        for part in PARTS:
            then = {key.partition(".")[2]: value for key, value in plan_identity.items() if key.startswith(f"{part}.")}
            if then:
                self._access[part] = self._operator_access(part, then)

    def send(self, step: HttpCall) -> StepResult:
        """Send the request, once. Errors: OutcomeUnknown if it was sent and its effect is unknown (P17)."""
        access = self._access.get(step.part)
        if access is None:
            return StepResult(False, f"the plan names no {step.part}")
        try:
            request = _Request(access, step)
        except SettingsError as error:
            return StepResult(False, f"the request was not sent: {error}")
        try:
            status, location, body = within(
                duration_seconds(access.timeout), request.ask, on=request.url, give_up=request.give_up
            )
        except (CannotAsk, OSError, http.client.HTTPException, ValueError) as error:
            cause = error if isinstance(error, CannotAsk) else connection_error(error, request.url)
            if request.begun:
                raise OutcomeUnknown(
                    f"the request was sent, but no answer arrived: {cause.what}", on=request.url
                ) from None
            return StepResult(False, f"the request was not sent: {cause.what}")
        finally:
            request.connection.close()
        message = f"HTTP {status} {_server_message(body)}".strip()
        if 200 <= status < 300:
            return StepResult(True, message)
        if 400 <= status < 500 and status != _TIMED_OUT_WAITING:
            return StepResult(False, f"{step.part} refused the request: {message}")
        if 300 <= status < 400:  # not followed: that would send the credential elsewhere
            message = f"the server redirects to {inert(location, 200)!r} (HTTP {status})"
        raise OutcomeUnknown(f"its effect is unknown: {message}", on=request.url)

    def _operator_access(self, part: str, then: Mapping[str, str]) -> models.AccessSettings:
        """Return the access with the operator's credential, if it leads to the server that the plan is for (P3)."""
        read_only = getattr(self._env.settings, part)
        if read_only is None or read_only.operator is None:
            raise NotConfigured(
                f"{part}.operator is not configured, so nothing can be changed",
                on=f"{part}.operator",
                hint=f"add a table [{part}.operator] with auth_value, a reference to its secret",
            )
        access: models.AccessSettings = read_only.model_copy(update=dict(read_only.operator))
        handle = copy(getattr(self._env, part))
        handle.access = access
        now = handle.identity()
        wrong = sorted(key for key in now if then.get(key) != now[key])
        if wrong:
            raise Refused(
                f"the operator connects to another {part}: {wrong[0]} is {now[wrong[0]]}, not {then.get(wrong[0])}",
                on=access.url if hasattr(access, "url") else part,
                hint=f"{part}.operator in the settings",
            )
        return access


class _Request:
    """One request, which knows whether any of it may have been sent (`begun`)."""

    def __init__(self, access: Any, step: HttpCall) -> None:
        parts = urlsplit(access.url)
        self.url = f"{access.url}{step.path}"
        self.begun = False
        self._given_up = False
        self._lock = threading.Lock()
        self._method, self._target, self._body = step.method, f"{parts.path}{step.path}", step.body.encode()
        self._headers = {
            "Accept": "application/json",
            "Content-Type": "application/json",
            "User-Agent": "xai-runbook apply",
            access.auth_header: header_value(access.auth_value),
        }
        seconds = duration_seconds(access.timeout)
        self.connection = new_connection(access, parts.scheme, parts.hostname or "", parts.port, seconds)

    def ask(self) -> tuple[int, str, bytes]:
        """Send the request; return status, redirect target and the start of the body."""
        self.connection.connect()
        with self._lock:
            if self._given_up:  # the caller has stopped waiting: nothing may be sent now
                self.connection.close()
                raise TimeoutError
            self.begun = True
        self.connection.request(self._method, self._target, body=self._body or None, headers=self._headers)
        with self.connection.getresponse() as response:
            return response.status, response.headers.get("Location", ""), response.read(_MOST_BYTES)

    def give_up(self) -> None:
        """End the wait; a request that has not been sent never will be."""
        with self._lock:
            self._given_up = True
        if self.connection.sock is not None:
            self.connection.sock.shutdown(socket.SHUT_RDWR)


def _server_message(body: bytes) -> str:
    """Return the message in a JSON answer, else an empty string."""
    import json

    try:
        answer = json.loads(body)
    except ValueError:
        return ""
    message = answer.get("message") or answer.get("status") or "" if isinstance(answer, dict) else ""
    return inert(str(message), 200)
