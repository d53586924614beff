"""PostgreSQL's programs with some of them replaced by a test's own."""

from __future__ import annotations

from pathlib import Path


def replaced_tools(real: Path, folder: Path, **scripts: str) -> Path:
    """Make `folder` with a link to each program in `real`, and these shell scripts in place of some of them.

    Links, as a program may find its libraries by where it lies.
    """
    folder.mkdir(mode=0o700)
    for program in real.iterdir():
        if program.name not in scripts:
            (folder / program.name).symlink_to(program)
    for name, lines in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{lines}\n", encoding="utf-8")
        (folder / name).chmod(0o700)
    return folder
