"""`xai-runbook dashboards list | export`."""

from __future__ import annotations

import argparse


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds `dashboards`."""
    command = commands.add_parser(
        "dashboards",
        help="the runbook's Grafana dashboards, with this environment's metrics and limits",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="list: title, uid and panels of each. export: Grafana's JSON, to import by hand or to put where\n"
        "Grafana provides dashboards from; on standard output without --out. Nothing is asked of any server;\n"
        "`xai-runbook plan grafana.import_dashboards` brings them into a Grafana.",
        epilog="Examples:\n  xai-runbook dashboards list\n"
        "  xai-runbook dashboards export --env production --out /etc/grafana/dashboards",
    )
    command.add_argument("verb", choices=("list", "export"))
    command.add_argument("--env", help="the environment (XAI_RUNBOOK_ENV, else the sandbox)")
    command.add_argument("--out", metavar="FOLDER", help="export: writes NAME.json for each there")
    command.add_argument("--json", action="store_true", help="a list of objects, for programs")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints or writes them; 0."""
    import json
    from pathlib import Path

    from xai_runbook.dashboards import FILES, dashboard, queries
    from xai_runbook.errors import InputError
    from xai_runbook.settings import loading
    from xai_runbook.system.files import write_whole

    settings = loading.load(options.env or "")
    made = {title: dashboard(title, settings, settings.limits) for title in FILES}
    rows = [
        {"title": title, "uid": each["uid"], "panels": len(list(queries.panels(each))), "file": f"{FILES[title]}.json"}
        for title, each in made.items()
    ]
    if options.verb == "export" and not options.out:
        print(json.dumps(list(made.values()), indent=1, ensure_ascii=False))
        return 0
    if options.verb == "export":
        for row in rows:
            path = Path(options.out) / row["file"]
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(path, json.dumps(made[row["title"]], indent=1, ensure_ascii=False).encode() + b"\n")
                path.chmod(0o644)  # no secret, and Grafana is another user
            except OSError as error:
                raise InputError(f"cannot be written: {error.strerror}", on=str(path), hint="another --out") from None
            row["file"] = str(path)
    if options.json:
        print(json.dumps(rows, indent=1))
        return 0
    for row in rows:
        print(f"{row['title']:<22} {row['uid']:<26} {row['panels']:>3} panels  {row['file']}")
    return 0
