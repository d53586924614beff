"""Judges a limit over time as Prometheus' alerting rules do, and says also what they keep silent about.

Prometheus drops an alert whose value has gone, so a dead exporter looks like health. Here a target without a value,
or with NaN, is `unknown`.
"""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from xai_runbook.errors import InputError, inert
from xai_runbook.model.findings import Finding, Limit, Status
from xai_runbook.model.units import quantity
from xai_runbook.model.window import duration_text

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pandas import DataFrame

INACTIVE, PENDING, FIRING, UNKNOWN = STATES = ("inactive", "pending", "firing", "unknown")
_OURS = ("at", "value", "idle")
_MOST_NAMED = 8
MOST_AGE_SECONDS = 300.0
"""Prometheus' own lookback: what was last heard longer ago says nothing of now."""


def evaluate(
    frame: DataFrame,
    limit: Limit,
    *,
    step_seconds: float,
    at: datetime | None = None,
    lookback_seconds: float = 0.0,
    left_open: bool = False,
) -> DataFrame:
    """The state of `limit` for each target at each instant of the rules' grid, up to `at` (else the newest value).

    `frame` has columns at, value, perhaps idle (bool: nothing happened that could be measured), and labels, which
    together name a target. The grid is the multiples of `step_seconds` in Unix time. The value at an instant is the
    newest one not older than `lookback_seconds`: 0 for the answer of a range query, to which Prometheus has applied its
    own; 300 for raw samples, of which one that is exactly as old counts, unless `left_open`: before Prometheus 3 it
    does, from then on not (`clients.prometheus_rules.left_open`). A range query's answer must have been asked on the
    same grid; there Prometheus has seen its stale markers too, which end a value at once, and raw samples lack.

    Columns: the labels, at (UTC), value (NaN where there is none), state, active_since (UTC; NaT unless pending or
    firing). Pending from the first instant on the wrong side, firing once that has held for the limit's duration; one
    instant on the right side, or without a value, starts it anew. `unknown` is Prometheus' inactive, without a value.
    Source: Prometheus docs, Alerting rules; promtool's test rules agree (tests).
    """
    if step_seconds <= 0:
        raise InputError("step must be greater than 0s", hint="use the rules' evaluation interval")
    labels = [column for column in frame.columns if column not in _OURS]
    if frame.empty:
        return pd.DataFrame(columns=[*labels, "at", "value", "state", "active_since"])
    step, lookback = round(step_seconds * 1000), round(lookback_seconds * 1000)
    if left_open and lookback:
        lookback -= 1  # Prometheus' times are whole milliseconds
    held = math.ceil(limit.duration_seconds * 1000)
    seen_ms = frame["at"].astype("datetime64[ms, UTC]").astype("int64").to_numpy()
    last = math.floor(at.timestamp() * 1000) if at is not None else int(seen_ms.max())
    grid = np.arange(-(-int(seen_ms.min()) // step) * step, last // step * step + 1, step, dtype=np.int64)
    values = frame["value"].to_numpy(dtype=np.float64)
    idles = frame["idle"].to_numpy(dtype=bool) if "idle" in frame else np.zeros(len(frame), dtype=bool)
    targets = _targets(frame, labels)
    parts = []
    for rows in targets:
        order = rows[np.argsort(seen_ms[rows], kind="stable")]
        found = np.searchsorted(seen_ms[order], grid, side="right") - 1
        newest = order[np.maximum(found, 0)]
        fresh = (found >= 0) & (grid - seen_ms[newest] <= lookback)
        value = np.where(fresh, values[newest], np.nan)
        state, since = _states(grid, value, fresh & idles[newest], limit, held)
        parts.append((value, state, since))
    value, state, since = (np.concatenate(each) for each in zip(*parts, strict=True))
    firsts = frame.iloc[[int(rows[0]) for rows in targets]]
    told = {label: pd.Series(np.repeat(firsts[label].to_numpy(), len(grid)), dtype="str") for label in labels}
    at_ms = pd.DatetimeIndex(np.tile(grid, len(targets)).view("M8[ms]")).tz_localize("UTC")
    active = pd.DatetimeIndex(since.view("M8[ms]")).tz_localize("UTC")
    return pd.DataFrame({**told, "at": at_ms, "value": value, "state": state, "active_since": active})


def _targets(frame: DataFrame, labels: list[str]) -> list[NDArray[np.intp]]:
    """The rows of each target, in the order of their labels."""
    if not labels:
        return [np.arange(len(frame))]
    # a range's labels are categories, sorted: their codes are compared, and not a text for each sample
    texts = {
        name: frame[name] if isinstance(frame[name].dtype, pd.CategoricalDtype) else frame[name].astype("str")
        for name in labels
    }
    groups = pd.DataFrame(texts).groupby(labels, sort=True, observed=True).indices
    return [np.asarray(rows, dtype=np.intp) for rows in groups.values()]


def _states(
    grid: NDArray[np.int64], value: NDArray[np.float64], idle: NDArray[np.bool_], limit: Limit, held: int
) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
    """The states along one target's grid, and since when (NaT: the least integer)."""
    wrong = value > limit.threshold if limit.direction == "above" else value < limit.threshold  # NaN is neither
    starts = np.where(wrong & ~np.concatenate(([False], wrong[:-1])), grid, np.iinfo(np.int64).min)
    since = np.where(wrong, np.maximum.accumulate(starts), np.iinfo(np.int64).min)
    firing = wrong & (grid - np.where(wrong, since, grid) >= held)
    state = np.full(len(grid), INACTIVE, dtype=object)
    state[(np.isnan(value) | (np.isinf(value) & ~wrong)) & ~idle] = UNKNOWN  # infinitely well is a division by 0
    state[wrong] = PENDING
    state[firing] = FIRING
    return state, since


def target_names(judged: DataFrame) -> list[str]:
    """What to call the target of each row of `evaluate`: its instance and what else tells it from the others.

    Labels that all share are left out.
    """
    labels = [column for column in judged.columns if column not in (*_OURS, "state", "active_since")]
    telling = [label for label in labels if label == "instance" or judged[label].nunique() > 1] or labels[:1]
    ordered = sorted(telling, key=lambda label: label != "instance")
    return (
        [
            inert(" ".join(text for text in row if text), 200) or "all"
            for row in zip(*(judged[label].astype("str") for label in ordered), strict=True)
        ]
        if ordered
        else ["all"] * len(judged)
    )


def check_alert(frame: DataFrame, limit: Limit, *, at: datetime | None = None) -> Finding:
    """The finding of `limit` now, or `at` another instant, from the frame of `monitoring.signal`.

    `alert` names each target for which the limit has been exceeded for its duration; `unknown` names those that have
    no value at the newest instant, or whose newest data is older than five minutes; pending is `ok`, and said. What
    looks well in an answer that Prometheus calls partial is `unknown`.
    Source: runbook, Alert Thresholds; errata E19.
    """
    end = at or frame.attrs.get("end")
    now = at or datetime.now(UTC)
    if frame.empty:
        return Finding.unknown(limit.name, f"there is no series of {limit.name}", limit)
    newest = end or frame["at"].max().to_pydatetime()
    age = (now - newest).total_seconds()
    if age > MOST_AGE_SECONDS:
        words = f"the newest data is {duration_text(round(age))} old, from {newest:%Y-%m-%d %H:%M:%S} UTC"
        return Finding.unknown(limit.name, words, limit)
    judged = evaluate(frame, limit, step_seconds=_step_seconds(frame), at=end)
    if judged.empty:
        return Finding.unknown(limit.name, f"no value before {newest:%Y-%m-%d %H:%M:%S} UTC", limit)
    last = judged[judged["at"] == judged["at"].max()].reset_index(drop=True)
    finding = _finding(last.assign(target=target_names(last)), limit, newest.astimezone(UTC))
    partial = inert("; ".join(frame.attrs.get("partial", [])), 300)
    if not partial:
        return finding
    status = Status.UNKNOWN if finding.status is Status.OK else finding.status
    return replace(finding, status=status, summary=f"the answer is partial ({partial}): {finding.summary}")


def _step_seconds(frame: DataFrame) -> float:
    """The grid that the frame was asked on; the least distance of its instants where it does not say so itself."""
    if "step_seconds" in frame.attrs:
        return float(frame.attrs["step_seconds"])
    gaps = np.diff(np.unique(frame["at"].astype("datetime64[ms, UTC]").astype("int64").to_numpy()))
    return float(gaps.min()) / 1000 if len(gaps) else 1.0


def _finding(last: DataFrame, limit: Limit, at: datetime) -> Finding:
    """The finding over the states of all targets at one instant."""
    rows: dict[str, list[dict[str, Any]]] = {
        state: [
            {str(key): cell for key, cell in row.items()} for row in last[last["state"] == state].to_dict("records")
        ]
        for state in STATES
    }
    finding = Finding(
        name=limit.name, status=Status.OK, severity=limit.severity, summary="", hint=limit.hint, observed_at=at
    )
    silent = rows[UNKNOWN]
    without_value = f"no value for {_few([row['target'] for row in silent])}" if silent else ""
    if rows[FIRING]:
        words = f"{limit.title}: {_worst(rows[FIRING], limit)} ({len(rows[FIRING])} of {len(last)} {limit.describe()})"
        since = min(row["active_since"] for row in rows[FIRING])
        told = [
            f"{words} since {since:%Y-%m-%d %H:%M:%S} UTC at the latest",
            _pending(rows[PENDING], limit, at),
            without_value,
        ]
        return replace(
            finding, status=Status.ALERT, summary=_joined(told), targets=tuple(row["target"] for row in rows[FIRING])
        )
    if silent:
        told = [
            f"unknown, because {len(silent)} of {len(last)} have {without_value}",
            _pending(rows[PENDING], limit, at),
        ]
        return replace(
            finding, status=Status.UNKNOWN, summary=_joined(told), targets=tuple(row["target"] for row in silent)
        )
    values = [row for row in rows[INACTIVE] + rows[PENDING] if not math.isnan(row["value"])]
    idle = len(last) - len(values)
    told = [
        f"{_worst(values, limit)}, alert when {limit.describe()}" if values else "no requests to judge",
        _pending(rows[PENDING], limit, at),
        f"no requests on {idle} of {len(last)}" if idle and values else "",
    ]
    return replace(finding, summary=_joined(told))


def _worst(rows: list[dict[str, Any]], limit: Limit) -> str:
    row = (max if limit.direction == "above" else min)(rows, key=lambda row: row["value"])
    if len(rows) > 1 and all(other["value"] == row["value"] for other in rows):
        return f"{quantity(row['value'], limit.unit)} on each of {len(rows)}"
    return f"{quantity(row['value'], limit.unit)} on {row['target']}"


def _pending(rows: list[dict[str, Any]], limit: Limit, at: datetime) -> str:
    """ "node-3 above 10 blocks for 12s of 5m": what will be an alert if it stays so."""
    oldest = sorted(rows, key=lambda row: row["active_since"])
    return _few(
        [
            f"{row['target']} {limit.direction} {quantity(limit.threshold, limit.unit)} for"
            f" {duration_text(round((row['at'] - row['active_since']).total_seconds()))} of {limit.duration}"
            for row in oldest
        ]
    )


def _few(told: list[str]) -> str:
    """The first of them and how many more: the finding's targets, or the table, name all."""
    more = f" and {len(told) - _MOST_NAMED} more" if len(told) > _MOST_NAMED else ""
    return ", ".join(told[:_MOST_NAMED]) + more


def _joined(told: list[str]) -> str:
    return inert("; ".join(text for text in told if text))
