"""Client of Redis or Valkey, which only reads INFO."""

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
    """A Redis or Valkey server; INFO is the only command sent."""

    def __init__(self, settings: models.CacheSettings, *, environment: str = "", production: bool = False) -> None:
        self.environment, self.production = environment, production
        self._settings = settings

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return f"{self._settings.host}:{self._settings.port}"

    def identity(self) -> dict[str, str]:
        """Return its address."""
        return {"address": self.address}

    def info(self) -> dict[str, Any]:
        """Return the server's INFO: `redis_version`, `role`, `used_memory` (bytes) and more.

        Errors: Unreachable, TimedOut, AccessDenied, BadAnswer.
        """
        settings, seconds = self._settings, duration_seconds(self._settings.timeout)
        client = redis.Redis(
            host=settings.host,
            port=settings.port,
            ssl=settings.tls,
            socket_timeout=seconds,
            socket_connect_timeout=seconds,
            password=settings.password.reveal() if settings.password else None,
            retry=Retry(NoBackoff(), 0),  # the default retries for seconds, but we ask whether it answers now
        )
        try:
            answer = within(seconds, client.info, on=self.address, give_up=client.connection_pool.disconnect)
        except (redis.AuthenticationError, redis.exceptions.NoPermissionError):
            raise AccessDenied(
                "the server rejected the password", on=self.address, hint="check cache.password in the settings"
            ) from None
        except redis.TimeoutError:
            raise TimedOut(
                "no answer in time", on=self.address, hint="check whether it is overloaded, stopped or cut off"
            ) from None
        except redis.ConnectionError as error:
            raise Unreachable(
                f"the connection failed: {_reason(error)}",
                on=self.address,
                hint="check that it runs and listens on this port",
            ) from None
        except (redis.RedisError, UnicodeError, ValueError, TypeError, LookupError) as error:
            # without the server's text: Redis repeats the arguments of a command that it refuses, AUTH's too
            raise BadAnswer(
                f"the answer to INFO cannot be read ({type(error).__name__})",
                on=self.address,
                hint="check that it is a Redis server",
            ) from None
        finally:
            client.close()
        if not {"redis_version", "valkey_version"} & set(answer):
            raise BadAnswer(
                "the answer to INFO has no version", on=self.address, hint="check that it is a Redis server"
            )
        return dict(answer)


def _reason(error: BaseException) -> str:
    """Return the operating system's message of the original error, else the error's type."""
    while error.__cause__ is not None or error.__context__ is not None:
        error = error.__cause__ or error.__context__ or error
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
