"""Break and heal commands, executed in the supervisor, so that parts that it starts again are its children."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xai_runbook.errors import SandboxError
from xai_runbook.sandbox.faults.table import FAULTS, Fault
from xai_runbook.system.suggestions import suggestion

if TYPE_CHECKING:
    from xai_runbook.sandbox.supervisor.supervisor import Supervisor


def command(supervisor: Supervisor, verb: str, name: str | None) -> list[str]:
    """Break a fault, or heal one or all; return the names of the faults changed and the parts started again.

    Raises SandboxError for an unknown name, a fault that is already broken, and a part that another fault has broken.
    """
    if name is not None and name not in FAULTS:
        raise SandboxError(f"unknown fault {name!r}", hint=suggestion(name, FAULTS))
    if verb == "break" and name is not None:
        _break(supervisor, FAULTS[name])
        return [name]
    if verb == "heal":
        names = [name] if name is not None else list(reversed(supervisor.active_faults))
        healed = [fault_name for fault_name in names if fault_name in supervisor.active_faults]
        for fault_name in healed:
            FAULTS[fault_name].undo(supervisor)
            supervisor.active_faults.remove(fault_name)
        if name is None:  # start parts that ended by themselves or were killed
            for part in supervisor.ended_parts():
                supervisor.start_part(part)
                healed.append(part)
        if not supervisor.active_faults:
            supervisor.await_data()
        return healed
    raise SandboxError(f"unknown sandbox command {verb!r}")


def _break(supervisor: Supervisor, fault: Fault) -> None:
    if reason := supervisor.layout.missing.get(fault.part):
        raise SandboxError(f"{fault.part} is not part of this sandbox", on=reason)
    for other in supervisor.active_faults:
        if other == fault.name or FAULTS[other].part == fault.part:
            raise SandboxError(
                f"{other} is already broken" if other == fault.name else f"{fault.part} is already broken by {other}",
                on=fault.name, hint=f"xai-runbook sandbox heal {other}",
            )  # fmt: skip
    fault.make(supervisor)
    supervisor.active_faults.append(fault.name)
