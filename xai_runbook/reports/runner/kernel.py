"""The kernel of a report's notebook: IPython's, which also reports failures that raise nothing in the cell.

Run as `python -P -m xai_runbook.reports.runner.kernel -f CONNECTION_FILE`. Each execute reply lists, under
`xai_runbook`, failed threads and failed shell commands. Notebooks do not depend on it: any Jupyter kernel runs them.
"""

from __future__ import annotations

import threading
from typing import Any

from ipykernel.ipkernel import IPythonKernel
from ipykernel.kernelapp import IPKernelApp
from ipykernel.zmqshell import ZMQInteractiveShell

from xai_runbook.errors import inert
from xai_runbook.model.secret import read_only
from xai_runbook.system.parent_death import die_with_parent


class ReportShell(ZMQInteractiveShell):
    """Interactive shell that collects the non-zero exit codes of `!commands`."""

    failed_commands: list[int]
    system_raise_on_error: bool

    def system_piped(self, cmd: str) -> None:
        """Run a command; collect its exit code if it is not 0."""
        super().system_piped(cmd)  # type: ignore[no-untyped-call]
        code = self.user_ns.get("_exit_code", 0)
        if code:
            self.failed_commands.append(code)

    system = system_piped


class ReportKernel(IPythonKernel):
    """IPython kernel whose replies list failed threads and shell commands."""

    shell_class = ReportShell

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)  # type: ignore[no-untyped-call]
        shell = self.shell
        assert isinstance(shell, ReportShell)
        self.failed_threads: list[str] = []
        self.failed_commands: list[int] = []
        shell.failed_commands = self.failed_commands
        # otherwise `x = !command` hides the failure; older IPython ignores the setting
        shell.system_raise_on_error = True
        default_hook = threading.excepthook

        def record_failure(failure: threading.ExceptHookArgs) -> None:
            message = inert(f"{failure.exc_type.__name__}: {failure.exc_value}", 300)
            if failure.exc_type is not SystemExit and len(self.failed_threads) < 20:
                self.failed_threads.append(message)
            default_hook(failure)

        threading.excepthook = record_failure

    async def do_execute(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return IPython's reply, plus `xai_runbook`: the failures since the last reply, as texts."""
        reply: dict[str, Any] = await super().do_execute(*args, **kwargs)  # type: ignore[no-untyped-call]
        failures = [f"a thread failed: {message}" for message in self.failed_threads]
        failures += [f"a shell command ended with exit code {code}" for code in self.failed_commands]
        self.failed_threads.clear()
        self.failed_commands.clear()
        reply["xai_runbook"] = failures
        return reply


def main() -> None:
    """Run the kernel until it is shut down or its parent dies."""
    die_with_parent()
    with read_only():
        IPKernelApp.launch_instance(kernel_class=ReportKernel)


if __name__ == "__main__":
    main()
