"""`xai-runbook coverage`: which of the runbook's items are answered, and where."""

from __future__ import annotations

import argparse


def add_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds `coverage`."""
    parser = subparsers.add_parser(
        "coverage",
        help="which of the runbook's items are answered, and where",
        description="Lists the runbook's items: the operation that answers each, the notebook that asks it, its tests.",
        epilog="example:\n  xai-runbook coverage --json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print a list of objects instead of a table")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from xai_runbook.runbook.coverage import coverage

    rows = coverage()
    if options.json:
        import json

        print(json.dumps([row._asdict() for row in rows], ensure_ascii=False, indent=1))
        return 0
    for row in rows:
        tests = "-" if row.tests is None else str(len(row.tests))
        literal = " ".join(row.literal.replace("\\\n", " ").split())
        literal = literal if len(literal) <= 58 else literal[:57] + "…"
        operation, notebook = row.operation or "-", row.notebook or "-"
        print(f"{row.item:>4} {row.line:>4}  {literal:<58}  {operation:<30} {notebook:<19} {tests:>3}")
    print(f"{sum(row.answered for row in rows)} of {len(rows)}")
    return 0
