"""The papermill engine of a report: it runs every cell and records every failure.

Plain papermill stops at the first error, waits without a deadline, treats the death of a kernel as completion, and
keeps output of any size. This engine gives each cell a deadline, restarts a dead kernel and repeats its set-up cells,
keeps the head and tail of long outputs, and records failures in the notebook's metadata for `notebooks.results`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from jupyter_client.asynchronous.client import AsyncKernelClient
from nbclient.util import run_sync
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, NotebookExecutionManager

from xai_runbook.reports.notebooks.results import METADATA_KEY, SETUP_TAGS, name_of, tags_of
from xai_runbook.reports.runner.kernel_process import KernelProcess
from xai_runbook.reports.runner.output_limits import OutputLimiter
from xai_runbook.reports.runner.redaction import Mask

_START_SECONDS = 60.0
_GRACE_SECONDS = 3.0  # for a cell to end after an interrupt
_QUIET_SECONDS = 2.0  # for outputs that arrive after the reply


@dataclass
class RunOptions:
    """Options of the engine beyond papermill's own arguments."""

    kernel: KernelProcess
    save: Callable[[Any, bool], None]
    """Saves the notebook as it is now; the flag is true for the last time."""
    report_progress: Callable[[str, int, int], None]
    """Reports progress: a cell's name, its index, the number of cells."""
    cell_seconds: float
    source: str = ""
    """The notebook's file name, for its metadata."""
    mask: Mask = field(default_factory=Mask)


class ReportEngine(NBClientEngine):  # type: ignore[misc]
    """papermill engine with `RunOptions`; papermill's own arguments about kernels and deadlines are ignored."""

    @classmethod
    def execute_notebook(cls, nb: Any, kernel_name: str, *, options: RunOptions, **arguments: Any) -> Any:
        """Run the notebook `nb` and return it; it is saved even if the run fails."""
        nb.metadata.papermill["input_path"] = options.source  # papermill sets it to the whole notebook
        try:
            return super().execute_notebook(nb, kernel_name, options=options, **arguments)
        finally:
            # before papermill adds cells that say it stopped at the first error, which is not so here
            options.save(nb, True)

    @classmethod
    def execute_managed_notebook(
        cls, nb_man: NotebookExecutionManager, kernel_name: str, *, options: RunOptions, **ignored: Any
    ) -> None:
        """Run the notebook of `nb_man`."""
        client = ReportClient(nb_man, km=options.kernel, options=options)
        client.run()


class ReportClient(PapermillNotebookClient):  # type: ignore[misc]
    """Client that runs the cells of one notebook in one kernel, in order."""

    def __init__(self, nb_man: NotebookExecutionManager, km: KernelProcess, options: RunOptions) -> None:
        # the state of widgets grows without bound and is of no use in an executed copy
        super().__init__(nb_man, km=km, store_widget_state=False)
        self.kernel, self.options = km, options
        self.limiter = OutputLimiter()
        self.setup_cells: list[Any] = []

    async def _run(self) -> None:
        self.nb.metadata[METADATA_KEY] = {"faults": [], "ran": []}
        notes = self.nb.metadata[METADATA_KEY]  # nbformat stores a copy
        cells = self.nb.cells
        for cell in cells:
            _dict(cell.metadata.get(METADATA_KEY)).pop("fault", None)  # from an earlier run
        try:
            await self._connect()
            for index, cell in enumerate(cells):
                if cell.cell_type != "code" or not cell.source.strip():
                    continue
                name = name_of(cell, index)
                self.options.report_progress(name, index, len(cells))
                self.code_cells_executed = index
                self.nb_man.cell_start(cell, index)
                fault = await self._run_cell(cell, index)
                if fault:
                    cell.metadata.setdefault(METADATA_KEY, {})["fault"] = self.options.mask(fault)
                    self.nb_man.cell_exception(cell, index)
                self.nb_man.cell_complete(cell, index)
                notes["ran"].append(name)
                self.options.save(self.nb, False)
            background = await self._background_fault()
            if background:
                notes["faults"].append(self.options.mask(background))
        finally:
            self._disconnect()
            self.kernel.end()

    run = run_sync(_run)

    async def _connect(self) -> None:
        """Connect a client to the started kernel and wait until it answers. Errors: RuntimeError."""
        client = AsyncKernelClient()
        client.load_connection_info(self.kernel.connection)
        client.start_channels(hb=False, stdin=False)
        self.kc = client
        client.allow_stdin = False
        deadline = monotonic() + _START_SECONDS
        while True:
            # ask until the answer arrives on both channels, because a subscription takes effect with a delay
            request = client.kernel_info()
            if await self._is_ready(request, 0.5):
                return
            if self.kernel.poll() is not None or monotonic() > deadline:
                running = self.kernel.poll() is None
                reason = f"no answer in {_START_SECONDS:g} s" if running else self.kernel.exit_description()
                raise RuntimeError(f"the kernel did not start: {reason}, {self.kernel.last_log_line()}")

    async def _is_ready(self, request: str, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                while True:
                    reply = await self.kc.get_shell_msg(timeout=None)
                    if reply["msg_type"] == "kernel_info_reply":
                        self.nb.metadata["language_info"] = reply["content"]["language_info"]
                        break
                await self.kc.get_iopub_msg(timeout=None)
        except TimeoutError:
            return False
        return True

    def _disconnect(self) -> None:
        if self.kc is not None:
            self.kc.stop_channels()
            self.kc = None  # type: ignore[assignment]

    async def _run_cell(self, cell: Any, index: int) -> str:
        """Run a cell and return its fault ("" if none); an exception of the cell is in its outputs."""
        fault, lost = await self._execute(cell, index)
        if SETUP_TAGS & set(tags_of(cell)) and not lost:
            self.setup_cells.append(cell)
        if lost:
            restart_fault = await self._restart()
            fault += f"; {restart_fault}" if restart_fault else ""
        return fault

    async def _restart(self) -> str:
        """Start a new kernel, repeat the set-up cells and return the fault of that ("" if none)."""
        self._disconnect()
        self.kernel.end()
        self.kernel.start()
        await self._connect()
        for cell in list(self.setup_cells):
            self.options.report_progress("set-up again", self.code_cells_executed, len(self.nb.cells))
            copy = type(cell)(**{**cell, "metadata": type(cell.metadata)(tags=tags_of(cell)), "outputs": []})
            fault, lost = await self._execute(copy, -1)
            if lost:
                self.setup_cells.remove(cell)
                return f"a set-up cell could not be run again: {fault}"
        return ""

    async def _execute(self, cell: Any, index: int) -> tuple[str, bool]:
        """Execute a cell; return its fault ("" if none) and whether the kernel is lost."""
        cell.outputs, cell.metadata["execution"] = [], {}
        self.clear_before_next_output = False
        self.limiter = OutputLimiter()
        request = self.kc.execute(cell.source, store_history=True, stop_on_error=False, allow_stdin=False)
        outputs = asyncio.ensure_future(self._async_poll_output_msg(request, cell, index))
        reply = asyncio.ensure_future(self._reply(request))
        fault, lost = "", False
        try:
            content = await self._wait_for(reply, self.options.cell_seconds)
            if content is None and self.kernel.poll() is None:
                fault = f"the cell did not end within {self.options.cell_seconds:g} s and was interrupted"
                self.kernel.interrupt()
                content = await self._wait_for(reply, _GRACE_SECONDS)
            if content is None:
                lost = True
                if self.kernel.poll() is None:
                    fault += "; it ignored the interrupt, so the kernel was killed"
                else:
                    fault = fault or f"the kernel died ({self.kernel.exit_description()})"
                await asyncio.wait([outputs], timeout=0.2)
            else:
                complete = await self._wait_for_outputs(outputs)
                fault = fault or self._reply_fault(content, cell)
                if not complete:
                    self.limiter.lost_messages = True
                lost = any(_dict(item).get("source") == "ask_exit" for item in content.get("payload") or [])
                if lost:
                    fault = fault or "the cell called exit()"
        finally:
            for task in (reply, outputs):
                task.cancel()
            await asyncio.gather(reply, outputs, return_exceptions=True)
        self.limiter.finish(cell.outputs, self.options.mask)
        return fault, lost

    async def _wait_for(self, reply: asyncio.Future[dict[str, Any]], seconds: float) -> dict[str, Any] | None:
        """Return the reply; None if the deadline passes or the kernel dies first."""
        deadline = monotonic() + seconds
        while not reply.done() and monotonic() < deadline:
            dead = self.kernel.poll() is not None
            await asyncio.wait([reply], timeout=max(0.0, min(0.2, deadline - monotonic())))
            if dead:  # a reply sent before its death had 0.2 s to arrive
                break
        return reply.result() if reply.done() else None

    async def _reply(self, request: str) -> dict[str, Any]:
        while True:
            message = await self.kc.get_shell_msg(timeout=None)
            if message["parent_header"].get("msg_id") == request:
                content: dict[str, Any] = message["content"]
                return content

    async def _wait_for_outputs(self, outputs: asyncio.Future[None]) -> bool:
        """Wait for the remaining outputs; return False if the final message was lost, as when the socket overflows."""
        seen = -1
        while not outputs.done() and seen != self.limiter.messages:
            seen = self.limiter.messages
            await asyncio.wait([outputs], timeout=_QUIET_SECONDS)
        return outputs.done()

    def _reply_fault(self, content: dict[str, Any], cell: Any) -> str:
        """Return the fault that the reply reports; an error without an output gets one."""
        failures = content.get("xai_runbook")
        fault = "; ".join(str(item) for item in failures) if isinstance(failures, list) else ""
        if content.get("status") != "ok" and not any(output.output_type == "error" for output in cell.outputs):
            name, value = str(content.get("ename") or "Error"), str(content.get("evalue") or "")
            message = {
                "msg_type": "error",
                "content": {
                    "ename": name,
                    "evalue": value,
                    "traceback": [*(str(line) for line in content.get("traceback") or [f"{name}: {value}"])],
                },
            }
            self.limiter.error(cell.outputs, message)
            fault = fault or f"{name}: {value or 'no message'}"
        return fault

    async def _background_fault(self) -> str:
        """Return what failed in the background after the last cell ("" if nothing)."""
        request = self.kc.execute("", silent=True)
        reply = asyncio.ensure_future(self._reply(request))
        content = await self._wait_for(reply, _GRACE_SECONDS)
        reply.cancel()
        if content is None:
            return f"the kernel did not answer at the end ({self.kernel.exit_description()})"
        return "; ".join(str(item) for item in content.get("xai_runbook") or [])

    def process_message(self, msg: dict[str, Any], cell: Any, cell_index: int) -> Any:
        """Count the message and pass it to nbclient."""
        self.limiter.messages += 1
        return super().process_message(msg, cell, cell_index)

    def output(self, outs: list[Any], msg: dict[str, Any], display_id: str | None, cell_index: int) -> Any:
        """Append the output to `outs` unless the limits are exceeded; return None when it is merged or dropped."""
        if self.clear_before_next_output:
            self.clear_before_next_output = False
            self._clear(outs, cell_index)
        if msg["msg_type"] == "stream":
            self.limiter.stream(outs, msg["content"])
            return None
        if msg["msg_type"] == "error":
            self.limiter.error(outs, msg)
            return None
        return super().output(outs, msg, display_id, cell_index) if self.limiter.fits(msg["content"]) else None

    def clear_output(self, outs: list[Any], msg: dict[str, Any], cell_index: int) -> None:
        """Clear the outputs now, or before the next output if the message says so."""
        if msg["content"].get("wait"):
            self.clear_before_next_output = True
        else:
            self._clear(outs, cell_index)

    def _clear(self, outs: list[Any], cell_index: int) -> None:
        outs[:] = []
        self.limiter.clear()
        self.clear_display_id_mapping(cell_index)


def _dict(item: object) -> dict[str, Any]:
    return item if isinstance(item, dict) else {}
