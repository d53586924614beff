"""Provokes an alert to see that it comes: runbook, Manual Alert Testing. Only in the sandbox, never in production.

The runbook's lines do not do what they are for: 300 s of load never fire an alert that needs 5 minutes of a 2-minute
rate, the memory line ends after a second and a half, and the disk line leaves 10 GB behind. Here how long and how much
are computed from the rule that is to fire, a floor of this machine's own room is kept, and nothing stays behind.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from xai_runbook.errors import NoData
from xai_runbook.model.plans import Call, Command, Condition, Plan, Risk, change, refused_plan
from xai_runbook.model.scalars import facts
from xai_runbook.model.window import duration_seconds, duration_text

if TYPE_CHECKING:
    from pandas import DataFrame

    from xai_runbook.clients.prometheus.client import Prometheus
    from xai_runbook.clients.sandbox import Sandbox
    from xai_runbook.model.findings import Limit
    from xai_runbook.settings.limits import Limits

MEMORY_FLOOR_BYTES = 512 * 2**20
DISK_FLOOR_BYTES = 2 * 2**30
_SEEN_SECONDS = 10.0
_SIGHT_SECONDS = 6.0
"""The sandbox looks at its folder's size this seldom."""


@change
def provoke_cpu(sandbox: Sandbox, prometheus: Prometheus, limits: Limits) -> Plan:
    """A Plan that keeps the cores that the sandbox may use busy, for long enough to fire High CPU, nice to others.

    A rate over a window w shows a full load only after 0.8 w and forgets it 0.2 w after its end, so the condition holds
    for the load's length less 0.6 w; the rule wants it for its `for`. Item 46; erratum E20.
    """
    if refused := _refusal(sandbox, "provoke"):
        return refused
    limit = limits.monitoring.cpu_used
    window = duration_seconds(prometheus.settings.windows.rate)
    # one more than it may use: nice as they are, they must get their share of a busy machine too
    cores = math.ceil(sandbox.quotas()["cpu_quota_cores"]) + 1
    seconds = _rule_seconds(prometheus, limit) + 0.8 * window
    words = ["--workers", str(cores)]
    return _provoked(sandbox, prometheus, limit, "cpu", seconds, words, f"stress --cpu {cores}", guards=())


@change
def provoke_memory(sandbox: Sandbox, prometheus: Prometheus, limits: Limits) -> Plan:
    """A Plan that takes memory half way from the limit to the sandbox's quota, and holds it until High Memory fires.

    Item 47; erratum E21.
    """
    if refused := _refusal(sandbox, "provoke"):
        return refused
    limit = limits.monitoring.memory_used
    quota = sandbox.quotas()["memory_quota_bytes"]
    target = int(quota * (1 + limit.threshold) / 2)
    return _provoked(
        sandbox,
        prometheus,
        limit,
        "memory",
        _rule_seconds(prometheus, limit),
        ["--until", str(target), "--floor", str(MEMORY_FLOOR_BYTES), "--quota-url", sandbox.quota_url],
        f"stress --vm 1 --vm-bytes {target} --vm-keep",
        guards=(_room("memory_available_bytes", MEMORY_FLOOR_BYTES + target),),
    )


@change
def provoke_disk(sandbox: Sandbox, prometheus: Prometheus, limits: Limits) -> Plan:
    """A Plan that allocates a nameless file in the sandbox's folder, half of what the limit leaves free, and holds it.

    The file has no name, so the kernel frees it when the load ends, however that ends. Item 48; erratum E22.
    """
    if refused := _refusal(sandbox, "provoke"):
        return refused
    limit = limits.monitoring.disk_free
    quota = sandbox.quotas()["disk_quota_bytes"]
    target = int(quota * (1 - limit.threshold / 2))
    return _provoked(
        sandbox,
        prometheus,
        limit,
        "disk",
        _rule_seconds(prometheus, limit) + 2 * _SIGHT_SECONDS,
        [
            "--until",
            str(target),
            "--floor",
            str(DISK_FLOOR_BYTES),
            "--quota-url",
            sandbox.quota_url,
            "--folder",
            str(sandbox.folder),
        ],
        f"fallocate -l {target} fillup",
        guards=(_room("disk_available_bytes", DISK_FLOOR_BYTES + target),),
    )


@change
def end_load(sandbox: Sandbox) -> Plan:
    """A Plan that ends the provoked loads that run now: their way back, for those who do not want to wait."""
    if refused := _refusal(sandbox, "end"):
        return refused
    rows = [facts(row) for row in sandbox.loads()]
    pids = [str(row["pid"]) for row in rows]
    return Plan(
        verb="end",
        scope="sandbox",
        targets=tuple(f"{row['what']} load, pid {row['pid']}" for row in rows),
        observed=tuple(rows),
        steps=tuple(
            Command(
                argv=("python", "-m", "xai_runbook.sandbox.faults.load", "end", str(row["pid"]), str(row["started"])),
                environment={},
                seconds="10s",
                equivalent=f"kill {row['pid']}",
            )
            for row in rows
        ),
        expected=_none_runs("10s") if rows else None,
        undo="provoke it again",
        risk=Risk.CHANGE,
        parts={"sandbox": "read"},  # it goes beside the change whose load it ends
        note="" if pids else "no provoked load is running",
    )


def loads(sandbox: Sandbox) -> DataFrame:
    """One row: running, how many processes of provoked load there are in this sandbox."""
    from pandas import DataFrame

    return DataFrame([{"running": len(sandbox.loads())}])


def room(sandbox: Sandbox) -> DataFrame:
    """One row of what this machine has left: memory_available_bytes, disk_available_bytes."""
    from pandas import DataFrame

    return DataFrame([sandbox.room()])


def firing(prometheus: Prometheus, *, alert: str) -> DataFrame:
    """One row: firing, how many alerts of that name Prometheus holds now."""
    from pandas import DataFrame

    held = prometheus.alerts()
    return DataFrame([{"firing": int(((held["alert"] == alert) & (held["state"] == "firing")).sum())}])


def provoked(sandbox: Sandbox, prometheus: Prometheus, *, alert: str, after: str = "") -> DataFrame:
    """Say whether a provoked alert has come and gone, in one row.

    Columns: fired_at (Unix time at which Prometheus saw that alert fire last, within a day; "" where it did not),
    running (loads still there), settled (1 if it fired later than `after` and no load runs any more).
    """
    from pandas import DataFrame

    query = 'max(max_over_time(timestamp(ALERTS{alertname=${alert}, alertstate="firing"})[1d:1s]))'
    newest = prometheus.instant(prometheus.promql(query, alert=alert))
    fired_at = "" if newest.empty else f"{newest['value'].iloc[0]:.0f}"
    running = len(sandbox.loads())
    settled = int(bool(fired_at) and int(fired_at) > int(after or 0) and not running)
    return DataFrame([{"fired_at": fired_at, "running": running, "settled": settled}])


def _provoked(
    sandbox: Sandbox,
    prometheus: Prometheus,
    limit: Limit,
    what: str,
    seconds: float,
    words: list[str],
    shell: str,
    *,
    guards: tuple[Condition, ...],
) -> Plan:
    lasts = duration_text(math.ceil(seconds))
    before = provoked(sandbox, prometheus, alert=limit.alert)
    return Plan(
        verb="provoke",
        scope="sandbox",
        targets=(f"{limit.alert} by {what} load for {lasts}",),
        observed=tuple([facts({"alert": limit.alert, "limit": limit.describe(), **sandbox.quotas()})]),
        steps=(
            Command(
                argv=(
                    "python",
                    "-m",
                    "xai_runbook.sandbox.faults.load",
                    what,
                    "--seconds",
                    str(math.ceil(seconds)),
                    *words,
                ),
                environment=sandbox.mark,
                seconds=duration_text(math.ceil(seconds) + 60),
                equivalent=f"timeout {math.ceil(seconds)} {shell}",
            ),
        ),
        expected=Condition.of(
            provoked,
            alert=limit.alert,
            after=str(before.loc[0, "fired_at"]),
            column="settled",
            comparison="==",
            value="1",
            within="30s",
            description=f"{limit.alert} has fired and no provoked load is running",
        ),
        undo=Call.of(end_load),
        risk=Risk.CHANGE,
        note="the alert should fire while this runs and clear by itself afterwards",
        guards=(
            _none_runs("0s"),
            Condition.of(
                firing,
                alert=limit.alert,
                column="firing",
                comparison="==",
                value="0",
                description=f"{limit.alert} is not firing yet",
            ),
            *guards,
        ),
    )


def _refusal(sandbox: Sandbox, verb: str) -> Plan | None:
    """The refused plan of a production; None elsewhere, where the handle itself says whether there is a sandbox."""
    if not sandbox.production:
        return None
    return refused_plan(verb, "the settings say production, and load is provoked only in the sandbox (--env sandbox)")


def _rule_seconds(prometheus: Prometheus, limit: Limit) -> float:
    """How long the condition must hold for the rule that Prometheus really runs: its `for`, four of its steps, and
    long enough after that for somebody to see it."""
    rules = prometheus.alerting_rules()
    mine = rules[rules["alert"] == limit.alert]
    if mine.empty:
        raise NoData(
            f"Prometheus has no rule {limit.alert}", on=prometheus.url, hint="load the output of xai-runbook rules"
        )
    return float(mine["duration_seconds"].max()) + 4 * duration_seconds(prometheus.access.step) + _SEEN_SECONDS


def _room(column: str, value: int) -> Condition:
    return Condition.of(
        room,
        column=column,
        comparison=">=",
        value=str(value),
        description=f"this machine has enough {column.split('_', maxsplit=1)[0]} available",
    )


def _none_runs(within: str) -> Condition:
    return Condition.of(
        loads,
        column="running",
        comparison="==",
        value="0",
        within=within,
        description="no provoked load is running",
    )
