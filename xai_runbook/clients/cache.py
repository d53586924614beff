"""Redis or Valkey, asked whether it answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xai_runbook.clients.deadline import within
from xai_runbook.errors import AccessDenied, BadAnswer, Unreachable, inert
from xai_runbook.window import duration_seconds

if TYPE_CHECKING:
    from xai_runbook import settings


class Cache:
    """A handle that asks INFO and nothing else."""

    def __init__(self, settings: settings.Cache) -> None:
        self._settings = settings

    @property
    def address(self) -> str:
        """Where it is."""
        return f"{self._settings.host}:{self._settings.port}"

    def info(self) -> dict[str, Any]:
        """What the server says of itself: `redis_version`, `role`, `used_memory` (bytes) and more.

        Errors: Unreachable, TimedOut, AccessDenied, BadAnswer.
        """
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        where, seconds = self._settings, duration_seconds(self._settings.timeout)
        client = redis.Redis(
            host=where.host, port=where.port, ssl=where.tls, socket_timeout=seconds, socket_connect_timeout=seconds,
            password=where.password.reveal() if where.password else None,
            retry=Retry(NoBackoff(), 0),  # its default asks for seconds; whether it answers now is the question
        )
        try:
            answer = within(seconds, client.info, on=self.address, give_up=client.connection_pool.disconnect)
        except redis.AuthenticationError:
            raise AccessDenied("no or a wrong password", on=self.address, hint="cache.password in the settings") from None
        except (redis.ConnectionError, redis.TimeoutError) as error:
            raise Unreachable(
                f"the connection failed: {type(error).__name__}", on=self.address, hint="does it run, and on this port?"
            ) from None
        except (redis.RedisError, UnicodeError, ValueError) as error:
            raise BadAnswer(
                f"what came is no answer to INFO: {inert(str(error), 100)}", on=self.address, hint="is it a Redis server?"
            ) from None
        finally:
            client.close()
        return dict(answer)
