"""Plans that provoke an alert: duration and load follow from the loaded rule. No plan is applied here."""

from __future__ import annotations

from xai_runbook.environment import Environment
from xai_runbook.model.plans import Command, Plan
from xai_runbook.model.window import duration_seconds
from xai_runbook.operations.monitoring import alert_rehearsal


def load(plan: Plan) -> dict[str, str]:
    """Return the arguments of the plan's only step, by option."""
    (step,) = plan.steps
    assert isinstance(step, Command)
    words = step.argv[4:]
    return dict(zip(words[::2], words[1::2], strict=True))


def needed(env: Environment, alert: str) -> float:
    """Return for how many seconds the condition must hold, by the loaded rule."""
    rules = env.prometheus.alerting_rules()
    return float(rules[rules["alert"] == alert]["duration_seconds"].iloc[0])


def test_cpu_load_outlasts_the_rule_and_its_rate_window(env: Environment) -> None:
    plan = alert_rehearsal.provoke_cpu(env.sandbox, env.prometheus, env.limits)
    window = duration_seconds(env.settings.windows.rate)
    # a full load is seen as such for its length less 0.6 of the window: the runbook's 300 s never fire a 5-minute rule
    assert int(load(plan)["--seconds"]) - 0.6 * window > needed(env, "HighCPU")
    assert int(load(plan)["--workers"]) >= env.sandbox.quotas()["cpu_quota_cores"]


def test_memory_load_is_between_limit_and_quota_and_keeps_a_floor(env: Environment) -> None:
    plan = alert_rehearsal.provoke_memory(env.sandbox, env.prometheus, env.limits)
    quota = env.sandbox.quotas()["memory_quota_bytes"]
    until = int(load(plan)["--until"])
    assert env.limits.monitoring.memory_used.threshold * quota < until < quota
    assert int(load(plan)["--floor"]) == alert_rehearsal.MEMORY_FLOOR_BYTES
    assert int(load(plan)["--seconds"]) > needed(env, "HighMemory")
    assert any(guard.column == "memory_available_bytes" for guard in plan.guards)


def test_disk_load_leaves_less_than_the_limit_and_keeps_a_floor(env: Environment) -> None:
    plan = alert_rehearsal.provoke_disk(env.sandbox, env.prometheus, env.limits)
    quota = env.sandbox.quotas()["disk_quota_bytes"]
    until = int(load(plan)["--until"])
    assert 0 < 1 - until / quota < env.limits.monitoring.disk_free.threshold
    assert int(load(plan)["--floor"]) == alert_rehearsal.DISK_FLOOR_BYTES
    assert int(load(plan)["--seconds"]) > needed(env, "LowDisk")


def test_without_load_the_plan_has_only_a_note(env: Environment) -> None:
    plan = alert_rehearsal.end_load(env.sandbox)
    assert not plan.steps and plan.note == "no provoked load is running"


def test_rehearsal_state_of_an_alert_that_never_fired(env: Environment) -> None:
    (row,) = alert_rehearsal.rehearsal_state(env.sandbox, env.prometheus, alert="NoSuchAlert").to_dict("records")
    assert row == {"fired_at": "", "running": 0, "settled": 0}
