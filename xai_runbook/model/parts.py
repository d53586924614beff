"""The parts that a plan touches, by names that do not depend on how they are reached, and which plans overlap.

A part is used in one of three ways:

- `read`: it must stay what it is meanwhile, such as a database that is dumped;
- `change`: what is in it changes, such as by a vacuum, an index, the end of a session;
- `exclusive`: it is replaced or renamed, or all that is in it is affected, such as a database that is restored, or a
  server whose max_connections is set.

`read` goes together with `read` and with `change`; all other pairs overlap. Whatever concerns a database also reads its
server, so that a change of the whole server overlaps with those of each of its databases. Copies of a server that share
its system identifier and its port have one name: plans for them exclude each other, which is the careful side.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

Mode = Literal["read", "change", "exclusive"]
Parts = Mapping[str, Mode]
UNKNOWN_IDENTIFIER = "not readable"
"""What sql/database/identity.sql answers where the role may not read the system identifier."""
_TOGETHER = (("read", "read"), ("read", "change"), ("change", "read"))


def touched_parts(identity: Mapping[str, str], declared: Parts) -> dict[str, Mode]:
    """The parts of a plan that was made with handles of this identity, by their names.

    `declared` is what the change says beyond its handles, each of which it changes: "database", "server" and "backups"
    are those of the identity, "database OID" is another one of that server, "file PATH" a file of this machine.
    The database is named by its oid and by its name: either may lead to another one while an outcome is unknown.
    """
    uses: dict[str, Mode] = {key.partition(".")[0]: "change" for key in identity}
    if "database" in uses:
        uses["server"] = "read"
    uses |= declared
    if "database" in uses:
        uses[f"database name {identity.get('database.database')}"] = uses["database"]
    return dict(sorted((_name(part, identity), mode) for part, mode in uses.items()))


def overlap(one: Parts, other: Parts) -> list[str]:
    """The names of the parts on which two plans exclude each other."""
    return [name for name, mode in one.items() if name in other and (mode, other[name]) not in _TOGETHER]


def server_name(identity: Mapping[str, str]) -> str:
    """Name the server by its system identifier, which copies of it share, and the port it listens on.

    The address is left out: behind a bastion it is 127.0.0.1 of another machine, and a server has many. It is used only
    where the identifier is not known; all loopback addresses are one then.
    """
    identifier = identity.get("database.system_identifier", UNKNOWN_IDENTIFIER)
    if identifier == UNKNOWN_IDENTIFIER:
        address = identity.get("database.server_address", "")
        local = address == "socket" or _is_loopback(address)
        identifier = f"{identifier}@{'localhost' if local else address}"
    return f"{identifier}:{identity.get('database.server_port')}"


def database_part(identity: Mapping[str, str]) -> str:
    """The part that names the identity's database by its oid."""
    return _name("database", identity)


def machine() -> str:
    """This machine's own identifier; its host name where it has none."""
    with suppress(OSError):
        return Path("/etc/machine-id").read_text(encoding="ascii").strip() or socket.gethostname()
    return socket.gethostname()


def _name(part: str, identity: Mapping[str, str]) -> str:
    kind, _, rest = part.partition(" ")
    if kind == "server":
        return f"server {server_name(identity)}"
    if kind == "database":
        return f"database {server_name(identity)}/{rest or identity.get('database.database_oid')}"
    if kind == "file":
        return f"file {machine()} {os.path.realpath(rest)}"
    told = {key: value for key, value in identity.items() if key.startswith(f"{kind}.")}
    return " ".join([kind, *(_address(value) for _, value in sorted(told.items()))])


def _address(value: str) -> str:
    """A URL in one way of writing: the names of this machine's loopback are one, and so are a port left out and told.

    Text that is no URL stays as it is.
    """
    with suppress(ValueError):
        told = urlsplit(value)
        if told.scheme in ("http", "https") and told.hostname:
            host = "localhost" if told.hostname == "localhost" or _is_loopback(told.hostname) else told.hostname
            port = told.port or (443 if told.scheme == "https" else 80)
            return f"{told.scheme}://{host}:{port}{told.path.rstrip('/')}"
    return value


def _is_loopback(host: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False
