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

from xai_runbook.reports.notebooks.results import NOTES, SET_UP, name_of, tags_of
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
    write: Callable[[Any, bool], None]
    """Saves the notebook as it is now; the flag is true for the last time."""
    tell: Callable[[str, int, int], None]
    """Reports progress: a cell's name, its index, the number of cells."""
    cell_seconds: float
    source: str = ""
    """The notebook's file name, for its metadata."""
    mask: Mask = field(default_factory=Mask)


class ReportEngine(NBClientEngine):  # type: ignore[misc]
    """papermill engine with `RunOptions`; papermill's own arguments about kernels and deadlines are ignored."""

    @classmethod
    def execute_notebook(cls, nb: Any, kernel_name: str, *, orders: RunOptions, **arguments: Any) -> Any:
        """Run the notebook `nb` and return it; it is saved even if the run fails."""
        nb.metadata.papermill["input_path"] = orders.source  # papermill sets it to the whole notebook
        try:
            return super().execute_notebook(nb, kernel_name, orders=orders, **arguments)
        finally:
            # before papermill adds cells that say it stopped at the first error, which is not so here
            orders.write(nb, True)

    @classmethod
    def execute_managed_notebook(
        cls, nb_man: NotebookExecutionManager, kernel_name: str, *, orders: RunOptions, **ignored: Any
    ) -> None:
        """Run the notebook of `nb_man`."""
        client = ReportClient(nb_man, km=orders.kernel, orders=orders)
        client.run()


class ReportClient(PapermillNotebookClient):  # type: ignore[misc]
    """Client that runs the cells of one notebook in one kernel, in order."""

    def __init__(self, nb_man: NotebookExecutionManager, km: KernelProcess, orders: RunOptions) -> None:
        # the state of widgets grows without bound and is of no use in an executed copy
        super().__init__(nb_man, km=km, store_widget_state=False)
        self.kernel, self.orders = km, orders
        self.kept = OutputLimiter()
        self.set_up: list[Any] = []

    async def _run(self) -> None:
        self.nb.metadata[NOTES] = {"faults": [], "ran": []}
        notes = self.nb.metadata[NOTES]  # nbformat stores a copy
        cells = self.nb.cells
        for cell in cells:
            _table(cell.metadata.get(NOTES)).pop("fault", None)  # from an earlier run
        try:
            await self._connect()
            for index, cell in enumerate(cells):
                if cell.cell_type != "code" or not cell.source.strip():
                    continue
                name = name_of(cell, index)
                self.orders.tell(name, index, len(cells))
                self.code_cells_executed = index
                self.nb_man.cell_start(cell, index)
                fault = await self._turn(cell, index)
                if fault:
                    cell.metadata.setdefault(NOTES, {})["fault"] = self.orders.mask(fault)
                    self.nb_man.cell_exception(cell, index)
                self.nb_man.cell_complete(cell, index)
                notes["ran"].append(name)
                self.orders.write(self.nb, False)
            late = await self._late()
            if late:
                notes["faults"].append(self.orders.mask(late))
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
            if await self._answered(request, 0.5):
                return
            if self.kernel.poll() is not None or monotonic() > deadline:
                ended = f"no answer in {_START_SECONDS:g} s" if self.kernel.poll() is None else self.kernel.obituary()
                raise RuntimeError(f"the kernel did not start: {ended}, {self.kernel.last_words()}")

    async def _answered(self, request: str, seconds: float) -> bool:
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

    async def _turn(self, cell: Any, index: int) -> str:
        """Run a cell and return its fault ("" if none); an exception of the cell is in its outputs."""
        fault, lost = await self._ask(cell, index)
        set_up = bool(SET_UP & set(tags_of(cell)))
        if set_up and not lost:
            self.set_up.append(cell)
        if lost:
            trouble = await self._again()
            fault += f"; {trouble}" if trouble else ""
        return fault

    async def _again(self) -> str:
        """Start a new kernel, repeat the set-up cells and return the fault of that ("" if none)."""
        self._disconnect()
        self.kernel.end()
        self.kernel.start()
        await self._connect()
        for cell in list(self.set_up):
            self.orders.tell("set-up again", self.code_cells_executed, len(self.nb.cells))
            copy = type(cell)(**{**cell, "metadata": type(cell.metadata)(tags=tags_of(cell)), "outputs": []})
            fault, lost = await self._ask(copy, -1)
            if lost:
                self.set_up.remove(cell)
                return f"a set-up cell could not be run again: {fault}"
        return ""

    async def _ask(self, cell: Any, index: int) -> tuple[str, bool]:
        """Execute a cell; return its fault ("" if none) and whether the kernel is lost."""
        cell.outputs, cell.metadata["execution"] = [], {}
        self.clear_before_next_output = False
        self.kept = OutputLimiter()
        request = self.kc.execute(cell.source, store_history=True, stop_on_error=False, allow_stdin=False)
        outputs = asyncio.ensure_future(self._async_poll_output_msg(request, cell, index))
        reply = asyncio.ensure_future(self._reply(request))
        fault, lost = "", False
        try:
            content = await self._before(reply, self.orders.cell_seconds)
            if content is None and self.kernel.poll() is None:
                fault = f"the cell did not end within {self.orders.cell_seconds:g} s and was interrupted"
                self.kernel.interrupt()
                content = await self._before(reply, _GRACE_SECONDS)
            if content is None:
                lost = True
                if self.kernel.poll() is None:
                    fault += "; it ignored the interrupt, so the kernel was killed"
                else:
                    fault = fault or f"the kernel died ({self.kernel.obituary()})"
                await asyncio.wait([outputs], timeout=0.2)
            else:
                whole = await self._drained(outputs)
                fault = fault or self._from_reply(content, cell)
                if not whole:
                    self.kept.lost_messages = True
                lost = any(_table(item).get("source") == "ask_exit" for item in content.get("payload") or [])
                if lost:
                    fault = fault or "the cell called exit()"
        finally:
            for task in (reply, outputs):
                task.cancel()
            await asyncio.gather(reply, outputs, return_exceptions=True)
        self.kept.finish(cell.outputs, self.orders.mask)
        return fault, lost

    async def _before(self, reply: asyncio.Future[dict[str, Any]], seconds: float) -> dict[str, Any] | None:
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

    async def _drained(self, outputs: asyncio.Future[None]) -> bool:
        """Wait for the remaining outputs; return False if the final message was lost, as when the socket overflows."""
        seen = -1
        while not outputs.done() and seen != self.kept.messages:
            seen = self.kept.messages
            await asyncio.wait([outputs], timeout=_QUIET_SECONDS)
        return outputs.done()

    def _from_reply(self, content: dict[str, Any], cell: Any) -> str:
        """Return the fault that the reply reports; an error without an output gets one."""
        told = content.get("xai_runbook")
        fault = "; ".join(str(item) for item in told) if isinstance(told, list) else ""
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
            self.kept.error(cell.outputs, message)
            fault = fault or f"{name}: {value or 'no message'}"
        return fault

    async def _late(self) -> str:
        """Return what failed in the background after the last cell ("" if nothing)."""
        request = self.kc.execute("", silent=True)
        reply = asyncio.ensure_future(self._reply(request))
        content = await self._before(reply, _GRACE_SECONDS)
        reply.cancel()
        if content is None:
            return f"the kernel did not answer at the end ({self.kernel.obituary()})"
        return "; ".join(str(item) for item in content.get("xai_runbook") or [])

    def process_message(self, msg: dict[str, Any], cell: Any, cell_index: int) -> Any:
        """Count the message and pass it to nbclient."""
        self.kept.messages += 1
        return super().process_message(msg, cell, cell_index)

    def output(self, outs: list[Any], msg: dict[str, Any], display_id: str | None, cell_index: int) -> Any:
        """Append the output to `outs` unless the limits are exceeded; return None when it is merged or dropped."""
        if self.clear_before_next_output:
            self.clear_before_next_output = False
            self._cleared(outs, cell_index)
        if msg["msg_type"] == "stream":
            self.kept.stream(outs, msg["content"])
            return None
        if msg["msg_type"] == "error":
            self.kept.error(outs, msg)
            return None
        return super().output(outs, msg, display_id, cell_index) if self.kept.room(msg["content"]) else None

    def clear_output(self, outs: list[Any], msg: dict[str, Any], cell_index: int) -> None:
        """Clear the outputs now, or before the next output if the message says so."""
        if msg["content"].get("wait"):
            self.clear_before_next_output = True
        else:
            self._cleared(outs, cell_index)

    def _cleared(self, outs: list[Any], cell_index: int) -> None:
        outs[:] = []
        self.kept.cleared()
        self.clear_display_id_mapping(cell_index)


def _table(item: object) -> dict[str, Any]:
    return item if isinstance(item, dict) else {}
