"""Find and replace one integer in a file of `key = value` lines, and leave everything else unchanged.

Works for TOML, INI, YAML and shell variables: `pool_size = 50`, `pool_size: 50`, `POOL_SIZE=50  # as measured`.

>>> ConfigLine.find("user = xai\\npool_size = 50  # of each process\\n", "pool_size").value
'50'
>>> ConfigLine.find("pool_size: 50", "pool_size").replaced("100")
'pool_size: 100'
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from xai_runbook.errors import InputError


@dataclass(frozen=True)
class ConfigLine:
    """The position of the number in the text."""

    text: str
    start: int
    end: int

    @classmethod
    def find(cls, text: str, key: str) -> ConfigLine:
        """Find the only line with that key. Errors: InputError: no line, several lines, or not a plain number."""
        lines = list(re.finditer(rf"^[ \t]*(?:export[ \t]+)?{re.escape(key)}[ \t]*[=:](?P<rest>[^\n]*)$", text, re.M))
        if len(lines) != 1:
            raise InputError(f"the key is set {len(lines)} times, expected once", on=key, hint="edit that file by hand")
        number = re.fullmatch(r"[ \t]*[\"']?(?P<number>[0-9]{1,9})[\"']?[ \t]*\r?(?:[#;].*)?", lines[0]["rest"])
        if number is None:  # the value is not shown: it may be a connection string with a password
            raise InputError("the value of the key is not a plain integer", on=key, hint="edit that file by hand")
        before = lines[0].start("rest")
        return cls(text, before + number.start("number"), before + number.end("number"))

    @property
    def value(self) -> str:
        """Return the number as it is written."""
        return self.text[self.start : self.end]

    def replaced(self, value: str) -> str:
        """Return the text with the number replaced by `value`."""
        return self.text[: self.start] + value + self.text[self.end :]
