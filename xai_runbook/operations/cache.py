"""The cache: Redis or Valkey. So far whether it answers; section 4 of the runbook scales it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from xai_runbook.errors import CannotAsk
from xai_runbook.findings import Finding, Limit, judge

if TYPE_CHECKING:
    from pandas import DataFrame

    from xai_runbook.clients.cache import Cache


def reachability(cache: Cache) -> DataFrame:
    """One row: whether the cache answers. Down is a known answer, not an error.

    Columns: target, answers (1 or 0), version, seconds, error. Source: Redis docs, INFO.
    """
    from pandas import DataFrame

    started = time.monotonic()
    row: dict[str, object] = {"target": cache.address, "answers": 0, "version": "", "error": ""}
    try:
        row |= {"version": str(cache.info().get("redis_version", "")), "answers": 1}
    except CannotAsk as error:
        row["error"] = error.what
    return DataFrame([row | {"seconds": time.monotonic() - started}])


def check_reachable(reachability: DataFrame, limit: Limit) -> Finding:
    """`alert` where the cache does not answer."""
    return judge(limit, reachability, value="answers", target="target", noun="answers")
