"""Every error this package raises on purpose.

    XaiRunbookError
    ├── InputError            an argument, parameter or command-line value that cannot be used
    ├── SettingsError         an environment's settings are missing, malformed or contradict each other
    ├── NotConfigured         the settings do not declare that part: nobody checks it, nobody is alarmed
    ├── SandboxError          the sandbox could not be started, found or commanded
    ├── ReportError           a report could not be made or kept at all
    ├── JournalError          the journal cannot be written, or is not what was written
    ├── Refused               a plan will not be applied; nothing was done
    └── CannotAsk             a declared part could not be asked: the finding is `unknown`, never `ok`
        ├── Unreachable       refused, no route, no such name, connection lost
        ├── TimedOut          no whole answer before the deadline
        ├── AccessDenied      it answered that we may not ask
        ├── WrongServer       something answers, but it is not what the settings say it is
        ├── BadAnswer         the answer cannot be read: not JSON, cut short, fields missing
        ├── Damaged           what is stored cannot be what was written
        ├── TooMuch           the answer is larger than we are willing to take
        ├── NoData            a whole answer with nothing in it to judge
        └── PartMissing       the sandbox could not start that part

Each says what failed, on what, and what to try. In a notebook each is one line, which starts with the class's full
name: that is how a report tells a question that could not be asked from a notebook that is broken.
"""

from __future__ import annotations

MARKER = "xai_runbook.errors."


class XaiRunbookError(Exception):
    """What failed (`what`), on what (`on`), and what to try (`hint`)."""

    def __init__(self, what: str, *, on: str = "", hint: str = "") -> None:
        super().__init__(what, on, hint)
        self.what, self.on, self.hint = what, on, hint

    def __reduce__(self) -> tuple[object, ...]:
        # keyword-only arguments: the default would hand them back by position
        return (_rebuild, (type(self), self.what, self.on, self.hint))

    def __str__(self) -> str:
        where = f" ({self.on})" if self.on else ""
        remedy = f". Try: {self.hint}" if self.hint else ""
        return f"{self.what}{where}{remedy}"

    def _render_traceback_(self) -> list[str]:
        """One line for IPython: the engineer needs the remedy, not our frames."""
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
    """The sandbox could not be started, found or commanded."""


class ReportError(XaiRunbookError):
    """A report could not be made or kept at all."""


class JournalError(XaiRunbookError):
    """The journal cannot be written, or is not what was written."""


class Refused(XaiRunbookError):
    """A plan will not be applied. Nothing was done."""


class CannotAsk(XaiRunbookError):
    """A declared part could not be asked."""


class Unreachable(CannotAsk):
    """Refused, no route, no such name, or the connection was lost."""


class TimedOut(CannotAsk):
    """No whole answer before the deadline."""


class AccessDenied(CannotAsk):
    """It answered that we may not ask."""


class WrongServer(CannotAsk):
    """Something answers, but it is not what the settings say it is."""


class BadAnswer(CannotAsk):
    """The answer cannot be read."""


class Damaged(CannotAsk):
    """What the server has stored cannot be what was written: a page or an index is damaged."""


class TooMuch(CannotAsk):
    """The answer is larger than we are willing to take."""


class NoData(CannotAsk):
    """A whole answer with nothing in it to judge."""


class PartMissing(CannotAsk):
    """The sandbox could not start this part. What failed begins with "PART is missing: "."""


def inert(text: str, most: int = 2000) -> str:
    """`text` on one line, without control, escape and direction-changing characters, cut at `most` characters.

    What servers, nodes and log lines say is untrusted: a terminal or a page must show it, not obey it.
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
