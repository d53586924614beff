"""Make an alert fire, to test it: runbook, Manual Alert Testing. Only in the sandbox, never in production.

The runbook's commands do not work: 300 s of load never fire an alert that needs 5 minutes of a 2-minute rate, the
memory command ends after 1.5 s, and the disk command leaves 10 GB behind. Here the duration and the amount of load are
computed from the rule that should fire, this machine keeps a minimum of free memory and disk, and nothing is left over.
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
_VISIBLE_SECONDS = 10.0
"""How long the alert stays visible once it fires."""
_DISK_POLL_SECONDS = 6.0
"""The sandbox measures its folder this often."""


@change
def provoke_cpu(sandbox: Sandbox, prometheus: Prometheus, limits: Limits) -> Plan:
    """Plan to keep all cores of the sandbox's quota busy, at low priority, until the alert High CPU fires.

    A rate over a window w exceeds the limit 0.8 w after the load starts and drops 0.2 w after it ends, so the condition
    holds for the load's duration minus 0.6 w. That must cover the rule's `for`. Source: item 46; erratum E20.
    """
    if refused := _refusal(sandbox, "provoke"):
        return refused
    limit = limits.monitoring.cpu_used
    window = duration_seconds(prometheus.settings.windows.rate)
    # one more than the quota: at low priority they would get less than that on a busy machine
    cores = math.ceil(sandbox.quotas()["cpu_quota_cores"]) + 1
    seconds = _rule_seconds(prometheus, limit) + 0.8 * window
    options = ["--workers", str(cores)]
    return _load_plan(sandbox, prometheus, limit, "cpu", seconds, options, f"stress --cpu {cores}", guards=())


@change
def provoke_memory(sandbox: Sandbox, prometheus: Prometheus, limits: Limits) -> Plan:
    """Plan to allocate memory, half way between the limit and the sandbox's quota, until the alert High Memory fires.

    Source: item 47; erratum E21.
    """
    if refused := _refusal(sandbox, "provoke"):
        return refused
    limit = limits.monitoring.memory_used
    quota = sandbox.quotas()["memory_quota_bytes"]
    target = int(quota * (1 + limit.threshold) / 2)
    return _load_plan(
        sandbox,
        prometheus,
        limit,
        "memory",
        _rule_seconds(prometheus, limit),
        ["--until", str(target), "--floor", str(MEMORY_FLOOR_BYTES), "--quota-url", sandbox.quota_url],
        f"stress --vm 1 --vm-bytes {target} --vm-keep",
        guards=(_enough_available("memory_available_bytes", MEMORY_FLOOR_BYTES + target),),
    )


@change
def provoke_disk(sandbox: Sandbox, prometheus: Prometheus, limits: Limits) -> Plan:
    """Plan to allocate an unlinked file in the sandbox's folder, until the alert Low Disk fires.

    It leaves half of the limit's free space. Unlinked, it is freed by the kernel however the load process ends.
    Source: item 48; erratum E22.
    """
    if refused := _refusal(sandbox, "provoke"):
        return refused
    limit = limits.monitoring.disk_free
    quota = sandbox.quotas()["disk_quota_bytes"]
    target = int(quota * (1 - limit.threshold / 2))
    return _load_plan(
        sandbox,
        prometheus,
        limit,
        "disk",
        _rule_seconds(prometheus, limit) + 2 * _DISK_POLL_SECONDS,
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
        guards=(_enough_available("disk_available_bytes", DISK_FLOOR_BYTES + target),),
    )


@change
def end_load(sandbox: Sandbox) -> Plan:
    """Plan to end the provoked loads before their time: the undo of the other plans."""
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
        expected=_no_load("10s") if rows else None,
        undo="provoke it again",
        risk=Risk.CHANGE,
        parts={"sandbox": "read"},  # read only, so that it can run while the change that it ends holds the target lock
        note="" if pids else "no provoked load is running",
    )


def loads(sandbox: Sandbox) -> DataFrame:
    """Return one row: running (number of load processes in this sandbox)."""
    from pandas import DataFrame

    return DataFrame([{"running": len(sandbox.loads())}])


def free_resources(sandbox: Sandbox) -> DataFrame:
    """Return one row with this machine's memory_available_bytes and disk_available_bytes."""
    from pandas import DataFrame

    return DataFrame([sandbox.room()])


def firing(prometheus: Prometheus, *, alert: str) -> DataFrame:
    """Return one row: firing (number of alerts of that name that fire in Prometheus)."""
    from pandas import DataFrame

    active = prometheus.alerts()
    return DataFrame([{"firing": int(((active["alert"] == alert) & (active["state"] == "firing")).sum())}])


def rehearsal_state(sandbox: Sandbox, prometheus: Prometheus, *, alert: str, after: str = "") -> DataFrame:
    """Return one row that shows whether a provoked alert has fired and its load has ended.

    Columns: fired_at (Unix time at which the alert last fired, within a day; "" if it did not), running (number of load
    processes), settled (1 if it fired later than `after` and no load is running).
    """
    from pandas import DataFrame

    query = 'max(max_over_time(timestamp(ALERTS{alertname=${alert}, alertstate="firing"})[1d:1s]))'
    newest = prometheus.instant(prometheus.promql(query, alert=alert))
    fired_at = "" if newest.empty else f"{newest['value'].iloc[0]:.0f}"
    running = len(sandbox.loads())
    settled = int(bool(fired_at) and int(fired_at) > int(after or 0) and not running)
    return DataFrame([{"fired_at": fired_at, "running": running, "settled": settled}])


def _load_plan(
    sandbox: Sandbox,
    prometheus: Prometheus,
    limit: Limit,
    resource: str,
    seconds: float,
    options: list[str],
    equivalent: str,
    *,
    guards: tuple[Condition, ...],
) -> Plan:
    duration = duration_text(math.ceil(seconds))
    before = rehearsal_state(sandbox, prometheus, alert=limit.alert)
    return Plan(
        verb="provoke",
        scope="sandbox",
        targets=(f"{limit.alert} by {resource} load for {duration}",),
        observed=tuple([facts({"alert": limit.alert, "limit": limit.describe(), **sandbox.quotas()})]),
        steps=(
            Command(
                argv=(
                    "python",
                    "-m",
                    "xai_runbook.sandbox.faults.load",
                    resource,
                    "--seconds",
                    str(math.ceil(seconds)),
                    *options,
                ),
                environment=sandbox.mark,
                seconds=duration_text(math.ceil(seconds) + 60),
                equivalent=f"timeout {math.ceil(seconds)} {equivalent}",
            ),
        ),
        expected=Condition.of(
            rehearsal_state,
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
            _no_load("0s"),
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
    """Return the refused plan for a production environment, else None."""
    if not sandbox.production:
        return None
    return refused_plan(verb, "the settings say production, and load is provoked only in the sandbox (--env sandbox)")


def _rule_seconds(prometheus: Prometheus, limit: Limit) -> float:
    """Return how long the condition must hold: the loaded rule's `for`, four evaluations, and time to see the alert."""
    rules = prometheus.alerting_rules()
    loaded = rules[rules["alert"] == limit.alert]
    if loaded.empty:
        raise NoData(
            f"Prometheus has no rule {limit.alert}", on=prometheus.url, hint="load the output of xai-runbook rules"
        )
    return float(loaded["duration_seconds"].max()) + 4 * duration_seconds(prometheus.access.step) + _VISIBLE_SECONDS


def _enough_available(column: str, value: int) -> Condition:
    return Condition.of(
        free_resources,
        column=column,
        comparison=">=",
        value=str(value),
        description=f"this machine has enough {column.split('_', maxsplit=1)[0]} available",
    )


def _no_load(within: str) -> Condition:
    return Condition.of(
        loads,
        column="running",
        comparison="==",
        value="0",
        within=within,
        description="no provoked load is running",
    )
