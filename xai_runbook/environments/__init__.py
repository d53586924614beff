"""Finds an environment's file, and makes Settings of it."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xai_runbook.errors import SandboxError, SettingsError

if TYPE_CHECKING:
    from pydantic import ValidationError

    from xai_runbook.settings import Settings

SHIPPED = Path(__file__).parent
DEFAULT = "sandbox"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def folders() -> list[Path]:
    """Where a user's `NAME.toml` is looked for, first come first served; the shipped ones come last.

    `$XAI_RUNBOOK_CONFIG` (a folder), `environments/` of the working folder, the XDG configuration folder.
    """
    chosen = os.environ.get("XAI_RUNBOOK_CONFIG")
    config = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser()
    return [*([Path(chosen).expanduser()] if chosen else []), Path("environments"), config / "xai-runbook", SHIPPED]


def names() -> list[str]:
    """The environments that can be named, sorted."""
    found = {path.stem for folder in folders() for path in folder.glob("*.toml") if not path.stem.endswith(".example")}
    return sorted(found - {"defaults"})


def load(name: str = "", *, running: bool = False) -> Settings:
    """The Settings of an environment: defaults, its file, a running sandbox's ports, then XAI_RUNBOOK_TABLE__KEY.

    Without a name, `$XAI_RUNBOOK_ENV`, else the sandbox. Errors: SettingsError, which names file, table and key;
    SandboxError where the sandbox must be `running` and is not.
    """
    from pydantic import ValidationError

    from xai_runbook.settings import Settings

    name = name or os.environ.get("XAI_RUNBOOK_ENV") or DEFAULT
    path = _find(name)
    tables = _merge(_read(SHIPPED / "defaults.toml"), _read(path))
    if path == SHIPPED / "sandbox.toml":
        overlay = _sandbox_overlay()
        if running and not overlay:
            raise SandboxError("the sandbox does not run", hint="xai-runbook sandbox up, or --env with another name")
        tables = _merge(tables, overlay)
    tables = _merge(tables, _overrides(os.environ))
    if tables.get("name", name) != name:
        raise SettingsError("an environment's name is its file's", on=f"{path}, key name", hint="leave `name` out")
    try:
        return Settings.model_validate({**tables, "name": name})
    except ValidationError as error:
        raise _explained(error, path) from None


def _find(name: str) -> Path:
    if not _NAME.fullmatch(name) or name == "defaults":
        raise SettingsError(f"{name!r} is not the name of an environment", hint=f"one of {', '.join(names())}")
    for folder in folders():
        path = folder / f"{name}.toml"
        if path.is_file():
            return path
    places = ", ".join(str(folder) for folder in folders()[:-1])
    raise SettingsError(
        f"there is no environment {name!r}", on=f"looked in {places}",
        hint=f"one of {', '.join(names())}, or copy production.example.toml to {folders()[-2]}/{name}.toml",
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot be read: {error.strerror}", on=str(path)) from None
    except UnicodeDecodeError:
        raise SettingsError("is not UTF-8 text", on=str(path)) from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"is not TOML: {error}", on=str(path), hint='key = "value" under a [table]') from None


def _merge(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Tables are merged key by key; anything else, lists too, is replaced."""
    merged = dict(under)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _sandbox_overlay() -> dict[str, Any]:
    from xai_runbook.sandbox import state

    running = state.read()
    return dict(running["overlay"]) if running else {}


def _overrides(variables: os._Environ[str] | dict[str, str]) -> dict[str, Any]:
    """`XAI_RUNBOOK_PROMETHEUS__URL=http://...` is `url` of table `prometheus`; values are TOML, else plain text."""
    tables: dict[str, Any] = {}
    for variable, text in variables.items():
        keys = variable.removeprefix("XAI_RUNBOOK_").lower().split("__")
        if variable.startswith("XAI_RUNBOOK_") and len(keys) > 1:
            try:
                value = tomllib.loads(f"value = {text}")["value"]
            except tomllib.TOMLDecodeError:
                value = text
            for key in reversed(keys):
                value = {key: value}
            tables = _merge(tables, value)
    return tables


_EXAMPLES = {
    "extra_forbidden": "remove it, or mend its spelling",
    "missing": "add it",
}


def _explained(error: ValidationError, path: Path) -> SettingsError:
    """The first complaints of pydantic, as file, table and key; values are never echoed: one may be a secret."""
    complaints = error.errors(include_input=False, include_url=False)
    first = complaints[0]
    *tables, key = [str(part) for part in first["loc"]] or [""]
    where = f"table [{'.'.join(tables)}], key {key}" if tables else f"key {key}" if key else "as a whole"
    what = "unknown key" if first["type"] == "extra_forbidden" else first["msg"].removeprefix("Value error, ")
    more = f" (and {len(complaints) - 1} more)" if len(complaints) > 1 else ""
    return SettingsError(
        f"{what}{more}", on=f"{path}, {where}",
        hint=f"{_EXAMPLES.get(first['type'], 'see the example')}: {_example(tables, key)}",
    )


def _example(tables: list[str], key: str) -> str:
    """How the shipped files write that key, else a line of the same shape."""
    for shipped in ("production.example.toml", "defaults.toml"):
        table: Any = _read(SHIPPED / shipped)
        for name in tables:
            table = table[int(name)] if name.isdigit() and isinstance(table, list) and int(name) < len(table) else (
                table.get(name, {}) if isinstance(table, dict) else {}
            )
        if isinstance(table, dict) and not isinstance(table.get(key, {}), dict):
            import json

            return f"{key} = {json.dumps(table[key], ensure_ascii=False)}"
        if isinstance(table, dict) and table and all(not isinstance(value, dict) for value in table.values()):
            return f"[{'.'.join(tables)}] has the keys {', '.join(table)}" if tables else f"has {', '.join(table)}"
    return "environments/production.example.toml"
