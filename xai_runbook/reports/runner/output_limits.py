"""Limits on the size of a cell's outputs; what is dropped is reported in the outputs."""

from __future__ import annotations

from collections import deque
from typing import Any

from xai_runbook.model.findings import MIME_TYPE
from xai_runbook.reports.runner.redaction import Mask

_HEAD, _TAIL = 48_000, 16_000  # characters of each stream
_DISPLAYS, _DISPLAY_CHARACTERS, _FINDINGS, _ERRORS = 200, 8_000_000, 20, 20
_ERROR_LINES, _ERROR_CHARACTERS = 200, 4000


class _Stream:
    """Head and tail of one stream."""

    def __init__(self) -> None:
        self.head = ""
        self.tail: deque[str] = deque()
        self.tail_characters = self.cut = self.cut_lines = 0

    def add(self, text: str) -> None:
        remaining = _HEAD - len(self.head)
        if remaining > 0:
            self.head, text = self.head + text[:remaining], text[remaining:]
        if text:
            self.tail.append(text)
            self.tail_characters += len(text)
        while self.tail_characters > _TAIL:
            first = self.tail.popleft()
            dropped = min(len(first), self.tail_characters - _TAIL)
            if dropped < len(first):
                self.tail.appendleft(first[dropped:])
            self.tail_characters -= dropped
            self.cut += dropped
            self.cut_lines += first.count("\n", 0, dropped)

    def text(self, mask: Mask) -> str:
        tail = "".join(self.tail)
        if not self.cut:
            return mask(self.head + tail)
        # a secret that is cut in two would not be masked, so its possible halves are dropped as well
        head, tail = self.head[: len(self.head) - mask.longest], tail[mask.longest :]
        note = f"\n… {self.cut + 2 * mask.longest} characters (about {self.cut_lines} lines) were not kept …\n"
        return mask(head) + note + mask(tail)


class OutputLimiter:
    """Limits of one cell: merges its streams and counts its outputs."""

    def __init__(self) -> None:
        self.messages = 0
        self.lost_messages = False
        self._lost = 0
        self.clear()

    def clear(self) -> None:
        """Reset the counts after the cell cleared its outputs."""
        self._streams: dict[str, tuple[_Stream, Any]] = {}
        self._displays = self._characters = self._findings = self._errors = 0

    def stream(self, outputs: list[Any], content: dict[str, Any]) -> None:
        """Add a piece of stdout or stderr, each of which has one output, at its first position."""
        name = "stderr" if content.get("name") == "stderr" else "stdout"
        if name not in self._streams:
            self._streams[name] = (_Stream(), _node(output_type="stream", name=name, text=""))
            outputs.append(self._streams[name][1])
        self._streams[name][0].add(str(content.get("text", "")))

    def error(self, outputs: list[Any], message: dict[str, Any]) -> None:
        """Add an error with shortened texts."""
        self._errors += 1
        if self._errors > _ERRORS:
            self._lost += 1
            return
        content = message["content"]
        lines = [str(line)[:_ERROR_CHARACTERS] for line in content.get("traceback") or []]
        if len(lines) > _ERROR_LINES:
            lines[_ERROR_LINES // 2 : -_ERROR_LINES // 2] = ["…"]
        outputs.append(
            _node(
                output_type="error",
                ename=str(content.get("ename", ""))[:200],
                evalue=str(content.get("evalue", ""))[:_ERROR_CHARACTERS],
                traceback=lines,
            )
        )

    def fits(self, content: dict[str, Any]) -> bool:
        """Count a display and return whether it fits the limits; findings have a limit of their own."""
        data = content.get("data")
        size = sum(len(str(value)) for value in data.values()) if isinstance(data, dict) else 0
        if isinstance(data, dict) and MIME_TYPE in data and size < 1_000_000 and self._findings < _FINDINGS:
            self._findings += 1
            return True
        self._displays += 1
        if self._displays > _DISPLAYS or self._characters + size > _DISPLAY_CHARACTERS:
            self._lost += 1
            return False
        self._characters += size
        return True

    def finish(self, outputs: list[Any], mask: Mask) -> None:
        """Write the texts of the streams and, after a loss, a note about it; the cell has ended."""
        for stream, output in self._streams.values():
            output["text"] = stream.text(mask)
        if self._lost or self.lost_messages:
            note = f"{self._lost} outputs were not kept. " if self._lost else ""
            note += "The kernel showed more than could be received; some of it was lost. " if self.lost_messages else ""
            outputs.append(_node(output_type="stream", name="stderr", text=f"xai-runbook: {note.strip()}\n"))


def _node(**fields: Any) -> Any:
    from nbformat import NotebookNode

    return NotebookNode(**fields)
