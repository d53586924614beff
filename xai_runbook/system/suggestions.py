"""Did you mean: suggestions for a name that is not known."""

from __future__ import annotations

from collections.abc import Iterable


def similar(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Return the known names that are similar to `name`, the most similar first."""
    from difflib import get_close_matches  # takes 5 ms, and only a mistake needs it

    return get_close_matches(name, list(known), count)


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return what to write instead of an unknown name: the similar names, else all names.

    >>> suggestion("chekc", ["check", "report"])
    'check'
    >>> suggestion("x", ["check", "report"])
    'one of check, report'
    """
    choices = [str(each) for each in known]
    return " or ".join(similar(name, choices)) or f"one of {', '.join(choices)}"
