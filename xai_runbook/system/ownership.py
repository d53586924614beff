"""Checks that only this user and root can write a file: settings and programs of other users are not trusted."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def writable_by_others(path: Path) -> str:
    """Return why another user could have written `path`; "" if only this user and root can.

    Checks the file and its folder, at the given path and where symbolic links lead. The owner of this package's code
    is trusted too. Errors: OSError if one of them cannot be read.
    """
    real = Path(os.path.realpath(path))
    given = Path(os.path.abspath(path))
    for each in dict.fromkeys((given, given.parent, real, real.parent)):
        if reason := _reason(each):
            return f"{each} {reason}"
    return ""


def _reason(path: Path) -> str:
    status = path.lstat()
    if status.st_uid not in (os.geteuid(), 0, os.stat(__file__).st_uid):
        return f"belongs to {_user_name(status.st_uid)}"
    if stat.S_ISLNK(status.st_mode):
        return ""  # the mode of a link means nothing; the folder's decides who may replace it
    if stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX:
        return ""  # others may add files to a sticky folder, but not replace ours
    if status.st_mode & stat.S_IWOTH:
        return "can be written by everybody"
    if status.st_mode & stat.S_IWGRP and not _is_private_group(status.st_gid, status.st_uid):
        return f"can be written by the group {_group_name(status.st_gid)}"
    return ""


def _is_private_group(group: int, user: int) -> bool:
    """Return whether it is the user's primary group and has no other members."""
    import grp
    import pwd

    try:
        owner, members = pwd.getpwuid(user), grp.getgrgid(group)
    except KeyError:
        return False
    return owner.pw_gid == group and members.gr_name == owner.pw_name and set(members.gr_mem) <= {owner.pw_name}


def _user_name(user: int) -> str:
    import pwd

    try:
        return f"{pwd.getpwuid(user).pw_name} (uid {user})"
    except KeyError:
        return f"uid {user}"


def _group_name(group: int) -> str:
    import grp

    try:
        return grp.getgrgid(group).gr_name
    except KeyError:
        return str(group)
