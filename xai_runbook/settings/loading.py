"""Find the file of an environment and load Settings from it."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from xai_runbook.errors import SandboxError, SettingsError, inert
from xai_runbook.system.ownership import writable_by_others
from xai_runbook.system.suggestions import similar, suggestion

if TYPE_CHECKING:
    from pydantic import ValidationError

    from xai_runbook.settings.models import Settings

SHIPPED = Path(__file__).parent / "environments"
DEFAULTS = Path(__file__).parent / "defaults"
DEFAULT = "sandbox"
_FILES = ("ca_file", "client_certificate", "client_key", "sslrootcert", "identity_file", "known_hosts_file")
_SECRETS = ("password", "auth_value")
PRIVATE = "a file and a folder of your own, writable by you alone (chown, chmod go-w)"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def folders() -> list[Path]:
    """Return the folders that are searched for `NAME.toml`, in order; the shipped environments come last.

    These are `$XAI_RUNBOOK_CONFIG` and the XDG configuration folder. The working folder is never searched, because
    another user may have written it.
    """
    chosen = os.environ.get("XAI_RUNBOOK_CONFIG")
    xdg = os.environ.get("XDG_CONFIG_HOME", "")
    config = Path(xdg if os.path.isabs(xdg) else "~/.config").expanduser()  # XDG says: ignore relative paths
    return [*([Path(chosen).expanduser()] if chosen else []), config / "xai-runbook", SHIPPED]


def names() -> list[str]:
    """Return the names of the environments, sorted."""
    found = {path.stem for folder in folders() for path in folder.glob("*.toml") if not path.stem.endswith(".example")}
    return sorted(found)


def load(name: str = "", *, running: bool = False) -> Settings:
    """Load an environment: the defaults, its file, a running sandbox's ports, then variables XAI_RUNBOOK_TABLE__KEY.

    `name` may be the path of a `NAME.toml`; it defaults to `$XAI_RUNBOOK_ENV`, else to the sandbox. Errors:
    SettingsError, which names file, table and key; SandboxError if `running` is set and the sandbox is not running.
    """
    from pydantic import ValidationError

    from xai_runbook.settings.models import Settings

    path = file_of(name)
    name = path.stem
    tables: dict[str, Any] = {}
    for _, layer in layers(path, running=running):
        tables = merge(tables, layer)
    if tables.get("name", name) != name:
        raise SettingsError(
            "the name of an environment is the name of its file", on=f"{path}, key name", hint="remove the key"
        )
    try:
        return Settings.model_validate({**tables, "name": name, "source": str(path)})
    except ValidationError as error:
        raise _explained(error, path, _overrides(os.environ)) from None


def file_of(name: str = "") -> Path:
    """Return the file of an environment given by name or path, as `load` finds it. Errors: SettingsError."""
    return _find(name or os.environ.get("XAI_RUNBOOK_ENV") or DEFAULT)


def layers(path: Path, *, running: bool = False) -> list[tuple[Path | None, dict[str, Any]]]:
    """Return what an environment's settings are merged from, a later one over an earlier one: its file and its tables.

    The file is None for the variables, and the state file for what a running sandbox adds.
    """
    found: list[tuple[Path | None, dict[str, Any]]] = [(file, _read(file)) for file in sorted(DEFAULTS.glob("*.toml"))]
    found.append((path, _with_absolute_paths(_read(path), path.parent)))
    if path == SHIPPED / "sandbox.toml":
        state_file, overlay = _sandbox_overlay()
        if running and not overlay:
            raise SandboxError("the sandbox is not running", hint="xai-runbook sandbox up, or --env NAME")
        found.append((state_file, overlay))
    found.append((None, _overrides(os.environ)))
    return found


def shipped() -> Settings:
    """Return the runbook's own limits and durations, without any environment and without any part."""
    from xai_runbook.settings.models import Settings

    return Settings.model_validate({**defaults(), "name": "the runbook"})


def defaults() -> dict[str, Any]:
    """Return the default tables of every environment: the limits of each section, metrics, windows and signals."""
    tables: dict[str, Any] = {}
    for path in sorted(DEFAULTS.glob("*.toml")):
        tables = merge(tables, _read(path))
    return tables


def select_environment(name_or_path: str) -> str:
    """Return the name of an environment given by name or path.

    For a path, its folder becomes `$XAI_RUNBOOK_CONFIG` of this process and its children. Errors: SettingsError if
    the path is not a settings file.
    """
    if "/" not in name_or_path:
        return name_or_path
    path = _find(name_or_path)
    os.environ["XAI_RUNBOOK_CONFIG"] = str(path.parent)
    return path.stem


def _find(name: str) -> Path:
    if "/" in name:
        path = Path(os.path.abspath(Path(name).expanduser()))
        if path.suffix != ".toml" or not _NAME.fullmatch(path.stem) or not path.is_file():
            raise SettingsError(
                "there is no such settings file",
                on=inert(str(path)),
                hint=f"FOLDER/NAME.toml, or one of {', '.join(names())}",
            )
        return _trusted(path)
    if not _NAME.fullmatch(name):
        raise SettingsError(f"{name!r} is not the name of an environment", hint=suggestion(name, names()))
    for folder in folders():
        path = folder / f"{name}.toml"
        if os.path.isfile(path):  # False also for a folder that may not be read
            return _trusted(path)
    searched = ", ".join(str(folder) for folder in folders()[:-1])
    raise SettingsError(
        f"there is no environment {name!r}",
        on=f"searched {searched}",
        hint=f"{suggestion(name, names())}, or copy production.example.toml to {folders()[-2]}/{name}.toml",
    )


def _trusted(path: Path) -> Path:
    """Return the path. Errors: SettingsError if other users can write it, or if it hides a shipped environment."""
    if os.path.realpath(path.parent) == os.path.realpath(SHIPPED):
        return path
    if (SHIPPED / path.name).exists():
        raise SettingsError(
            f"the name {path.stem} is the shipped environment's", on=str(path), hint="give the file another name"
        )
    try:
        reason = writable_by_others(path)
    except OSError as error:
        raise SettingsError(f"cannot be read: {error.strerror}", on=str(path)) from None
    if reason:
        raise SettingsError(f"settings that others can write are not used: {reason}", on=str(path), hint=PRIVATE)
    return path


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot be read: {error.strerror}", on=str(path)) from None
    except UnicodeDecodeError:
        raise SettingsError("is not UTF-8 text", on=str(path)) from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"is not TOML: {error}", on=str(path), hint='key = "value" under a [table]') from None


def _with_absolute_paths(value: Any, folder: Path, key: str = "") -> Any:
    """Resolve relative file names against `folder`, because child processes have other working folders."""
    if isinstance(value, dict):
        return {name: _with_absolute_paths(each, folder, name) for name, each in value.items()}
    if isinstance(value, list):
        return [_with_absolute_paths(each, folder, key) for each in value]
    if not isinstance(value, str):
        return value
    prefix = "file:" if value.startswith("file:") else ""
    name = value.removeprefix(prefix)
    # "system" is libpq's name for the operating system's certificate authorities
    is_file = key in (_SECRETS if prefix else _FILES) and name not in ("", "system")
    return value if not is_file or name.startswith(("/", "~")) else f"{prefix}{folder.absolute() / name}"


def merge(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Merge tables key by key; replace everything else, lists too."""
    merged = dict(under)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def _sandbox_overlay() -> tuple[Path, dict[str, Any]]:
    from xai_runbook.system import sandbox_state

    file = sandbox_state.run_folder() / sandbox_state.STATE_FILE
    with suppress(OSError):  # no sandbox is running
        if reason := writable_by_others(file):
            raise SettingsError(f"a sandbox that others can write is not used: {reason}", on=str(file), hint=PRIVATE)
    running = sandbox_state.read()
    return file, dict(running["overlay"]) if running else {}


def _overrides(variables: os._Environ[str] | dict[str, str]) -> dict[str, Any]:
    """Return the tables that variables set: `XAI_RUNBOOK_PROMETHEUS__URL=...` is `url` of `prometheus`.

    A value is TOML, else plain text.
    """
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
            tables = merge(tables, value)
    return tables


def _explained(error: ValidationError, path: Path, overrides: dict[str, Any]) -> SettingsError:
    """Return pydantic's first error with file, table and key. Values are never repeated: one may be a secret."""
    from xai_runbook.settings.limits import section_of

    errors = error.errors(include_input=False, include_url=False)
    first = errors[0]
    loc = getattr(first.get("ctx", {}).get("error"), "loc", first["loc"])
    *tables, key = [str(part) for part in loc] or [""]
    where = f"table [{'.'.join(tables)}], key {key}" if tables else f"key {key}" if key else "as a whole"
    what = "unknown key" if first["type"] == "extra_forbidden" else first["msg"].removeprefix("Value error, ")
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    source = f"variable {_variable(loc)}" if _holds(overrides, loc) else str(path)
    if first["type"] == "extra_forbidden":
        known = keys_of(tables)
        if tables[:1] == ["limits"] and (section := section_of(key)):
            hint = f"that limit is the table [limits.{section}.{key}]"
        elif near := similar(key, known):
            hint = f"{near[0]}: {_example(tables, near[0])}"
        else:
            hint = f"remove it; the keys here are {', '.join(known)}"
    else:
        hint = f"{'add it' if first['type'] == 'missing' else 'see the example'}: {_example(tables, key)}"
    return SettingsError(f"{what}{more}", on=f"{source}, {where}", hint=hint)


def _variable(loc: Sequence[str | int]) -> str:
    return f"XAI_RUNBOOK_{'__'.join(str(part) for part in loc).upper()}"


def _holds(overrides: dict[str, Any], loc: Sequence[str | int]) -> bool:
    """Return whether a variable set the key at `loc`, or a table or list that contains it."""
    table: Any = overrides
    for part in loc:
        if not isinstance(table, dict):
            return True
        if part not in table:
            return False
        table = table[part]
    return bool(loc)


def keys_of(tables: Sequence[str]) -> list[str]:
    """Return the keys that the settings table at that path may have."""
    return list(_fields(tables))


def _fields(tables: Sequence[str]) -> dict[str, Any]:
    """Return annotation and default of each key of a table, from its model: {key: (annotation, default)}."""
    from xai_runbook.settings.models import Settings

    model: Any = Settings
    for name in tables:
        if not name.isdigit():  # an index in a list of tables
            model = _inner(_declared(model).get(name, (None, None))[0])
    return _declared(model)


def _declared(model: Any) -> dict[str, Any]:
    if hasattr(model, "model_fields"):
        return {key: (field.annotation, field.default) for key, field in model.model_fields.items()}
    if is_dataclass(model):
        return {field.name: (field.type, field.default) for field in fields(model) if field.name != "name"}
    return {}


def _inner(annotation: Any) -> Any:
    """Return the model in `Model | None`, `list[Model]` or `Annotated[...]`."""
    parts = [part for part in get_args(annotation) if part is not type(None)]
    return _inner(parts[0]) if parts else annotation


def _example(tables: Sequence[str], key: str) -> str:
    """Return an example line for the key: from the shipped files, else its default, else a placeholder."""
    shipped: tuple[Any, ...] = (_read(SHIPPED / "production.example.toml"), defaults())
    for table in shipped:
        for name in tables:
            # the example has one node; the other nodes have the same keys
            table = (
                table[0]
                if name.isdigit() and isinstance(table, list) and table
                else (table.get(name) if isinstance(table, dict) else None)
            )
        if isinstance(table, dict) and isinstance(table.get(key), str | int | float):
            return _line(key, table[key])
    annotation, default = _fields(tables).get(key, (None, None))
    inner = _declared(_inner(annotation))
    if inner:
        return f"a table [{'.'.join([*tables, key])}] with {', '.join(inner)}"
    if getattr(_inner(annotation), "__name__", "") == "Secret":
        return f'{key} = "env:NAME_OF_VARIABLE" or {key} = "file:/path/to/file"'
    return _line(key, default if isinstance(default, str | int | float) else "...")


def _line(key: str, value: str | int | float) -> str:
    import json

    return f"{key} = {json.dumps(value, ensure_ascii=False)}"
