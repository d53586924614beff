"""Decoding a range answer of 1,000 series x 1,440 samples (48 MB) to a DataFrame, against two alternatives.

Against `orjson.loads` of the same bytes, which makes no frame: median of the ratios of several pairs. Against
prometheus-api-client's MetricRangeDataFrame, over HTTP: one pair, because it takes many seconds and its ratio is far
from the goal.
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
    """Return a range answer as Prometheus writes it, with random values of full precision."""
    generator = random.Random(7)
    parts = []
    for number in range(series):
        values = b",".join(
            b'[%d,"%s"]' % (start + STEP * sample, repr(generator.random() * 100).encode()) for sample in range(samples)
        )
        labels = b'"__name__":"blockchain_height","instance":"node-%d:9100","job":"xai"' % number
        parts.append(b'{"metric":{' + labels + b'},"values":[' + values + b"]}")
    return b'{"status":"success","data":{"resultType":"matrix","result":[' + b",".join(parts) + b"]}}"


@contextmanager
def serving(answer: bytes) -> Iterator[str]:
    """Run an HTTP server on loopback that answers every range query with `answer`; yield its URL."""

    class RequestHandler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = _BUILDINFO if "buildinfo" in self.path else _RUNTIMEINFO if "runtimeinfo" in self.path else answer
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), RequestHandler)
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
    """Return the median seconds of our decoding, and the median of its ratios to `orjson.loads` of the same bytes."""
    import orjson

    from xai_runbook.clients.prometheus import samples

    def decode() -> object:
        return samples.frame(samples.decode(answer, on="bench", max_series=5000))

    decode()
    times, ratios = [], []
    for _ in range(pairs):
        orjson_seconds = _seconds(lambda: orjson.loads(answer))
        times.append(_seconds(decode))
        ratios.append(times[-1] / orjson_seconds)
    return statistics.median(times), statistics.median(ratios)


def against_api_client(answer: bytes) -> tuple[float, float]:
    """Return our seconds from query to frame, and their ratio to prometheus-api-client's with the same server."""
    from xai_runbook.clients.prometheus.client import Prometheus
    from xai_runbook.model.window import Window
    from xai_runbook.settings.loading import defaults
    from xai_runbook.settings.models import Settings

    window = Window(datetime.fromtimestamp(1_705_334_400, UTC), datetime.fromtimestamp(1_705_420_740, UTC))
    with serving(answer) as url, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # prometheus-api-client's
        from prometheus_api_client import MetricRangeDataFrame, PrometheusConnect

        settings = Settings.model_validate(
            {**defaults(), "name": "bench", "prometheus": {"url": url, "timeout": "60s"}}
        )
        assert settings.prometheus is not None
        prometheus = Prometheus(settings.prometheus, settings.promql_settings)
        prometheus.__dict__["_retention"] = ""  # the fixed window is long past
        api_client = PrometheusConnect(url=url)

        def our_frame() -> object:
            return prometheus.range("blockchain_height", window, "60s")

        def their_frame() -> object:
            return MetricRangeDataFrame(
                api_client.custom_query_range("blockchain_height", window.start, window.end, str(STEP))
            )

        seconds = statistics.median(_seconds(our_frame) for _ in range(3))
        return seconds, seconds / _seconds(their_frame)


def rows() -> list[dict[str, Any]]:
    """Return the rows of the benchmark: name, value, unit, against, ratio, goal, better."""
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
