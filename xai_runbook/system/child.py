"""Command line and environment of the processes that we start.

The caller's working folder and PYTHONPATH may hold somebody else's modules, and other variables may hold secrets or
load foreign code (LD_PRELOAD): a child gets neither, only what is listed here and what its starter adds.
"""

from __future__ import annotations

import os
import sys

NEUTRAL_FOLDER = "/"
"""The working folder of children that need none: only root can put files there."""

_ALWAYS = ("HOME", "LANG", "LC_ALL", "TZ", "TMPDIR")
_READERS = (
    "USER", "LOGNAME", "SSH_AUTH_SOCK",
    "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
    # of libpq: what the settings leave to it
    "PGPASSFILE", "PGPASSWORD", "PGSERVICEFILE", "PGSYSCONFDIR", "PGSSLCERT", "PGSSLKEY", "PGSSLROOTCERT", "PGSSLCRL",
    "KRB5CCNAME", "KRB5_CONFIG",
    "COVERAGE_PROCESS_CONFIG",  # coverage.py measures children too
)  # fmt: skip
_PLACES = ("XAI_RUNBOOK_CONFIG", "XAI_RUNBOOK_SANDBOX")


def interpreter() -> list[str]:
    """The beginning of a command line of this Python, which imports nothing from its working folder."""
    return [sys.executable, "-P"]


def python(module: str, *arguments: str) -> list[str]:
    """The command line that runs one of our modules."""
    return [*interpreter(), "-m", module, *arguments]


def environment() -> dict[str, str]:
    """What any program needs to run; no secret of ours (P21)."""
    found = {name: os.environ[name] for name in _ALWAYS if name in os.environ}
    return {"PATH": search_path(), **found}


def reading_environment(secrets: tuple[str, ...] = ()) -> dict[str, str]:
    """What a child that reads as we do needs: our own settings, CA, proxy and libpq variables, and those `secrets`."""
    found = {
        name: text
        for name, text in os.environ.items()
        if name in _READERS or name in secrets or name.startswith("XAI_RUNBOOK_") or name.lower().endswith("_proxy")
    }
    # the child has another working folder
    found |= {name: os.path.abspath(os.path.expanduser(found[name])) for name in _PLACES if found.get(name)}
    return environment() | found


def search_path() -> str:
    """PATH without entries that are relative to the working folder."""
    entries = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join(entry for entry in entries if os.path.isabs(entry)) or os.defpath
