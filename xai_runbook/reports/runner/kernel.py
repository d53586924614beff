"""The kernel that a report's notebook runs in: IPython's own, which also says what would pass for success.

Run as `python -P -m xai_runbook.reports.runner.kernel -f CONNECTION_FILE`. It adds to each execute reply, under
`xai_runbook`, what happened without an error of the cell: a thread that failed, a shell command that failed. A notebook
needs none of it: any Jupyter runs it too.
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


class Shell(ZMQInteractiveShell):
    """Keeps the exit codes of `!commands`, every one of a cell."""

    failed_commands: list[int]
    system_raise_on_error: bool

    def system_piped(self, cmd: str) -> None:
        """None; the exit code is kept where it is not 0."""
        super().system_piped(cmd)  # type: ignore[no-untyped-call]
        code = self.user_ns.get("_exit_code", 0)
        if code:
            self.failed_commands.append(code)

    system = system_piped


class Kernel(IPythonKernel):
    """Reports, with each reply, the failures that IPython counts as success."""

    shell_class = Shell

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)  # type: ignore[no-untyped-call]
        shell = self.shell
        assert isinstance(shell, Shell)
        self.failed_threads: list[str] = []
        self.failed_commands: list[int] = []
        shell.failed_commands = self.failed_commands
        # `x = !command` has no other way of telling that it failed; older IPython lacks it
        shell.system_raise_on_error = True
        told = threading.excepthook

        def note(failure: threading.ExceptHookArgs) -> None:
            words = inert(f"{failure.exc_type.__name__}: {failure.exc_value}", 300)
            if failure.exc_type is not SystemExit and len(self.failed_threads) < 20:
                self.failed_threads.append(words)
            told(failure)

        threading.excepthook = note

    async def do_execute(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """IPython's reply, with `xai_runbook`: texts of what failed since the last one."""
        reply: dict[str, Any] = await super().do_execute(*args, **kwargs)  # type: ignore[no-untyped-call]
        told = [f"a thread failed: {words}" for words in self.failed_threads]
        told += [f"a shell command ended with exit code {code}" for code in self.failed_commands]
        self.failed_threads.clear()
        self.failed_commands.clear()
        reply["xai_runbook"] = told
        return reply


def main() -> None:
    """Runs until it is told to shut down, or its parent dies."""
    die_with_parent()
    with read_only():
        IPKernelApp.launch_instance(kernel_class=Kernel)


if __name__ == "__main__":
    main()
