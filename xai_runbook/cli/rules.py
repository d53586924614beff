"""`xai-runbook rules`: the limits as Prometheus' rule file or as a Markdown table, and the tests of the rules."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from xai_runbook.cli.parser import add_command
from xai_runbook.errors import SandboxError, inert

if TYPE_CHECKING:
    from xai_runbook.cli.parser import Commands

TESTS = Path(__file__).with_name("rules_test.yml")
PROMTOOL_SECONDS = 60.0


def add_commands(commands: Commands) -> None:
    """Add `rules`."""
    command = add_command(
        commands,
        "rules",
        "print the alert rules for Prometheus",
        description="Print the limits as a rule file for Prometheus, with the runbook's own values or those of an"
        " environment.\n\n--check exits with 0 if promtool finds no error, with 1 if it does, with 3 without promtool.",
        examples="""\
xai-runbook rules > xai.rules.yml                   # the runbook's own values
xai-runbook rules --env production > xai.rules.yml
xai-runbook rules --check                           # promtool checks the file and runs the tests
xai-runbook rules --tests > rules_test.yml          # next to rules.yml, for promtool test rules
xai-runbook rules --markdown --env production""",
        run=_run,
        env="the environment (default: the runbook's own values)",
    )
    output = command.add_mutually_exclusive_group()
    output.add_argument("--markdown", action="store_true", help="print a Markdown table instead")
    output.add_argument("--tests", action="store_true", help="print the tests of the runbook's own rules instead")
    output.add_argument("--check", action="store_true", help="check the file with promtool; without --env, test it too")


def _run(options: argparse.Namespace) -> int:
    from xai_runbook.operations.monitoring.alert_rules import alert_rules, alert_table
    from xai_runbook.settings import loading

    settings = loading.load(options.env) if options.env else loading.shipped()
    if options.tests:
        print(TESTS.read_text(encoding="utf-8"), end="")
        return 0
    if options.markdown:
        print(alert_table(settings, settings.limits), end="")
        return 0
    rules = alert_rules(settings, settings.limits, name=settings.name, step=settings.rule_step)
    if options.check:
        return _check(rules, tests=not options.env)
    print(rules, end="")
    return 0


def _check(rules: str, *, tests: bool) -> int:
    """Check the rules with promtool, and run the shipped tests, which are for the runbook's own durations."""
    import tempfile  # takes 10 ms, which `xai-runbook --help` should not pay

    with tempfile.TemporaryDirectory(prefix="xai-runbook-") as folder:
        Path(folder, "rules.yml").write_text(rules, encoding="utf-8")
        calls = [["check", "rules", "rules.yml"]]
        if tests:
            Path(folder, "rules_test.yml").write_text(TESTS.read_text(encoding="utf-8"), encoding="utf-8")
            calls.append(["test", "rules", "rules_test.yml"])
        return max(_promtool(call, folder) for call in calls)


def _promtool(arguments: list[str], folder: str) -> int:
    from xai_runbook.sandbox.components import programs
    from xai_runbook.system import child, processes

    promtool = programs.find("promtool")
    if promtool is None:
        raise SandboxError(programs.missing(["promtool"])["promtool"], hint="xai-runbook sandbox up, which fetches it")
    try:
        done = processes.run(
            [promtool, *arguments], env=child.environment(), cwd=folder, deadline_seconds=PROMTOOL_SECONDS
        )
    except OSError as error:
        raise SandboxError(f"promtool did not finish: {type(error).__name__}", on=str(promtool)) from None
    for line in (done.stdout + done.stderr).splitlines():
        print(inert(line), file=sys.stderr if done.returncode else sys.stdout)
    return 1 if done.returncode else 0
