"""Command lines and environment variables of the processes that we start.

The caller's working folder and PYTHONPATH may hold foreign modules, and other variables may hold secrets or load
foreign code (LD_PRELOAD). A child process therefore gets only the variables listed here and those its caller adds.
"""

from __future__ import annotations

import os
import sys

NEUTRAL_FOLDER = "/"
"""Working folder of children that need none: only root can put files there."""

_ALWAYS = ("HOME", "LANG", "LC_ALL", "TZ", "TMPDIR")
_READERS = (
    "USER", "LOGNAME", "SSH_AUTH_SOCK",
    "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
    # libpq reads these where the settings name nothing
    "PGPASSFILE", "PGPASSWORD", "PGSERVICEFILE", "PGSYSCONFDIR", "PGSSLCERT", "PGSSLKEY", "PGSSLROOTCERT", "PGSSLCRL",
    "KRB5CCNAME", "KRB5_CONFIG",
    "COVERAGE_PROCESS_CONFIG",  # coverage.py measures children too
)  # fmt: skip
_PATHS = ("XAI_RUNBOOK_CONFIG", "XAI_RUNBOOK_SANDBOX")


def python_argv() -> list[str]:
    """Return the start of a Python command line that imports nothing from its working folder."""
    return [sys.executable, "-P"]


def module_argv(module: str, *arguments: str) -> list[str]:
    """Return the command line that runs a module of this package."""
    return [*python_argv(), "-m", module, *arguments]


def environment() -> dict[str, str]:
    """Return the variables that any program needs to run; none of them is a secret (P21)."""
    found = {name: os.environ[name] for name in _ALWAYS if name in os.environ}
    return {"PATH": search_path(), **found}


def reading_environment(secrets: tuple[str, ...] = ()) -> dict[str, str]:
    """Return the variables of a child that reads servers: XAI_RUNBOOK_*, CA, proxy, libpq, and those in `secrets`."""
    found = {
        name: value
        for name, value in os.environ.items()
        if name in _READERS or name in secrets or name.startswith("XAI_RUNBOOK_") or name.lower().endswith("_proxy")
    }
    # the child has another working folder, where a relative path would mean something else
    found |= {name: os.path.abspath(os.path.expanduser(found[name])) for name in _PATHS if found.get(name)}
    return environment() | found


def search_path() -> str:
    """Return PATH without the entries that are relative to the working folder."""
    entries = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join(entry for entry in entries if os.path.isabs(entry)) or os.defpath
