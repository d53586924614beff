"""The parts that a plan touches, by names that do not depend on addresses, and which plans overlap.

A part is used in one of three modes:

- `read`: it must stay the same part meanwhile, such as a database that is dumped;
- `change`: something in it changes, such as by a vacuum, an index, the end of a session;
- `exclusive`: it is replaced or renamed, or everything in it is affected, such as a database that is restored, or a
  server whose max_connections is set.

`read` is compatible with `read` and with `change`; all other pairs overlap. A plan for a database also reads its
server, so a change of the server overlaps with the changes of each of its databases. Copies of a server with the same
system identifier and port have one name: plans for them exclude each other, which is on the safe side.
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
_COMPATIBLE = (("read", "read"), ("read", "change"), ("change", "read"))


def touched_parts(identity: Mapping[str, str], declared: Parts) -> dict[str, Mode]:
    """Return the parts, by name, of a plan that was made with handles of this identity.

    The part of each handle is changed. `declared` adds to that or overrides it: "database", "server" and "backups" are
    those of the identity, "database OID" is another database of that server, "file PATH" a file of this machine.
    The database is named by its oid and by its name: while an outcome is unknown, either may lead to another one.
    """
    uses: dict[str, Mode] = {key.partition(".")[0]: "change" for key in identity}
    if "database" in uses:
        uses["server"] = "read"
    uses |= declared
    if "database" in uses:
        uses[f"database name {identity.get('database.database')}"] = uses["database"]
    return dict(sorted((_name(part, identity), mode) for part, mode in uses.items()))


def overlap(one: Parts, other: Parts) -> list[str]:
    """Return the names of the parts on which two plans exclude each other."""
    return [name for name, mode in one.items() if name in other and (mode, other[name]) not in _COMPATIBLE]


def server_name(identity: Mapping[str, str]) -> str:
    """Return a name for the server: its system identifier, which copies of it share, and the port it listens on.

    The address is left out: a server has many, and behind a bastion it is 127.0.0.1 of another machine. It is used only
    if the identifier is unknown; then all loopback addresses count as one.
    """
    identifier = identity.get("database.system_identifier", UNKNOWN_IDENTIFIER)
    if identifier == UNKNOWN_IDENTIFIER:
        address = identity.get("database.server_address", "")
        local = address == "socket" or _is_loopback(address)
        identifier = f"{identifier}@{'localhost' if local else address}"
    return f"{identifier}:{identity.get('database.server_port')}"


def database_part(identity: Mapping[str, str]) -> str:
    """Return the part that names the identity's database by its oid."""
    return _name("database", identity)


def machine() -> str:
    """Return this machine's identifier, or its host name if it has none."""
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
    values = {key: value for key, value in identity.items() if key.startswith(f"{kind}.")}
    return " ".join([kind, *(_address(value) for _, value in sorted(values.items()))])


def _address(value: str) -> str:
    """Return a URL in canonical form: one name for all loopback hosts, and always a port. Other text stays as it is."""
    with suppress(ValueError):
        url = urlsplit(value)
        if url.scheme in ("http", "https") and url.hostname:
            host = "localhost" if url.hostname == "localhost" or _is_loopback(url.hostname) else url.hostname
            port = url.port or (443 if url.scheme == "https" else 80)
            return f"{url.scheme}://{host}:{port}{url.path.rstrip('/')}"
    return value


def _is_loopback(host: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False
