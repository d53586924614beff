"""`xai-runbook rules`: the alert table as Prometheus' rule file, as Markdown, and the tests that come with it."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from xai_runbook.errors import SandboxError, inert
from xai_runbook.system import child, processes

TESTS = Path(__file__).with_name("rules_test.yml")
PROMTOOL_SECONDS = 60.0


def add_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds `rules`."""
    parser = subparsers.add_parser(
        "rules",
        help="the alert table as Prometheus' rule file",
        description="Prints the alert table as a rule file for Prometheus: the runbook's own limits and durations, or"
        " those of an environment.",
        epilog="examples:\n"
        "  xai-runbook rules > xai.rules.yml                    the runbook's own\n"
        "  xai-runbook rules --env production > xai.rules.yml\n"
        "  xai-runbook rules --check                            promtool reads the file and runs the tests\n"
        "  xai-runbook rules --tests > rules_test.yml           beside rules.yml, for promtool test rules\n"
        "  xai-runbook rules --markdown --env production\n\n"
        "--check leaves with 0 where promtool finds nothing wrong, 1 where it does, 3 where there is no promtool.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--env", metavar="NAME", help="the environment; without it the runbook's own values")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--markdown", action="store_true", help="print the table for people instead")
    which.add_argument("--tests", action="store_true", help="print the tests of the runbook's own rules instead")
    which.add_argument("--check", action="store_true", help="have promtool check the file (without --env: test it too)")
    parser.set_defaults(run=_run)


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
    """Has promtool read the rules, and run the shipped tests, which are of the runbook's own durations."""
    with tempfile.TemporaryDirectory(prefix="xai-runbook-") as folder:
        Path(folder, "rules.yml").write_text(rules, encoding="utf-8")
        calls = [["check", "rules", "rules.yml"]]
        if tests:
            Path(folder, "rules_test.yml").write_text(TESTS.read_text(encoding="utf-8"), encoding="utf-8")
            calls.append(["test", "rules", "rules_test.yml"])
        return max(_promtool(call, folder) for call in calls)


def _promtool(words: list[str], folder: str) -> int:
    from xai_runbook.sandbox.components import programs

    promtool = programs.find("promtool")
    if promtool is None:
        raise SandboxError(programs.missing(["promtool"])["promtool"], hint="PATH, or a sandbox, which fetches it")
    try:
        done = processes.run([promtool, *words], env=child.environment(), cwd=folder, deadline_seconds=PROMTOOL_SECONDS)
    except OSError as error:
        raise SandboxError(f"promtool did not finish: {type(error).__name__}", on=str(promtool)) from None
    for line in (done.stdout + done.stderr).splitlines():
        print(inert(line), file=sys.stderr if done.returncode else sys.stdout)
    return 1 if done.returncode else 0
