"""An exporter of a native histogram, encoded by hand as delimited protobuf, the only format that carries one.

prometheus_client does not export native histograms. Source: io/prometheus/client/metrics.proto.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping

PROTOBUF = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"


def _varint(number: int) -> bytes:
    written = b""
    while number > 0x7F:
        written += bytes([number & 0x7F | 0x80])
        number >>= 7
    return written + bytes([number])


def _zigzag(number: int) -> int:
    return number << 1 if number >= 0 else (-number << 1) - 1


def _number(field: int, number: int) -> bytes:
    return _varint(field << 3) + _varint(number)


def _double(field: int, number: float) -> bytes:
    return _varint(field << 3 | 1) + struct.pack("<d", number)


def _bytes(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def histogram(buckets: Mapping[int, int], total: float) -> bytes:
    """Return a Histogram of schema 0: bucket `i` counts values in (2**(i-1), 2**i]."""
    first, last = min(buckets), max(buckets)
    counts = [buckets.get(index, 0) for index in range(first, last + 1)]
    deltas = [count - before for before, count in zip([0, *counts], counts, strict=False)]
    span = _number(1, _zigzag(first)) + _number(2, len(counts))
    return (
        _number(1, sum(counts))
        + _double(2, total)
        + _number(5, _zigzag(0))
        + _double(6, 1e-9)
        + _number(7, 0)
        + _bytes(12, span)
        + _bytes(13, b"".join(_varint(_zigzag(delta)) for delta in deltas))
    )


def family(name: str, series: Mapping[tuple[tuple[str, str], ...], bytes]) -> bytes:
    """Return a delimited MetricFamily of histograms by their labels."""
    content = _bytes(1, name.encode()) + _bytes(2, b"-") + _number(3, 4)
    for labels, encoded in series.items():
        pairs = b"".join(_bytes(1, _bytes(1, label.encode()) + _bytes(2, text.encode())) for label, text in labels)
        content += _bytes(4, pairs + _bytes(7, encoded))
    return _varint(len(content)) + content


class NativeExporter:
    """Exports a hundred requests per second on the route /half, half of 0.1 s and half of 1.5 s, and none on /idle."""

    def __init__(self) -> None:
        self.started = time.monotonic()

    def answer(self, path: str) -> tuple[int, str, bytes]:
        count = 1000 + int((time.monotonic() - self.started) * 50)
        series = {
            (("route", "/half"),): histogram({-3: count, 1: count}, count * 1.6),
            (("route", "/idle"),): histogram({-3: 5}, 0.5),
        }
        return 200, PROTOBUF, family("http_request_duration_seconds", series)
