"""`xai-runbook check` of Prometheus' questions, against the same requests without the runbook, four at a time.

The Prometheus has as many series as a production (an hour of NODES nodes with ROUTES routes each), because an empty one
would answer too fast. The requests of `check` are recorded and sent again with http.client over open connections, and
their bodies discarded. Both run in this process, so that neither pays for the start of an interpreter.
"""

from __future__ import annotations

import http.client
import json
import os
import statistics
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

NODES, ROUTES, HOUR, STEP = 40, 40, 3600, 15
PAIRS = 3
AT_A_TIME = 4
BUCKETS = ("0.01", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "+Inf")


def _history(end: int) -> Iterator[str]:
    """Yield OpenMetrics text: growing counters and constant gauges of every node."""
    instants = range(end - HOUR, end + 1, STEP)

    def family(name: str, series: list[str], grows: float, kind: str = "unknown") -> Iterator[str]:
        yield f"# TYPE {name} {kind}\n"
        for labels in series:
            yield "".join(f"{name}{{{labels}}} {100 + grows * (at - end + HOUR):g} {at}\n" for at in instants)

    nodes = [f'instance="node-{node}",job="xai-node"' for node in range(NODES)]
    routes = [f'{node},route="/{route}"' for node in nodes for route in range(ROUTES)]
    for name, grows in (("blockchain_height", 0.5), ("network_best_height", 0.5), ("network_peers", 0.0), ("up", 0.0),
                        ("process_open_fds", 0.0), ("process_max_fds", 1.0)):  # fmt: skip
        yield from family(name, nodes, grows)
    modes = ("idle", "user", "system", "iowait")
    cores = [f'{node},cpu="{cpu}",mode="{mode}"' for node in nodes for cpu in range(16) for mode in modes]
    yield from family("node_cpu_seconds_total", cores, 0.25)
    for name in ("node_memory_MemAvailable_bytes", "node_memory_MemTotal_bytes"):
        yield from family(name, nodes, 0.0)
    disks = [f'{node},mountpoint="/{disk}",fstype="ext4"' for node in nodes for disk in range(8)]
    for name in ("node_filesystem_avail_bytes", "node_filesystem_size_bytes"):
        yield from family(name, disks, 0.0)
    answers = [f'{each},status="{status}"' for each in routes for status in (200, 404, 500)]
    yield from family("http_requests_total", answers, 1.0)
    yield from family("http_request_duration_seconds_bucket", [f'{e},le="{le}"' for e in routes for le in BUCKETS], 1.0)
    yield "# EOF\n"


@contextmanager
def _prometheus(folder: Path) -> Iterator[str]:
    """Run a Prometheus with that history and no scrape targets; yield its URL."""
    from xai_runbook.sandbox.components import programs
    from xai_runbook.sandbox.supervisor.component import free_ports

    prometheus, promtool = programs.find("prometheus"), programs.find("promtool")
    past = folder / "past.om"
    with past.open("w") as file:
        file.writelines(_history(int(time.time())))
    backfill = [
        str(promtool),
        "tsdb",
        "create-blocks-from",
        "--max-block-duration=24h",
        "openmetrics",
        f"{past}",
        f"{folder}/data",
    ]
    subprocess.run(backfill, check=True, capture_output=True, timeout=300)
    (folder / "prometheus.yml").write_text(json.dumps({"global": {"scrape_interval": "15s"}}))
    url = f"http://127.0.0.1:{free_ports(['prometheus'])['prometheus']}"
    argv = [
        str(prometheus), f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address={urlsplit(url).netloc}", "--storage.tsdb.retention.time=15d",
    ]  # fmt: skip
    server = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            try:
                with urllib.request.urlopen(f"{url}/-/ready", timeout=2):
                    break
            except OSError:
                time.sleep(0.1)
        yield url
    finally:
        server.terminate()
        server.wait(30)


@contextmanager
def _recorded(requests: list[str]) -> Iterator[None]:
    """Append the requests that are sent during a with block."""
    from xai_runbook.clients.http import request_cache

    original = request_cache.get

    def get(access: Any, url: str, path: str, parameters: Mapping[str, str] = {}, **options: Any) -> Any:
        requests.append(f"{path}?{urlencode(parameters)}" if parameters else path)
        return original(access, url, path, parameters, **options)

    request_cache.get = get  # type: ignore[assignment]
    try:
        yield
    finally:
        request_cache.get = original


def _bare(url: str, requests: list[str]) -> float:
    """Return the seconds of the same requests, AT_A_TIME in parallel."""
    remaining, lock = iter(requests), threading.Lock()

    def work() -> None:
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=120)
        while True:
            with lock:
                target = next(remaining, None)
            if target is None:
                return connection.close()
            connection.request("GET", target)
            connection.getresponse().read()

    threads = [threading.Thread(target=work) for _ in range(AT_A_TIME)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - started


def rows(pairs: int = PAIRS) -> list[dict[str, Any]]:
    """Return the rows of the benchmark: name, value, unit, against, ratio, goal, better."""
    import tomli_w

    from xai_runbook.reports.check import run_questions

    before = os.environ.get("XAI_RUNBOOK_CONFIG")
    with tempfile.TemporaryDirectory() as scratch, _prometheus(Path(scratch)) as url:
        tables = {"prometheus": {"url": url, "timeout": "60s"}}
        (Path(scratch) / "bench.toml").write_text(tomli_w.dumps(tables))
        os.environ["XAI_RUNBOOK_CONFIG"] = scratch
        try:
            requests: list[str] = []
            run_questions("bench", seconds=120)  # the first run imports modules, and Prometheus opens its blocks
            runs = []
            for _ in range(pairs):
                requests.clear()
                with _recorded(requests):
                    started = time.perf_counter()
                    run_questions("bench", seconds=120)
                    seconds = time.perf_counter() - started
                runs.append((seconds, _bare(url, requests)))
        finally:
            os.environ.pop("XAI_RUNBOOK_CONFIG")
            if before is not None:
                os.environ["XAI_RUNBOOK_CONFIG"] = before
    return [{
        "name": f"check of one Prometheus, {len(requests)} requests", "value": statistics.median(a for a, _ in runs),
        "unit": "seconds", "against": f"the same requests bare, {AT_A_TIME} at a time",
        "ratio": statistics.median(a / b for a, b in runs), "goal": 1.5, "better": "lower",
    }]  # fmt: skip


if __name__ == "__main__":
    for row in rows():
        print(f"{row['name']}: {row['value']:.2f} s, {row['ratio']:.2f} of {row['against']} (goal {row['goal']})")
