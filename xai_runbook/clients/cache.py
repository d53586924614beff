"""Redis or Valkey, asked whether it answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from xai_runbook.clients.http.deadline import within
from xai_runbook.errors import AccessDenied, BadAnswer, TimedOut, Unreachable
from xai_runbook.model.window import duration_seconds

if TYPE_CHECKING:
    from xai_runbook.settings import models


class Cache:
    """A handle that asks INFO and nothing else."""

    def __init__(self, settings: models.CacheSettings, *, environment: str = "", production: bool = False) -> None:
        self.environment, self.production = environment, production
        self._settings = settings

    @property
    def address(self) -> str:
        """Where it is."""
        return f"{self._settings.host}:{self._settings.port}"

    def identity(self) -> dict[str, str]:
        """Where it is."""
        return {"address": self.address}

    def info(self) -> dict[str, Any]:
        """What the server says of itself: `redis_version`, `role`, `used_memory` (bytes) and more.

        Errors: Unreachable, TimedOut, AccessDenied, BadAnswer.
        """
        where, seconds = self._settings, duration_seconds(self._settings.timeout)
        client = redis.Redis(
            host=where.host,
            port=where.port,
            ssl=where.tls,
            socket_timeout=seconds,
            socket_connect_timeout=seconds,
            password=where.password.reveal() if where.password else None,
            retry=Retry(NoBackoff(), 0),  # its default asks for seconds; whether it answers now is the question
        )
        try:
            answer = within(seconds, client.info, on=self.address, give_up=client.connection_pool.disconnect)
        except (redis.AuthenticationError, redis.exceptions.NoPermissionError):
            raise AccessDenied(
                "no or a wrong password", on=self.address, hint="cache.password in the settings"
            ) from None
        except redis.TimeoutError:
            raise TimedOut("no answer in time", on=self.address, hint="is it overloaded, stopped or cut off?") from None
        except redis.ConnectionError as error:
            raise Unreachable(
                f"the connection failed: {_reason(error)}", on=self.address, hint="does it run, and on this port?"
            ) from None
        except (redis.RedisError, UnicodeError, ValueError, TypeError, LookupError) as error:
            # its text is not shown: Redis repeats the arguments of a command that it refuses, AUTH's too
            raise BadAnswer(
                f"what came is no answer to INFO ({type(error).__name__})",
                on=self.address,
                hint="is it a Redis server?",
            ) from None
        finally:
            client.close()
        if not {"redis_version", "valkey_version"} & set(answer):
            raise BadAnswer("what came is no answer to INFO", on=self.address, hint="is it a Redis server?")
        return dict(answer)


def _reason(error: BaseException) -> str:
    """The operating system's own words for it, where there are some."""
    while error.__cause__ is not None or error.__context__ is not None:
        error = error.__cause__ or error.__context__ or error
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
