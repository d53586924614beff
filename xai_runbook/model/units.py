"""Numbers with their units, as text for people."""

from __future__ import annotations

import math
from typing import Literal

from xai_runbook.model.window import duration_text

Unit = Literal[
    "ratio",
    "seconds",
    "bytes",
    "blocks",
    "peers",
    "connections",
    "series",
    "rules",
    "answers",
    "backups",
    "faults",
    "samples",
    "pages",
    "relations",
    "sessions",
    "indexes",
]


def quantity(value: float, unit: str) -> str:
    """Return `value` with its unit, for people: ratios as percent, seconds and bytes scaled.

    >>> quantity(0.8, "ratio"), quantity(3, "peers"), quantity(1, "peers"), quantity(0.25, "seconds")
    ('80 %', '3 peers', '1 peer', '250 ms')
    >>> quantity(604800, "seconds"), quantity(125, "seconds")
    ('7d', '2m5s')
    >>> quantity(float("nan"), "blocks"), quantity(5 * 2**30, "bytes"), quantity(1, "indexes")
    ('no value', '5 GiB', '1 index')
    """
    if math.isnan(value):
        return "no value"
    if math.isinf(value):
        infinite = "infinite" if value > 0 else "minus infinite"
        return infinite if unit == "ratio" else f"{infinite} {unit}"
    if unit == "ratio":
        return f"{_number(value * 100)} %"
    if unit == "seconds" and abs(value) < 1:
        return f"{_number(value * 1000)} ms"
    if unit == "seconds" and 120 <= abs(value) < 1e12:
        return f"{'-' if value < 0 else ''}{duration_text(round(abs(value)))}"
    if unit == "bytes":
        for size, name in ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
            if abs(value) >= size:
                return f"{_number(value / size)} {name}"
    one = abs(value) == 1 and unit != "series"
    single = unit.removesuffix("es" if unit.endswith("xes") else "s")
    return f"{_number(value)} {single if one else unit}"


def _number(value: float) -> str:
    if abs(value) >= 1e15:
        return f"{value:.3g}"
    if value == int(value):
        return f"{int(value)}"
    # near a limit small differences matter, further digits do not
    return f"{value:.1f}" if abs(value) >= 1000 else f"{value:.4g}" if abs(value) >= 10 else f"{value:.3g}"
