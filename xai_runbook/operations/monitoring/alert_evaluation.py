"""Evaluate a limit over time as Prometheus evaluates its alerting rules, with one difference.

Prometheus drops an alert when its series disappears, so a dead exporter looks healthy. Here a target without a value,
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
_NOT_LABELS = ("at", "value", "idle")
_MAX_LISTED = 8
MAX_AGE_SECONDS = 300.0
"""Prometheus' own lookback: older data does not describe the present."""


def evaluate(
    frame: DataFrame,
    limit: Limit,
    *,
    step_seconds: float,
    at: datetime | None = None,
    lookback_seconds: float = 0.0,
    left_open: bool = False,
) -> DataFrame:
    """Return the state of `limit` for each target at each evaluation, up to `at` (default: the newest sample).

    `frame` has the columns at, value, optionally idle (bool: NaN because there was nothing to measure), and labels that
    together identify a target. Evaluations are at multiples of `step_seconds` in Unix time. The value at an evaluation
    is the newest sample that is not older than `lookback_seconds`. Pass 0 for the result of a range query with the same
    step, where Prometheus has applied its own lookback and stale markers; 300 for raw samples. `left_open` excludes a
    sample that is exactly as old as the lookback: Prometheus does so from version 3 on.

    Columns: the labels, at (UTC), value (NaN if missing), state (inactive, pending, firing, unknown),
    active_since (UTC; NaT unless pending or firing). A target is pending from the first evaluation beyond the limit and
    firing once that has lasted for the limit's duration; one evaluation within the limit, or without a value, resets
    it. Where Prometheus would be inactive because there is no value, the state is unknown.
    Errors: InputError if the step is not positive. Source: Prometheus docs, Alerting rules.
    """
    if step_seconds <= 0:
        raise InputError("step must be greater than 0s", hint="use the rules' evaluation interval")
    labels = [column for column in frame.columns if column not in _NOT_LABELS]
    if frame.empty:
        return pd.DataFrame(columns=[*labels, "at", "value", "state", "active_since"])
    step, lookback = round(step_seconds * 1000), round(lookback_seconds * 1000)
    if left_open and lookback:
        lookback -= 1  # Prometheus' times are whole milliseconds
    duration_ms = math.ceil(limit.duration_seconds * 1000)
    sample_ms = frame["at"].astype("datetime64[ms, UTC]").astype("int64").to_numpy()
    last = math.floor(at.timestamp() * 1000) if at is not None else int(sample_ms.max())
    grid = np.arange(-(-int(sample_ms.min()) // step) * step, last // step * step + 1, step, dtype=np.int64)
    values = frame["value"].to_numpy(dtype=np.float64)
    idles = frame["idle"].to_numpy(dtype=bool) if "idle" in frame else np.zeros(len(frame), dtype=bool)
    targets = _targets(frame, labels)
    parts = []
    for rows in targets:
        order = rows[np.argsort(sample_ms[rows], kind="stable")]
        found = np.searchsorted(sample_ms[order], grid, side="right") - 1
        newest = order[np.maximum(found, 0)]
        fresh = (found >= 0) & (grid - sample_ms[newest] <= lookback)
        value = np.where(fresh, values[newest], np.nan)
        state, since = _states(grid, value, fresh & idles[newest], limit, duration_ms)
        parts.append((value, state, since))
    value, state, since = (np.concatenate(each) for each in zip(*parts, strict=True))
    firsts = frame.iloc[[int(rows[0]) for rows in targets]]
    label_columns = {label: pd.Series(np.repeat(firsts[label].to_numpy(), len(grid)), dtype="str") for label in labels}
    at_ms = pd.DatetimeIndex(np.tile(grid, len(targets)).view("M8[ms]")).tz_localize("UTC")
    active = pd.DatetimeIndex(since.view("M8[ms]")).tz_localize("UTC")
    return pd.DataFrame({**label_columns, "at": at_ms, "value": value, "state": state, "active_since": active})


def _targets(frame: DataFrame, labels: list[str]) -> list[NDArray[np.intp]]:
    """Return the row numbers of each target, in the order of their labels."""
    if not labels:
        return [np.arange(len(frame))]
    # the labels of a range query are sorted categories, which compare much faster than texts
    texts = {
        name: frame[name] if isinstance(frame[name].dtype, pd.CategoricalDtype) else frame[name].astype("str")
        for name in labels
    }
    groups = pd.DataFrame(texts).groupby(labels, sort=True, observed=True).indices
    return [np.asarray(rows, dtype=np.intp) for rows in groups.values()]


def _states(
    grid: NDArray[np.int64], value: NDArray[np.float64], idle: NDArray[np.bool_], limit: Limit, duration_ms: int
) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
    """Return one target's state at each evaluation, and since when in ms (NaT is the smallest integer)."""
    wrong = value > limit.threshold if limit.direction == "above" else value < limit.threshold  # NaN is neither
    starts = np.where(wrong & ~np.concatenate(([False], wrong[:-1])), grid, np.iinfo(np.int64).min)
    since = np.where(wrong, np.maximum.accumulate(starts), np.iinfo(np.int64).min)
    firing = wrong & (grid - np.where(wrong, since, grid) >= duration_ms)
    state = np.full(len(grid), INACTIVE, dtype=object)
    state[(np.isnan(value) | (np.isinf(value) & ~wrong)) & ~idle] = (
        UNKNOWN  # infinity within the limit comes from a division by 0
    )
    state[wrong] = PENDING
    state[firing] = FIRING
    return state, since


def target_names(judged: DataFrame) -> list[str]:
    """Return a target name for each row of `evaluate`: its instance, then the labels that differ between targets."""
    labels = [column for column in judged.columns if column not in (*_NOT_LABELS, "state", "active_since")]
    distinct = [label for label in labels if label == "instance" or judged[label].nunique() > 1] or labels[:1]
    ordered = sorted(distinct, key=lambda label: label != "instance")
    return (
        [
            inert(" ".join(text for text in row if text), 200) or "all"
            for row in zip(*(judged[label].astype("str") for label in ordered), strict=True)
        ]
        if ordered
        else ["all"] * len(judged)
    )


def check_alert(frame: DataFrame, limit: Limit, *, at: datetime | None = None) -> Finding:
    """Return the finding of `limit` now, or at another instant, from the frame of `monitoring.signal`.

    An alert lists each target that has exceeded the limit for its duration. Unknown lists the targets without a value
    at the newest evaluation. Data older than five minutes is unknown, and so is a healthy result that Prometheus marked
    as partial. Pending targets are ok and listed in the summary.
    Source: runbook, Alert Thresholds; errata E19.
    """
    end = at or frame.attrs.get("end")
    now = at or datetime.now(UTC)
    if frame.empty:
        return Finding.unknown(limit.name, f"there is no series of {limit.name}", limit)
    newest = end or frame["at"].max().to_pydatetime()
    age = (now - newest).total_seconds()
    if age > MAX_AGE_SECONDS:
        reason = f"the newest data is {duration_text(round(age))} old, from {newest:%Y-%m-%d %H:%M:%S} UTC"
        return Finding.unknown(limit.name, reason, limit)
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
    """Return the step of the frame's range query, else the smallest distance between its samples."""
    if "step_seconds" in frame.attrs:
        return float(frame.attrs["step_seconds"])
    gaps = np.diff(np.unique(frame["at"].astype("datetime64[ms, UTC]").astype("int64").to_numpy()))
    return float(gaps.min()) / 1000 if len(gaps) else 1.0


def _finding(last: DataFrame, limit: Limit, at: datetime) -> Finding:
    """Return the finding for the states of all targets at one evaluation."""
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
        worst = f"{limit.title}: {_worst(rows[FIRING], limit)} ({len(rows[FIRING])} of {len(last)} {limit.describe()})"
        since = min(row["active_since"] for row in rows[FIRING])
        parts = [
            f"{worst} since {since:%Y-%m-%d %H:%M:%S} UTC at the latest",
            _pending(rows[PENDING], limit, at),
            without_value,
        ]
        return replace(
            finding, status=Status.ALERT, summary=_joined(parts), targets=tuple(row["target"] for row in rows[FIRING])
        )
    if silent:
        parts = [
            f"unknown, because {len(silent)} of {len(last)} have {without_value}",
            _pending(rows[PENDING], limit, at),
        ]
        return replace(
            finding, status=Status.UNKNOWN, summary=_joined(parts), targets=tuple(row["target"] for row in silent)
        )
    values = [row for row in rows[INACTIVE] + rows[PENDING] if not math.isnan(row["value"])]
    idle = len(last) - len(values)
    parts = [
        f"{_worst(values, limit)}, alert when {limit.describe()}" if values else "no requests to judge",
        _pending(rows[PENDING], limit, at),
        f"no requests on {idle} of {len(last)}" if idle and values else "",
    ]
    return replace(finding, summary=_joined(parts))


def _worst(rows: list[dict[str, Any]], limit: Limit) -> str:
    row = (max if limit.direction == "above" else min)(rows, key=lambda row: row["value"])
    if len(rows) > 1 and all(other["value"] == row["value"] for other in rows):
        return f"{quantity(row['value'], limit.unit)} on each of {len(rows)}"
    return f"{quantity(row['value'], limit.unit)} on {row['target']}"


def _pending(rows: list[dict[str, Any]], limit: Limit, at: datetime) -> str:
    """Return "node-3 above 10 blocks for 12s of 5m" for each pending target, the oldest first."""
    oldest = sorted(rows, key=lambda row: row["active_since"])
    return _few(
        [
            f"{row['target']} {limit.direction} {quantity(limit.threshold, limit.unit)} for"
            f" {duration_text(round((row['at'] - row['active_since']).total_seconds()))} of {limit.duration}"
            for row in oldest
        ]
    )


def _few(texts: list[str]) -> str:
    """Join the first few and count the rest, which the finding's targets or the table list."""
    more = f" and {len(texts) - _MAX_LISTED} more" if len(texts) > _MAX_LISTED else ""
    return ", ".join(texts[:_MAX_LISTED]) + more


def _joined(parts: list[str]) -> str:
    return inert("; ".join(part for part in parts if part))
