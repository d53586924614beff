"""A range answer of 1,000 series x 1,440 samples (48 MB) to a DataFrame, against what else could read it.

`rows()` is what `make bench` collects. Against `orjson.loads` (which makes no frame yet) of the same bytes: pairs one
after the other, median of the ratios. Against prometheus-api-client's MetricRangeDataFrame: over HTTP, one pair, as
it takes many seconds and its ratio is far from the goal's edge.
"""

from __future__ import annotations

import gc
import http.server
import random
import statistics
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

SERIES, SAMPLES, STEP = 1_000, 1_440, 60
PAIRS = 5
_BUILDINFO = b'{"status":"success","data":{"version":"2.42.0"}}'
_RUNTIMEINFO = b'{"status":"success","data":{"storageRetention":"15d"}}'


def body(series: int = SERIES, samples: int = SAMPLES, start: int = 1_705_334_400) -> bytes:
    """A range answer as Prometheus writes it, of values with all their digits."""
    chance = random.Random(7)
    written = []
    for number in range(series):
        values = b",".join(
            b'[%d,"%s"]' % (start + STEP * sample, repr(chance.random() * 100).encode()) for sample in range(samples)
        )
        labels = b'"__name__":"blockchain_height","instance":"node-%d:9100","job":"xai"' % number
        written.append(b'{"metric":{' + labels + b'},"values":[' + values + b"]}")
    return b'{"status":"success","data":{"resultType":"matrix","result":[' + b",".join(written) + b"]}}"


@contextmanager
def serving(answer: bytes) -> Iterator[str]:
    """An HTTP server on loopback that answers every range query with `answer`; its address."""

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told = _BUILDINFO if "buildinfo" in self.path else _RUNTIMEINFO if "runtimeinfo" in self.path else answer
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(told)))
            self.end_headers()
            self.wfile.write(told)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _seconds(work: Callable[[], object]) -> float:
    gc.collect()
    started = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - started
    del result
    return seconds


def against_orjson(answer: bytes, pairs: int = PAIRS) -> tuple[float, float]:
    """Median seconds of ours, and the median of its ratios to `orjson.loads` of the same bytes."""
    import orjson

    from xai_runbook.clients.prometheus import samples

    def ours() -> object:
        return samples.frame(samples.decode(answer, on="bench", most_series=5000))

    ours()
    times, ratios = [], []
    for _ in range(pairs):
        theirs = _seconds(lambda: orjson.loads(answer))
        times.append(_seconds(ours))
        ratios.append(times[-1] / theirs)
    return statistics.median(times), statistics.median(ratios)


def against_api_client(answer: bytes) -> tuple[float, float]:
    """Seconds of ours from query to frame, and its ratio to prometheus-api-client's over the same server."""
    from xai_runbook.clients.prometheus.client import Prometheus
    from xai_runbook.model.window import Window
    from xai_runbook.settings.loading import defaults
    from xai_runbook.settings.models import Settings

    window = Window(datetime.fromtimestamp(1_705_334_400, UTC), datetime.fromtimestamp(1_705_420_740, UTC))
    with serving(answer) as url, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs
        from prometheus_api_client import MetricRangeDataFrame, PrometheusConnect

        settings = Settings.model_validate(
            {**defaults(), "name": "bench", "prometheus": {"url": url, "timeout": "60s"}}
        )
        assert settings.prometheus is not None
        ours = Prometheus(settings.prometheus, settings.promql_settings)
        ours.__dict__["_retention"] = ""  # the window is a fixed one, long past
        theirs = PrometheusConnect(url=url)

        def their_frame() -> object:
            return MetricRangeDataFrame(
                theirs.custom_query_range("blockchain_height", window.start, window.end, str(STEP))
            )

        mine = statistics.median(_seconds(lambda: ours.range("blockchain_height", window, "60s")) for _ in range(3))
        return mine, mine / _seconds(their_frame)


def rows() -> list[dict[str, Any]]:
    """Rows for the bench: name, value, unit, against, ratio, goal, better."""
    answer = body()
    decode, to_orjson = against_orjson(answer)
    query, to_client = against_api_client(answer)
    size = f"{SERIES} series x {SAMPLES} samples"
    return [
        {
            "name": f"range answer to DataFrame, {size}",
            "value": decode,
            "unit": "seconds",
            "against": "orjson.loads of the same bytes",
            "ratio": to_orjson,
            "goal": 0.5,
            "better": "lower",
        },
        {
            "name": f"range query to DataFrame, {size}",
            "value": query,
            "unit": "seconds",
            "against": "prometheus-api-client MetricRangeDataFrame",
            "ratio": to_client,
            "goal": 0.1,
            "better": "lower",
        },
    ]


if __name__ == "__main__":
    for row in rows():
        print(f"{row['name']}: {row['value']:.3f} s, {row['ratio']:.3f} of {row['against']} (goal {row['goal']})")
