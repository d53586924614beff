"""Every error this package raises on purpose.

    XaiRunbookError
    ├── InputError            an argument, parameter or command-line value that cannot be used
    ├── SettingsError         an environment's settings are missing, malformed or contradict each other
    ├── NotConfigured         the settings do not declare the part: it is not checked and raises no alert
    ├── SandboxError          the sandbox could not be started, found or controlled
    ├── ReportError           a report could not be made or saved
    ├── JournalError          the journal cannot be written, or was changed
    ├── Refused               a plan is not applied; nothing was done
    └── CannotAsk             a declared part could not be queried: the finding is `unknown`, never `ok`
        ├── Unreachable       refused, no route, unknown host name, connection lost
        ├── TimedOut          no complete answer before the deadline
        ├── AccessDenied      the server answered that we have no access
        ├── WrongServer       a server answers, but not the one that the settings describe
        ├── BadAnswer         the answer is unreadable: not JSON, truncated, fields missing
        ├── Damaged           stored data is damaged, such as a page or an index
        ├── TooMuch           the answer is larger than the limit
        ├── NoData            a complete answer without anything to judge
        └── PartMissing       the sandbox could not start the part

Each says what failed, on what, and what to try. A notebook shows it as one line that starts with the class's full
name: by that line a report distinguishes a query that failed from a broken notebook.
"""

from __future__ import annotations

MARKER = "xai_runbook.errors."


class XaiRunbookError(Exception):
    """An error of this package: what failed (`what`), on what (`on`), and what to try (`hint`)."""

    def __init__(self, what: str, *, on: str = "", hint: str = "") -> None:
        super().__init__(what, on, hint)
        self.what, self.on, self.hint = what, on, hint

    def __reduce__(self) -> tuple[object, ...]:
        # the default would pass the keyword-only arguments by position
        return (_rebuild, (type(self), self.what, self.on, self.hint))

    def __str__(self) -> str:
        target = f" ({self.on})" if self.on else ""
        hint = f". Try: {self.hint}" if self.hint else ""
        return f"{self.what}{target}{hint}"

    def _render_traceback_(self) -> list[str]:
        """Return one line for IPython: the hint helps the engineer, our stack frames do not."""
        return [f"{MARKER}{type(self).__name__}: {inert(str(self))}"]


def _rebuild(kind: type[XaiRunbookError], what: str, on: str, hint: str) -> XaiRunbookError:
    return kind(what, on=on, hint=hint)


class InputError(XaiRunbookError):
    """An argument, parameter or command-line value cannot be used."""


class SettingsError(XaiRunbookError):
    """An environment's settings are missing, malformed or contradict each other."""


class NotConfigured(XaiRunbookError):
    """The settings do not declare this part (`part`)."""

    def __init__(self, what: str, *, on: str = "", hint: str = "") -> None:
        super().__init__(what, on=on, hint=hint)
        self.part = on


class SandboxError(XaiRunbookError):
    """The sandbox could not be started, found or controlled."""


class ReportError(XaiRunbookError):
    """A report could not be made or saved."""


class JournalError(XaiRunbookError):
    """The journal cannot be written, or was changed."""


class Refused(XaiRunbookError):
    """A plan is not applied. Nothing was done."""


class CannotAsk(XaiRunbookError):
    """A declared part could not be queried."""


class Unreachable(CannotAsk):
    """Refused, no route, unknown host name, or the connection was lost."""


class TimedOut(CannotAsk):
    """No complete answer before the deadline."""


class AccessDenied(CannotAsk):
    """The server answered that we have no access."""


class WrongServer(CannotAsk):
    """A server answers, but not the one that the settings describe."""


class BadAnswer(CannotAsk):
    """The answer is unreadable."""


class Damaged(CannotAsk):
    """Stored data is damaged: a page or an index."""


class TooMuch(CannotAsk):
    """The answer is larger than the limit."""


class NoData(CannotAsk):
    """A complete answer without anything to judge."""


class PartMissing(CannotAsk):
    """The sandbox could not start this part. `what` begins with "PART is missing: "."""


def inert(text: str, most: int = 2000) -> str:
    """Return `text` on one line, without control, escape and bidirectional characters, truncated to `most` characters.

    Text of servers, nodes and logs is untrusted: a terminal or a page must show it, not obey it.
    """
    import unicodedata

    shown = []
    for character in text[: most + 1]:
        kind = unicodedata.category(character)
        if kind in ("Cc", "Zl", "Zp"):
            shown.append(" " if character in "\n\r\t\v\f\x85\u2028\u2029" else "\N{REPLACEMENT CHARACTER}")
        elif kind in ("Cf", "Cs", "Co"):
            shown.append("\N{REPLACEMENT CHARACTER}")
        else:
            shown.append(character)
    if len(shown) > most:
        shown[most:] = ["…"]
    return "".join(shown)
