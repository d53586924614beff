"""Findings about Prometheus itself: each is provoked by a real fault in a real Prometheus, which then ends."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.support import prometheus_server as server
from xai_runbook.clients.prometheus.client import Prometheus
from xai_runbook.errors import AccessDenied, BadAnswer, NoData, WrongServer
from xai_runbook.model.findings import Finding, Status
from xai_runbook.model.window import Window
from xai_runbook.operations.monitoring import prometheus_server, prometheus_storage, scrapes

WINDOWS = {"rate": "4s", "scrapes": "4s", "trouble": "4s"}
LIFECYCLE = ("--web.enable-lifecycle", "--storage.remote.flush-deadline=500ms")


def handle(url: str, **tables: Any) -> Prometheus:
    return server.handle(url, windows=WINDOWS, **tables)


def reload(url: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{url}/-/reload", method="POST"), timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        return refused.code


def configure(folder: Path, url: str, **changed: Any) -> None:
    """Reload a running Prometheus with other top-level keys in its configuration."""
    file = folder / "prometheus.yml"
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))
    assert reload(url) == 200


def job(name: str, *addresses: str, **more: Any) -> dict[str, Any]:
    targets = [
        {"targets": [address.removeprefix("http://")], "labels": {"instance": f"{name}-{place}"}}
        for place, address in enumerate(addresses)
    ]
    return {"job_name": name, "static_configs": targets} | more


def becomes(status: Status, ask: Callable[[], Finding], seconds: float = 30) -> Finding:
    """Return the first finding that has the status."""
    end = time.monotonic() + seconds
    while True:
        finding = ask()
        if finding.status is status:
            return finding
        assert time.monotonic() < end, f"waited {seconds} s in vain for {status}: {finding}"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prometheus")


@pytest.fixture(scope="module")
def exporter() -> Iterator[tuple[server.Exporter, str]]:
    scraped = server.Exporter()
    scraped.text = "node_thing 1\n"
    with server.serving(scraped.answer) as address:
        yield scraped, address


@pytest.fixture(scope="module")
def url(folder: Path, exporter: tuple[server.Exporter, str]) -> Iterator[str]:
    """A Prometheus that scrapes an exporter and itself."""
    with server.running(folder, flags=LIFECYCLE) as address:
        calmly = {"scrape_interval": "500ms", "scrape_timeout": "500ms"}  # a busy machine must not time out
        jobs = [job("node", exporter[1]), job("self", address)]
        jobs[1]["static_configs"][0]["labels"]["datacenter"] = "north"  # as productions have it: not on the page itself
        configure(folder, address, scrape_configs=jobs, **{"global": calmly})
        server.until(lambda: len(server.handle(address).instant("up")) == 2, "both are scraped")
        yield address


def test_a_reload_that_failed_is_an_alert_until_one_succeeds(url: str, folder: Path) -> None:
    prometheus = handle(url)
    limit = server.limits().monitoring.prometheus_config
    row = prometheus_server.server(prometheus)
    assert row.loc[0, "version"] == prometheus.version and "15d" in row.loc[0, "retention"]
    assert row.loc[0, "configured_at"] <= datetime.now(UTC)
    assert abs((row.loc[0, "configured_at"] - row.loc[0, "started_at"]).total_seconds()) < 30
    assert prometheus_server.check_config(row, limit).status is Status.OK
    good = (folder / "prometheus.yml").read_text()
    (folder / "prometheus.yml").write_text("scrape_configs: [{job_name: 'x', no_such_key: 1}]")
    assert reload(url) == 500
    try:
        finding = prometheus_server.check_config(prometheus_server.server(prometheus), limit)
        assert finding.status is Status.ALERT and "still runs the configuration loaded at" in finding.summary
        assert finding.targets == (url,)
    finally:
        (folder / "prometheus.yml").write_text(good)
        assert reload(url) == 200
    assert prometheus_server.check_config(prometheus_server.server(prometheus), limit).status is Status.OK


def test_the_clock_of_a_server_on_this_machine_agrees(url: str) -> None:
    prometheus = handle(url)
    off = prometheus_server.clock(prometheus)
    assert abs(off.loc[0, "skew_seconds"]) < 2
    assert prometheus_server.check_clock(off, server.limits().monitoring.prometheus_clock).status is Status.OK


@pytest.mark.parametrize(("ahead", "says"), [(3600.0, "1h ahead of"), (-7.5, "7s500ms behind")])
def test_a_clock_that_is_off_is_an_alert(ahead: float, says: str) -> None:
    """With a stub that answers like Prometheus, because one machine has only one clock."""

    def answer(path: str) -> tuple[int, str, bytes]:
        data: dict[str, Any] = {"version": "2.42.0"}
        if "query" in path:
            now = time.time() + ahead
            data = {"resultType": "scalar", "result": [now, str(now)]}
        return 200, "application/json", json.dumps({"status": "success", "data": data}).encode()

    with server.serving(answer) as elsewhere:
        prometheus = handle(elsewhere)
        off = prometheus_server.clock(prometheus)
    finding = prometheus_server.check_clock(off, server.limits().monitoring.prometheus_clock)
    assert finding.status is Status.ALERT and says.split()[-1] in finding.summary
    assert off.loc[0, "skew_seconds"] == pytest.approx(ahead, abs=1)


def test_slow_answers_are_too_slow_to_compare_clocks() -> None:
    limit = server.settings().limits.monitoring.prometheus_clock
    row = {"target": "x", "skew_seconds": 20.0, "accuracy_seconds": 30.0, "off_seconds": 0.0}
    finding = prometheus_server.check_clock(pd.DataFrame([row]), limit)
    assert finding.status is Status.UNKNOWN and "took 60 seconds" in finding.summary


def test_the_runbooks_window_is_outside_retention(url: str) -> None:
    prometheus = handle(url)
    limit = server.limits().monitoring.prometheus_history
    seed = Window(datetime.fromtimestamp(1705334400, UTC), datetime.fromtimestamp(1705420800, UTC))
    retained = prometheus_server.retention(prometheus, seed)
    assert retained.loc[0, "covered_ratio"] == 0
    finding = prometheus_server.check_retention(retained, limit)
    assert finding.status is Status.ALERT
    assert "outside retention (15d" in finding.summary and "; oldest sample " in finding.summary
    with pytest.raises(NoData, match=r"outside retention \(15d: from"):
        prometheus.range("up", seed)


def test_a_young_server_has_only_part_of_a_day(url: str) -> None:
    prometheus = handle(url)
    limit = server.limits().monitoring.prometheus_history
    retained = prometheus_server.retention(prometheus, "24h")
    assert 0 <= retained.loc[0, "covered_ratio"] < 0.1
    finding = prometheus_server.check_retention(retained, limit)
    assert finding.status is Status.UNKNOWN and "ago and has no older data" in finding.summary
    # one that runs for longer than it has samples has dropped them
    retained["started_at"] -= pd.Timedelta(hours=2)
    assert prometheus_server.check_retention(retained, limit).status is Status.ALERT
    becomes(Status.OK, lambda: prometheus_server.check_retention(prometheus_server.retention(prometheus, "1s"), limit))


def test_a_day_of_data_covers_a_day(tmp_path: Path) -> None:
    now = int(time.time())
    past = server.history({'up{instance="a"}': {at: 1.0 for at in range(now - 90_000, now, 600)}})
    with server.running(tmp_path, past=past) as address:
        prometheus = handle(address)
        retained = prometheus_server.retention(prometheus)
        assert retained.loc[0, "covered_ratio"] == 1
        assert (
            prometheus_server.check_retention(retained, server.limits().monitoring.prometheus_history).status
            is Status.OK
        )


def test_rejected_samples_are_counted(url: str, exporter: tuple[server.Exporter, str]) -> None:
    prometheus, (scraped, _) = handle(url), exporter
    limit = server.limits().monitoring.prometheus_ingestion

    def check() -> Finding:
        return prometheus_storage.check_rejected_samples(prometheus_storage.rejected_samples(prometheus), limit)

    becomes(Status.OK, check)
    now = int(time.time() * 1000)
    scraped.text = f"node_thing 2\nstamped 1 {now}\n"
    server.until(lambda: not prometheus.instant("stamped").empty, "the first is kept")
    scraped.text = f"node_thing 2\nstamped 2 {now}\n"
    try:
        finding = becomes(Status.ALERT, check)
        assert "target_scrapes_sample_duplicate_timestamp" in finding.targets
    finally:
        scraped.text = "node_thing 1\n"
    assert "since" in becomes(Status.OK, check).summary  # counted over the window, not for ever


def test_labels_of_the_target_are_ignored_when_counters_are_compared(url: str) -> None:
    prometheus = handle(url)
    started = prometheus_server.server(prometheus).loc[0, "started_at"]
    for query in (prometheus_storage.storage_faults, prometheus_storage.rejected_samples):
        server.until(lambda query=query: (query(prometheus)["since"] > started).all(), "what it had scraped is found")


def test_growing_series_are_an_alert(url: str, exporter: tuple[server.Exporter, str]) -> None:
    prometheus, (scraped, _) = handle(url), exporter
    limit = server.limits().monitoring.prometheus_growth

    def check() -> Finding:
        return prometheus_storage.check_series_growth(prometheus_storage.head_series(prometheus), limit)

    server.until(lambda: not prometheus_storage.head_series(prometheus).loc[0, "young"], "it is old enough")
    assert "in memory" in becomes(Status.OK, check).summary
    scraped.text = "".join(f'many{{n="{n}"}} 1\n' for n in range(1500))
    try:
        finding = becomes(Status.ALERT, check)
        assert "more series than before" in finding.summary and "series in memory" in finding.summary
    finally:
        scraped.text = "node_thing 1\n"
    becomes(Status.OK, check)


def test_the_growth_is_unknown_if_prometheus_does_not_scrape_itself(tmp_path: Path) -> None:
    with server.running(tmp_path) as address:
        prometheus = server.handle(address, windows={**WINDOWS, "scrapes": "100ms"})
        series = prometheus_storage.head_series
        server.until(lambda: not series(prometheus).loc[0, "young"], "it is old enough")
        finding = prometheus_storage.check_series_growth(
            series(prometheus), server.limits().monitoring.prometheus_growth
        )
        assert finding.status is Status.UNKNOWN and "does not scrape itself" in finding.summary
        with pytest.raises(NoData, match="nothing was scraped"):
            scrapes.scrapes(prometheus)


def test_a_vanished_target_is_named_until_it_is_back(
    url: str, folder: Path, exporter: tuple[server.Exporter, str]
) -> None:
    prometheus = server.handle(url, windows={**WINDOWS, "scrapes": "10m"})
    limit = server.limits().monitoring.targets_present

    def check() -> Finding:
        return scrapes.check_vanished_targets(scrapes.scrapes(prometheus), limit)

    whole = [job("node", exporter[1]), job("self", url)]
    assert becomes(Status.OK, check).summary.startswith("all 2")
    configure(folder, url, scrape_configs=whole[1:])
    finding = becomes(Status.ALERT, check)
    assert finding.targets == ("node-0",) and "last at" in finding.summary
    assert scrapes.scrapes(prometheus)["scraped"].tolist() == [0, 1]  # those that vanished first
    slow = scrapes.check_scrape_time(scrapes.scrapes(prometheus), server.limits().monitoring.scrape_time)
    assert slow.status is Status.OK  # a vanished one has no scrape that could be slow
    configure(folder, url, scrape_configs=whole)
    becomes(Status.OK, check)


def test_scrapes_close_to_their_timeout_are_an_alert(url: str, folder: Path) -> None:
    prometheus, waits = handle(url), [0.0]

    def drowsy(path: str) -> tuple[int, str, bytes]:
        time.sleep(waits[0])
        return 200, "text/plain; version=0.0.4", b"thing 1\n"

    def check() -> Finding:
        return scrapes.check_scrape_time(scrapes.scrapes(prometheus), server.limits().monitoring.scrape_time)

    before = json.loads((folder / "prometheus.yml").read_text())["scrape_configs"]
    with server.serving(drowsy) as address:
        second = {"scrape_interval": "1s", "scrape_timeout": "1s"}
        configure(folder, url, scrape_configs=[*before, job("drowsy", address, **second)])
        try:
            server.until(lambda: "drowsy-0" in set(scrapes.scrapes(prometheus)["instance"]), "it is scraped")
            row = scrapes.scrapes(prometheus).set_index("instance").loc["drowsy-0"]
            assert row["timeout_seconds"] == 1
            waits[0] = 0.9
            assert "drowsy-0" in becomes(Status.ALERT, check).targets
            waits[0] = 0.0
            becomes(Status.OK, check)
        finally:
            configure(folder, url, scrape_configs=before)


def test_a_failing_remote_write_falls_behind(url: str, folder: Path, tmp_path: Path) -> None:
    prometheus = handle(url)
    limit = replace(server.limits().monitoring.remote_write, threshold=4.0)  # queue metrics change every few seconds

    def check() -> Finding:
        return prometheus_storage.check_remote_write(prometheus_storage.remote_write(prometheus), limit)

    assert check().status is Status.OK and "no remote write" in check().summary
    with server.running(tmp_path, flags=("--web.enable-remote-write-receiver",)) as receiver:
        queue = {"url": f"{receiver}/api/v1/write", "name": "archive", "queue_config": {"batch_send_deadline": "200ms"}}
        configure(folder, url, remote_write=[queue])
        try:
            server.until(lambda: not server.handle(receiver).instant("node_thing").empty, "samples arrive")
            becomes(Status.OK, check)
            with server.serving(lambda path: (200, "text/plain", b"")) as refusing:  # it knows no POST: 501
                configure(folder, url, remote_write=[queue | {"url": f"{refusing}/api/v1/write"}])
                finding = becomes(Status.ALERT, check)
                assert finding.targets == ("archive",) and refusing not in str(finding)
        finally:
            configure(folder, url, remote_write=[])
    assert becomes(Status.OK, check).summary == "no remote write is configured"


def test_a_damaged_log_is_an_alert_until_the_next_clean_start(tmp_path: Path) -> None:
    with server.running(tmp_path, flags=LIFECYCLE) as address:
        configure(tmp_path, address, scrape_configs=[job("self", address)])
        prometheus = handle(address)
        limit = server.limits().monitoring.prometheus_storage
        server.until(lambda: not prometheus.instant("up").empty, "it scrapes itself")
        clean = prometheus_storage.check_storage(prometheus_storage.storage_faults(prometheus), limit)
        assert clean.status is Status.OK
    segments = sorted((tmp_path / "data" / "wal").glob("0*"))
    (segment,) = [path for path in segments if path.stat().st_size > 1000]
    whole = bytearray(segment.read_bytes())
    middle = len(whole.rstrip(b"\0")) // 2
    whole[middle : middle + 64] = bytes(byte ^ 0xFF for byte in whole[middle : middle + 64])
    segment.write_bytes(whole)
    with server.running(tmp_path) as address:
        prometheus = handle(address)
        faults = prometheus_storage.storage_faults(prometheus)
        finding = prometheus_storage.check_storage(faults, limit)
        assert finding.status is Status.ALERT and finding.targets == ("tsdb_wal_corruptions",)
        assert faults["total"].sum() == 1
    with server.running(tmp_path) as address:
        faults = prometheus_storage.storage_faults(handle(address))
        assert prometheus_storage.check_storage(faults, limit).status is Status.OK


@pytest.mark.parametrize("status", [403, 404])
def test_a_withheld_metrics_page_is_an_error(status: int) -> None:
    def answer(path: str) -> tuple[int, str, bytes]:
        data = json.dumps({"status": "success", "data": {"version": "2.42.0"}}).encode()
        return (200, "application/json", data) if "buildinfo" in path else (status, "text/plain", b"")

    with server.serving(answer) as proxy:
        for ask in (prometheus_storage.storage_faults, prometheus_storage.remote_write, prometheus_server.retention):
            with pytest.raises((WrongServer, AccessDenied)):
                ask(handle(proxy))


@pytest.mark.parametrize(
    ("page", "error"),
    [
        (b"<html>Log in</html>", BadAnswer),
        (b"up 1\n", NoData),
        (b"", NoData),
        (b"\xff\xfe", BadAnswer),
        (b"prometheus_tsdb_wal_corruptions_total much\n", BadAnswer),
    ],
)
def test_a_metrics_page_of_another_program_is_an_error(page: bytes, error: type[Exception]) -> None:
    def answer(path: str) -> tuple[int, str, bytes]:
        data = json.dumps({"status": "success", "data": {"version": "2.42.0"}}).encode()
        return (200, "application/json", data) if "api" in path else (200, "text/plain", page)

    with server.serving(answer) as proxy:
        questions = (
            prometheus_storage.storage_faults,
            prometheus_storage.rejected_samples,
            prometheus_storage.head_series,
            prometheus_storage.remote_write,
            prometheus_server.retention,
        )
        for ask in questions:
            with pytest.raises(error):
                ask(handle(proxy))


@pytest.mark.parametrize("runtime", [{}, {"startTime": 3}, {"startTime": "2026", "reloadConfigSuccess": "yes"}, []])
def test_unreadable_runtime_information_is_an_error(runtime: object) -> None:
    def answer(path: str) -> tuple[int, str, bytes]:
        data = runtime if "runtime" in path else {"version": "2.42.0"}
        return 200, "application/json", json.dumps({"status": "success", "data": data}).encode()

    with server.serving(answer) as odd, pytest.raises(BadAnswer):
        prometheus_server.server(handle(odd))
