"""The shipped notebooks and their cells, read as JSON, because importing nbformat takes long."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xai_runbook.errors import InputError
from xai_runbook.system.suggestions import suggestion

PACKAGE = Path(__file__).parent.parent.parent
HEALTH_REPORT = "health_report"


@dataclass(frozen=True)
class Cell:
    """One cell of a notebook file."""

    id: str
    kind: str
    """`code` or `markdown`."""
    source: str
    tags: frozenset[str] = frozenset()
    section: str = ""
    """The section notebook that it comes from, also in the assembled health report."""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_question(self) -> bool:
        """Return whether it is a question, which must return exactly one finding."""
        return self.kind == "code" and "raises-exception" in self.tags

    @property
    def is_setup(self) -> bool:
        """Return whether it is a set-up cell: parameters, imports, the environment."""
        return self.kind == "code" and bool(self.tags & {"parameters", "setup"})


def folder() -> Path:
    """Return the folder with the shipped notebooks: in the installed package, else in the checkout."""
    packaged = PACKAGE / "notebooks"
    return packaged if packaged.is_dir() else PACKAGE.parent / "notebooks"


def names() -> list[str]:
    """Return the names of the shipped notebooks: the health report, then the sections in order."""
    found = sorted(path.stem for path in folder().glob("*.ipynb"))
    return sorted(found, key=lambda name: name != HEALTH_REPORT)


def find(name_or_path: str) -> Path:
    """Return the path of the notebook with that name or path. Errors: InputError, which suggests similar names."""
    if "://" in name_or_path or name_or_path in ("", "-"):
        raise InputError(f"{name_or_path!r} is not a notebook on this machine", hint=f"one of {', '.join(names())}")
    shipped = folder() / f"{name_or_path}.ipynb"
    if re.fullmatch(r"[\w.-]+", name_or_path) and shipped.is_file():
        return shipped
    path = Path(name_or_path).expanduser()
    if path.is_file():
        return path
    raise InputError(f"there is no notebook {name_or_path!r}", hint=f"{suggestion(name_or_path, names())}, or a path")


def read(path: Path) -> list[Cell]:
    """Return the cells of a notebook file. Errors: InputError when it is not a notebook."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"the notebook cannot be read: {error.strerror}", on=str(path)) from None
    except (ValueError, RecursionError):
        raise InputError(
            "the notebook is not JSON", on=str(path), hint="restore it, or open it in JupyterLab"
        ) from None
    try:
        if document["nbformat"] != 4:
            raise InputError(f"the notebook has format {document['nbformat']}, not 4", on=str(path))
        return [_cell(number, raw, path.stem) for number, raw in enumerate(document["cells"])]
    except (KeyError, TypeError, AttributeError):
        raise InputError("the file is JSON, but not a notebook", on=str(path)) from None


def _cell(number: int, raw: dict[str, Any], stem: str) -> Cell:
    source, metadata = raw["source"], raw.get("metadata") or {}
    return Cell(
        id=str(raw.get("id") or f"cell-{number}"),
        kind=str(raw["cell_type"]),
        source=source if isinstance(source, str) else "".join(source),
        tags=frozenset(str(tag) for tag in metadata.get("tags") or ()),
        section=str((metadata.get("xai_runbook") or {}).get("section") or stem),
        metadata=metadata,
    )
