"""`xai-runbook dashboards list | export`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from xai_runbook.cli.parser import add_command, add_group
from xai_runbook.cli.table import print_table

if TYPE_CHECKING:
    from xai_runbook.cli.parser import Commands


def add_commands(commands: Commands) -> None:
    """Add `dashboards`."""
    verbs = add_group(
        commands,
        "dashboards",
        "list or export the runbook's Grafana dashboards",
        description="The runbook's Grafana dashboards, with this environment's metrics and limits. No server is asked;"
        " `xai-runbook plan grafana.import_dashboards` imports them into a Grafana.",
        examples="xai-runbook dashboards list\n"
        "xai-runbook dashboards export --env production --out /etc/grafana/dashboards",
    )
    listing = add_command(
        verbs,
        "list",
        "list title, uid and number of panels of each dashboard",
        examples="xai-runbook dashboards list --env production",
        run=_list,
    )
    listing.add_argument("--json", action="store_true", help="print a list of objects as JSON")
    export = add_command(
        verbs,
        "export",
        "write Grafana's JSON of each dashboard",
        description="Write Grafana's JSON of each dashboard to a folder, from which Grafana can provision it, or print"
        " all of them as one list.",
        examples="xai-runbook dashboards export > dashboards.json\n"
        "xai-runbook dashboards export --env production --out /etc/grafana/dashboards",
        run=_export,
    )
    export.add_argument("--out", metavar="DIR", help="write NAME.json for each dashboard into this folder")
    export.add_argument("--json", action="store_true", help="print the list of written files as JSON")


def _list(options: argparse.Namespace) -> int:
    _print(_rows(_dashboards(options.env)), as_json=options.json)
    return 0


def _export(options: argparse.Namespace) -> int:
    import json
    from pathlib import Path

    from xai_runbook.errors import InputError
    from xai_runbook.system.files import write_atomically

    dashboards = _dashboards(options.env)
    if not options.out:
        print(json.dumps(list(dashboards.values()), indent=1, ensure_ascii=False))
        return 0
    rows = _rows(dashboards)
    for row in rows:
        path = Path(options.out) / row["file"]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, json.dumps(dashboards[row["title"]], indent=1, ensure_ascii=False).encode() + b"\n")
            path.chmod(0o644)  # it holds no secret, and Grafana runs as another user
        except OSError as error:
            raise InputError(f"cannot be written: {error.strerror}", on=str(path), hint="another --out") from None
        row["file"] = str(path)
    _print(rows, as_json=options.json)
    return 0


def _dashboards(env: str | None) -> dict[str, dict[str, Any]]:
    from xai_runbook.dashboards import FILES, dashboard
    from xai_runbook.settings import loading

    settings = loading.load(env or "")
    return {title: dashboard(title, settings, settings.limits) for title in FILES}


def _rows(dashboards: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    from xai_runbook.dashboards import FILES, queries

    return [
        {"title": title, "uid": each["uid"], "panels": len(list(queries.panels(each))), "file": f"{FILES[title]}.json"}
        for title, each in dashboards.items()
    ]


def _print(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        import json

        print(json.dumps(rows, indent=1))
    else:
        print_table([[row["title"], row["uid"], f"{row['panels']} panels", row["file"]] for row in rows], right=[2])
