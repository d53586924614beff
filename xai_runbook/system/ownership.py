"""Whether a file is only ours to write: what we read settings from, or run, must not be somebody else's."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def foreign(path: Path) -> str:
    """Why somebody else could have written `path`; empty where only this user and root can.

    Looked at are the file and its folder, as named and where symbolic links lead. Whoever owns the code of this package
    is trusted too. Errors: OSError where one of them cannot be looked at.
    """
    real = Path(os.path.realpath(path))
    named = Path(os.path.abspath(path))
    for place in dict.fromkeys((named, named.parent, real, real.parent)):
        if why := _foreign(place):
            return f"{place} {why}"
    return ""


def _foreign(place: Path) -> str:
    found = place.lstat()
    if found.st_uid not in (os.geteuid(), 0, os.stat(__file__).st_uid):
        return f"belongs to {_name(found.st_uid)}"
    if stat.S_ISLNK(found.st_mode):
        return ""  # a link's own rights mean nothing; the folder's decide who may replace it
    if stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX:
        return ""  # others may add files there, and not replace ours
    if found.st_mode & stat.S_IWOTH:
        return "can be written by everybody"
    if found.st_mode & stat.S_IWGRP and not _is_private(found.st_gid, found.st_uid):
        return f"can be written by the group {_group(found.st_gid)}"
    return ""


def _is_private(group: int, user: int) -> bool:
    """Whether the group is the user's own, with nobody else in it."""
    import grp
    import pwd

    try:
        owner, members = pwd.getpwuid(user), grp.getgrgid(group)
    except KeyError:
        return False
    return owner.pw_gid == group and members.gr_name == owner.pw_name and set(members.gr_mem) <= {owner.pw_name}


def _name(user: int) -> str:
    import pwd

    try:
        return f"{pwd.getpwuid(user).pw_name} (uid {user})"
    except KeyError:
        return f"uid {user}"


def _group(group: int) -> str:
    import grp

    try:
        return grp.getgrgid(group).gr_name
    except KeyError:
        return str(group)
