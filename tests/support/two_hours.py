"""Two hours of series in which each row of the alert table is exceeded by one instance and just not by another."""

from __future__ import annotations

from collections.abc import Callable

STEP, END = 15, 7200
MINUTE = 60
GONE = range(100 * MINUTE, 115 * MINUTE)
"""The time in which no instance exports its height."""

Story = Callable[[int], float | None]


def between(first: int, last: int, inside: float, outside: float) -> Story:
    return lambda t: inside if first * MINUTE <= t < last * MINUTE else outside


def counter(rate: Story) -> Story:
    """Return a counter that grows by `rate` per second."""

    def total(t: int) -> float:
        return sum((rate(at) or 0.0) * STEP for at in range(0, t, STEP))

    return total


def height(story: Story) -> Story:
    return lambda t: None if t in GONE else story(t)


def stories(start: int = 0) -> dict[str, Story]:
    """Return each series' values over time, by name and labels; `start` is the time at which the clocks begin."""
    series: dict[str, Story] = {}
    for instance, busy in {
        "busy": between(20, 40, 0.95, 0.3),
        "short": between(20, 24, 0.95, 0.3),
        "calm": between(0, 0, 0, 0.79),
    }.items():
        for cpu in ("0", "1"):
            series[f'node_cpu_seconds_total{{instance="{instance}",cpu="{cpu}",mode="idle"}}'] = counter(
                lambda t, busy=busy: 1 - (busy(t) or 0)
            )  # type: ignore[misc]
            series[f'node_cpu_seconds_total{{instance="{instance}",cpu="{cpu}",mode="user"}}'] = counter(busy)
    for labels, free in {
        'instance="full",mountpoint="/",fstype="ext4"': between(30, 50, 9, 50),
        'instance="edge",mountpoint="/",fstype="ext4"': between(0, 0, 0, 10),
        'instance="edge",mountpoint="/run",fstype="tmpfs"': between(0, 0, 0, 0),
    }.items():
        series[f"node_filesystem_avail_bytes{{{labels}}}"] = free
        series[f"node_filesystem_size_bytes{{{labels}}}"] = lambda t: 100
    for instance, free in {"short": between(10, 14, 5, 50), "long": between(10, 20, 5, 50)}.items():
        series[f'node_memory_MemAvailable_bytes{{instance="{instance}"}}'] = free
        series[f'node_memory_MemTotal_bytes{{instance="{instance}"}}'] = lambda t: 100
    failing = counter(between(30, 120, 2, 0))
    for labels, requests in {
        'instance="failing",status="200"': counter(lambda t: 50),
        'instance="failing",status="500"': lambda t: failing(t) if t >= 30 * MINUTE else None,
        'instance="never-failed",status="200"': counter(lambda t: 50),
        'instance="idle",status="200"': lambda t: 7,
        'instance="restarted",status="200"': lambda t: t * 5.0 if t < 3600 else (t - 3600) * 5.0,
        'instance="restarted",status="500"': lambda t: 900.0 if t < 3600 else 0.0,
    }.items():
        series[f"http_requests_total{{{labels}}}"] = requests
    for instance, slow in {"slow": between(20, 50, 1, 0), "fast": between(0, 0, 0, 0)}.items():
        for bound in ("0.5", "2.5", "+Inf"):
            series[f'http_request_duration_seconds_bucket{{instance="{instance}",le="{bound}"}}'] = counter(
                lambda t, slow=slow, bound=bound: 10 - (9 if slow(t) and bound == "0.5" else 0)
            )  # type: ignore[misc]
    for bound in ("0.5", "2.5", "+Inf"):
        series[f'http_request_duration_seconds_bucket{{instance="idle",le="{bound}"}}'] = lambda t: 3
    for instance, used in {"crowded": between(30, 60, 68, 20), "edge": between(0, 0, 0, 67.6)}.items():  # 77.6 of 97
        series[f'pg_stat_activity_count{{instance="{instance}",state="active"}}'] = used
        series[f'pg_stat_activity_count{{instance="{instance}",state="idle"}}'] = lambda t: 10
        series[f'pg_settings_max_connections{{instance="{instance}"}}'] = lambda t: 100
        series[f'pg_settings_superuser_reserved_connections{{instance="{instance}"}}'] = lambda t: 3
    for instance, files in {"leaking": between(30, 50, 900, 100), "edge": lambda t: 800}.items():
        series[f'process_open_fds{{instance="{instance}"}}'] = files
        series[f'process_max_fds{{instance="{instance}"}}'] = lambda t: 1000
    for instance, off in {"skewed": between(30, 50, -60, 0), "edge": lambda t: 5}.items():
        series[f'node_time_seconds{{instance="{instance}"}}'] = lambda t, off=off: start + t + (off(t) or 0)  # type: ignore[misc]
    series['up{instance="down",job="x"}'] = between(30, 50, 0, 1)
    series['up{instance="restarting",job="x"}'] = between(30, 33, 0, 1)
    series['network_peers{instance="lonely"}'] = between(30, 50, 2, 3)
    series['network_peers{instance="edge"}'] = lambda t: 3
    for instance, blocks in {
        "stalled": lambda t: 1000 + min(t, 40 * MINUTE) // 30,
        "growing": lambda t: 1000 + t // 30,
        "slow": lambda t: 1000 + t // (20 * MINUTE),  # one block each 20 minutes: slow, not stalled
        "re-synced": lambda t: 5000 + t // 30 if t < 3600 else (t - 3600) // 2,
        "late": lambda t: None if t < 50 * MINUTE else 1000 + t // 30,
        "late-stalled": lambda t: None if t < 50 * MINUTE else 1000,
        "gap": lambda t: None if 55 * MINUTE <= t < 62 * MINUTE else 1000 + min(t, 40 * MINUTE) // 30,
        "lag-10": lambda t: 1000 + t // 30,
        "lag-11": lambda t: 1000 + t // 30,
        "sawtooth": lambda t: 1000 + t // 120 * 4,
    }.items():
        series[f'blockchain_height{{instance="{instance}"}}'] = height(blocks)
    series['network_best_height{instance="lag-10"}'] = lambda t: 1010 + t // 30
    series['network_best_height{instance="lag-11"}'] = lambda t: 1000 + t // 30 + (11 if 30 * MINUTE <= t < 3000 else 0)
    series['network_best_height{instance="sawtooth"}'] = lambda t: 1000 + t // 30 + (4 if t % 600 < 300 else 3)
    return series
