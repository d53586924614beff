"""`make dashboards`: write xai_runbook/dashboards/*.json; with --check only report whether they are current."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards.pages import PAGES
from xai_runbook.dashboards import FILES

FOLDER = Path(__file__).parent.parent / "xai_runbook" / "dashboards"


def texts() -> dict[Path, str]:
    """Return the text of each file by its path."""
    return {FOLDER / f"{FILES[title]}.json": text(page()) for title, page in PAGES.items()}


def text(page: Dashboard) -> str:
    """Return a page as JSON with numbered panels, as links and alerts refer to a panel by its id."""
    built = page.build()
    for number, panel in enumerate(built.panels or [], 1):
        panel.id_val = number
    plain = json.loads(JSONEncoder(sort_keys=True).encode(built))
    return json.dumps(plain, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def main() -> int:
    """Write the files, or with --check compare them and return 1 if one is not current."""
    built = texts()
    if "--check" in sys.argv[1:]:
        stale = [path.name for path, text in built.items() if not path.exists() or path.read_text("utf-8") != text]
        print(f"not current: {', '.join(stale)}; run: make dashboards" if stale else "current")
        return int(bool(stale))
    for path, text in built.items():
        path.write_text(text, encoding="utf-8")
        print(path.name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
