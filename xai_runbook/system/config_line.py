"""One whole number in a text of `key = value` lines: found, and replaced, with everything else left as it is.

TOML, INI, YAML and shell variables write it alike: `pool_size = 50`, `pool_size: 50`, `POOL_SIZE=50  # as measured`.

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
    """Where the number stands in the text."""

    text: str
    start: int
    end: int

    @classmethod
    def find(cls, text: str, key: str) -> ConfigLine:
        """The only line with that key. Errors: InputError where there is none, several, or no plain number."""
        lines = list(re.finditer(rf"^[ \t]*(?:export[ \t]+)?{re.escape(key)}[ \t]*[=:](?P<rest>[^\n]*)$", text, re.M))
        if len(lines) != 1:
            raise InputError(
                f"the key stands there {len(lines)} times, not once", on=key, hint="edit that file by hand"
            )
        number = re.fullmatch(r"[ \t]*[\"']?(?P<number>[0-9]{1,9})[\"']?[ \t]*\r?(?:[#;].*)?", lines[0]["rest"])
        if number is None:  # not shown: what stands there may be a connection string with its password
            raise InputError("what stands behind the key is no plain number", on=key, hint="edit that file by hand")
        before = lines[0].start("rest")
        return cls(text, before + number.start("number"), before + number.end("number"))

    @property
    def value(self) -> str:
        """The number as it is written."""
        return self.text[self.start : self.end]

    def replaced(self, value: str) -> str:
        """The text with another number in its place."""
        return self.text[: self.start] + value + self.text[self.end :]
