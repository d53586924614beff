"""Write files atomically and readable by their owner only."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def make_private_folder(folder: Path) -> None:
    """Create `folder` and its missing parents with mode 0700. Errors: OSError."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(mode=0o700, exist_ok=True)


def write_atomically(path: Path, content: bytes, *, like: os.stat_result | None = None) -> None:
    """Replace the file atomically: a reader sees the old content or the new one. Errors: OSError.

    The file gets mode 0600, or the owner and mode of `like`.
    """
    import tempfile  # takes 10 ms, which a caller that only reads should not pay

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
    _sync_folder(path.parent)


def replace_symlink(link: Path, target: str) -> None:
    """Make `link` a symbolic link to `target`, replacing an older link atomically. Errors: OSError."""
    import tempfile

    with tempfile.TemporaryDirectory(dir=link.parent, prefix=f".{link.name}.") as scratch:
        new_link = Path(scratch) / link.name
        new_link.symlink_to(target)
        os.replace(new_link, link)
    _sync_folder(link.parent)


def _sync_folder(folder: Path) -> None:
    # a rename survives a power failure only once the folder itself is on disk
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
