"""Files that are whole or not there, and that only their owner can read."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def make_private(folder: Path) -> None:
    """Makes `folder`, and what is missing above it, for its owner alone. Errors: OSError."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    for place in reversed(missing):
        place.mkdir(mode=0o700, exist_ok=True)


def write_whole(path: Path, content: bytes, *, like: os.stat_result | None = None) -> None:
    """Writes `content` so that a reader sees the old file or the new one, never a part. Errors: OSError.

    It is its owner's alone, or has the owner and rights of the file that it is `like`.
    """
    import tempfile  # costs 10 ms, and those who only read a sandbox's state never need it

    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # 0600 from the first byte on
    try:
        with os.fdopen(descriptor, "wb") as file:
            if like is not None:
                if (like.st_uid, like.st_gid) != (os.geteuid(), os.getegid()):
                    os.fchown(descriptor, like.st_uid, like.st_gid)
                os.fchmod(descriptor, like.st_mode & 0o7777)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
    _keep_names(path.parent)


def point(link: Path, target: str) -> None:
    """Makes `link` a symbolic link to `target`, replacing an older link in one step. Errors: OSError."""
    import tempfile

    with tempfile.TemporaryDirectory(dir=link.parent, prefix=f".{link.name}.") as scratch:
        fresh = Path(scratch) / link.name
        fresh.symlink_to(target)
        os.replace(fresh, link)
    _keep_names(link.parent)


def _keep_names(folder: Path) -> None:
    # a rename is only safe from a power cut once the folder itself has been written
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
