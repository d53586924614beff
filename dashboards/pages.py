"""The runbook's five dashboards, panel by panel. What judges a limit is shown by that limit's own PromQL."""

from __future__ import annotations

from collections.abc import Callable

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row

from dashboards.panels import lines, number, page

HERE = '{instance=~"$instance"}'
RATE = "[$__rate_interval]"
BY_INSTANCE = "{{instance}}"
TOP = 8
"""Routes that a panel shows at most."""


def blockchain_node() -> Dashboard:
    """One node or several: height, sync, peers, blocks, what its process uses."""
    return (
        page(
            "Blockchain Node",
            "xai-blockchain-node",
            "Each node: its height, how far it is behind, its peers, what it takes in and what its process uses.",
            instances="${height}",
        )
        .with_panel(number("Height", "locale", "The newest block.", f"${{height}}{HERE}", legend=BY_INSTANCE))
        .with_panel(number("Behind", "locale", "Blocks behind the best height that it heard of.",
                           "${signal.sync_lag}", legend=BY_INSTANCE, limit="sync_lag"))
        .with_panel(number("Peers", "locale", "Peers connected.", f"${{peers}}{HERE}", legend=BY_INSTANCE,
                           limit="peer_count", side="below"))
        .with_panel(number("Waiting transactions", "locale", "Transactions that wait for a block.",
                           f"${{pending_transactions}}{HERE}", legend=BY_INSTANCE))
        .with_row(Row("Chain"))
        .with_panel(lines("Heights", "locale", "A line that stands still is a node, or a network, that has stopped.",
                          (f"${{height}}{HERE}", BY_INSTANCE), least=None))
        .with_panel(lines("Blocks grown in ${growth_window}", "locale", "What the alert of block height growth judges.",
                          ("${signal.block_growth}", BY_INSTANCE), limit="block_growth", side="below"))
        .with_panel(lines("Blocks taken in", "cps", "Blocks a second, by where they came from.",
                          (f"sum by (instance, origin) (rate(${{blocks}}{HERE}{RATE}))",
                           "{{instance}} {{origin}}")))
        .with_panel(lines("Transactions accepted", "cps", "Transactions a second.",
                          (f"sum by (instance) (rate(${{transactions}}{HERE}{RATE}))", BY_INSTANCE)))
        .with_row(Row("Process"))
        .with_panel(lines("Processor", "short", "Cores used; 1 is one whole core.",
                          (f"rate(${{process_cpu_seconds}}{HERE}{RATE}) and on (instance) ${{height}}", BY_INSTANCE),
                          width=8))
        .with_panel(lines("Memory", "bytes", "Resident memory of the process.",
                          (f"${{process_memory_bytes}}{HERE} and on (instance) ${{height}}", BY_INSTANCE), width=8))
        .with_panel(lines("Open files", "percentunit", "Of those that the process may open.",
                          (f"${{process_open_files}}{HERE} / ${{process_most_files}} and on (instance) ${{height}}",
                           BY_INSTANCE), width=8))
    )  # fmt: skip


def network_status() -> Dashboard:
    """All nodes together: heights, lag, peers, how fast the chain grows, who is silent."""
    return (
        page(
            "Network Status",
            "xai-network-status",
            "All nodes together: do they agree on the height, does the chain grow, who is behind, alone or silent.",
        )
        .with_panel(number("Best height", "locale", "The highest that any node heard of.", "max(${best_height})"))
        .with_panel(number("Nodes that report", "locale", "Nodes whose height is scraped.", "count(${height})"))
        .with_panel(number("Heights apart", "locale", "Blocks between the highest and the lowest node.",
                           "max(${height}) - min(${height})", limit="sync_lag"))
        .with_panel(number("Fewest peers", "locale", "Of all nodes.", "min(${peers})", limit="peer_count",
                           side="below"))
        .with_panel(lines("Heights", "locale", "They rise together; one that does not is behind.",
                          ("${height}", BY_INSTANCE), ("max(${best_height})", "best"), least=None))
        .with_panel(lines("Sync lag", "locale", "Blocks behind the best height heard of.",
                          ("${signal.sync_lag}", BY_INSTANCE), limit="sync_lag"))
        .with_panel(lines("Chain growth", "cpm", "Blocks a minute, of the best height.",
                          (f"60 * max(deriv(${{best_height}}{RATE}))", "blocks"), least=None))
        .with_panel(lines("Peers", "locale", "Fewer, and a node may follow a minority.",
                          ("${signal.peer_count}", BY_INSTANCE), limit="peer_count", side="below"))
        .with_panel(lines("Targets up", "bool_yes_no", "Whether Prometheus reaches what it scrapes.",
                          ("${signal.targets_up}", "{{job}} {{instance}}"), limit="targets_up", side="below"))
        .with_panel(lines("Series of what the alerts need", "locale", "0 where a metric has gone: its alert is silent.",
                          ("${signal.metrics_present}", "{{metric}} {{instance}}"), limit="metrics_present",
                          side="below"))
    )  # fmt: skip


def database_performance() -> Dashboard:
    """PostgreSQL: connections, transactions, cache, size, what holds others up."""
    return (
        page(
            "Database Performance",
            "xai-database-performance",
            "PostgreSQL as its exporter sees it: connections, transactions, cache, size, long transactions, deadlocks.",
        )
        .with_panel(number("Connections in use", "percentunit", "Of the slots that a client can get.",
                           "${signal.database_connections}", legend=BY_INSTANCE, limit="database_connections"))
        .with_panel(number("Size", "bytes", "Of each database.", "${database_size_bytes}", legend="{{datname}}"))
        .with_panel(number("Longest transaction", "s", "How long the oldest has been open.",
                           "max(${database_transaction_seconds})"))
        .with_panel(number("Deadlocks", "locale", "Since the statistics were reset.",
                           "sum by (datname) (${database_deadlocks})", legend="{{datname}}"))
        .with_panel(lines("Connections", "percentunit", "Of the slots that a client can get.",
                          ("${signal.database_connections}", BY_INSTANCE), limit="database_connections"))
        .with_panel(lines("Connections by state", "locale", "Idle in transaction holds locks and dead rows.",
                          ("sum by (state) (${database_backends}) > 0", "{{state}}")))
        .with_panel(lines("Transactions", "cps", "Committed and rolled back a second.",
                          (f"sum(rate(${{database_commits}}{RATE}))", "committed"),
                          (f"sum(rate(${{database_rollbacks}}{RATE}))", "rolled back")))
        .with_panel(lines("Found in the cache", "percentunit", "Blocks found in PostgreSQL's own buffers.",
                          (f"sum(rate(${{database_blocks_hit}}{RATE})) / (sum(rate(${{database_blocks_hit}}{RATE}))"
                           f" + sum(rate(${{database_blocks_read}}{RATE})))", "hit")))
        .with_panel(lines("Longest transaction by state", "s", "One that stays open keeps VACUUM from its work.",
                          ("max by (state) (${database_transaction_seconds})", "{{state}}")))
        .with_panel(lines("Sizes", "bytes", "Of each database.", ("${database_size_bytes}", "{{datname}}")))
    )  # fmt: skip


def system_resources() -> Dashboard:
    """The hosts: processor, memory, disk against their limits, load, network."""
    return (
        page(
            "System Resources",
            "xai-system-resources",
            "Processor, memory and disk as their alerts judge them, and the hosts' load, disks and network.",
        )
        .with_panel(lines("Processor", "percentunit", "In use.", ("${signal.cpu_used}", BY_INSTANCE),
                          limit="cpu_used", width=8))
        .with_panel(lines("Memory", "percentunit", "In use, less what can be had back.",
                          ("${signal.memory_used}", BY_INSTANCE), limit="memory_used", width=8))
        .with_panel(lines("Disk left", "percentunit", "What ordinary users may still take.",
                          ("${signal.disk_free}", "{{instance}} {{mountpoint}}"), limit="disk_free", side="below",
                          width=8))
        .with_panel(lines("Load", "short", "Processes that run or wait for a processor or a disk, over a minute.",
                          ("${host_load}", BY_INSTANCE)))
        .with_panel(lines("Processor by kind", "percentunit", "Of all cores. iowait: they wait for a disk.",
                          (f'avg by (mode) (rate(${{host_cpu_seconds}}{{mode!="idle"}}{RATE}))', "{{mode}}")))
        .with_panel(lines("Memory available", "bytes", "And all there is.",
                          ("${host_memory_available_bytes}", "{{instance}} available"),
                          ("${host_memory_bytes}", "{{instance}} in all")))
        .with_panel(lines("Disks busy", "percentunit", "Share of the time in which a disk had something to do.",
                          (f"max by (instance, device) (rate(${{disk_busy_seconds}}{RATE}))",
                           "{{instance}} {{device}}")))
        .with_panel(lines("Network received", "Bps", "By interface, without the loopback.",
                          (f'rate(${{host_received_bytes}}{{device!="lo"}}{RATE})', "{{instance}} {{device}}")))
        .with_panel(lines("Network sent", "Bps", "By interface, without the loopback.",
                          (f'rate(${{host_sent_bytes}}{{device!="lo"}}{RATE})', "{{instance}} {{device}}")))
    )  # fmt: skip


def application_metrics() -> Dashboard:
    """The nodes' API: traffic, errors, latency, where the time goes."""
    buckets = f"rate(${{request_seconds}}_bucket{HERE}{RATE})"
    quantiles = [
        (f"histogram_quantile({quantile}, sum by (le) ({buckets}))", f"p{quantile[2:]}")
        for quantile in ("0.50", "0.95", "0.99")
    ]
    return (
        page(
            "Application Metrics",
            "xai-application-metrics",
            "The nodes' API: how much is asked, what fails, how long it takes, and where the time goes.",
            instances="${requests}",
        )
        .with_panel(number("Requests", "reqps", "A second, all instances chosen.",
                           f"sum(rate(${{requests}}{HERE}{RATE}))", width=8))
        .with_panel(number("Errors", "percentunit", "Share of requests answered 500 to 599.",
                           "${signal.api_errors}", legend=BY_INSTANCE, limit="api_errors", width=8))
        .with_panel(number("Latency", "s", "95 of 100 requests are faster.",
                           "${signal.api_latency}", legend=BY_INSTANCE, limit="api_latency", width=8))
        .with_panel(lines("Requests by status", "reqps", "What the API answered.",
                          (f"sum by (status) (rate(${{requests}}{HERE}{RATE}))", "{{status}}")))
        .with_panel(lines("Errors by instance", "percentunit", "Share of requests answered 500 to 599.",
                          ("${signal.api_errors}", BY_INSTANCE), limit="api_errors"))
        .with_panel(lines("Latency quantiles", "s", "Half, 95 and 99 of 100 requests are faster.", *quantiles,
                          limit="api_latency"))
        .with_panel(lines("Latency by instance", "s", "95 of 100 requests are faster: what the alert judges.",
                          ("${signal.api_latency}", BY_INSTANCE), limit="api_latency"))
        .with_panel(lines("Requests by route", "reqps", f"The {TOP} that are asked most.",
                          (f"topk({TOP}, sum by (route) (rate(${{requests}}{HERE}{RATE})))", "{{route}}")))
        .with_panel(lines("Where the time goes", "percentunit", f"Seconds spent a second, the {TOP} routes with most.",
                          (f"topk({TOP}, sum by (route) (rate(${{request_seconds}}_sum{HERE}{RATE})))", "{{route}}")))
    )  # fmt: skip


PAGES: dict[str, Callable[[], Dashboard]] = {
    "Blockchain Node": blockchain_node,
    "Network Status": network_status,
    "Database Performance": database_performance,
    "System Resources": system_resources,
    "Application Metrics": application_metrics,
}
"""By the runbook's titles."""
