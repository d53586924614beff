"""How a command line is refused."""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn

from xai_runbook.errors import inert

COULD_NOT_TELL = 3


class Parser(argparse.ArgumentParser):
    """Leaves with 3 on a usage error: argparse's own 2 would read as a critical alert."""

    def error(self, message: str) -> NoReturn:
        """Says what is wrong with the words, and leaves with 3."""
        self.print_usage(sys.stderr)
        self.exit(COULD_NOT_TELL, f"{self.prog}: {inert(message)}\n")
