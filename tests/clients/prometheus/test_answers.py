"""A page in Prometheus' text format becomes rows, or is refused as a whole."""

from __future__ import annotations

import pytest

from xai_runbook.clients.prometheus.answers import metrics_page


def test_samples_of_a_page() -> None:
    page = (
        "# HELP requests Requests so far.\n"
        "# TYPE requests counter\n"
        'requests{path="/a,b",method="GET"} 12\n'
        "requests 3 1700000000000\n\n"
        'text{quote="a \\"b\\" \\\\ c\\nd"} +Inf\n'
    )
    assert metrics_page(page.encode()) == [
        {"name": "requests", "labels": "method=GET, path=/a,b", "value": 12.0},
        {"name": "requests", "labels": "", "value": 3.0},
        {"name": "text", "labels": 'quote=a "b" \\ c d', "value": float("inf")},
    ]
    assert metrics_page(b"") == []


@pytest.mark.parametrize("line", [b"<html>", b"a", b"a b", b"a 1 x", b'a{b="c} 1', b"a{b=c} 1", b"1a 2", b"\xff 1"])
def test_a_malformed_line_is_an_error(line: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        metrics_page(b"good 1\n" + line + b"\n")
