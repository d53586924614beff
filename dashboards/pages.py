"""The runbook's five dashboards, panel by panel. A panel of a limit uses the limit's own PromQL."""

from __future__ import annotations

from collections.abc import Callable

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row

from dashboards.panels import lines, number, page

HERE = '{instance=~"$instance"}'
RATE = "[$__rate_interval]"
BY_INSTANCE = "{{instance}}"
TOP = 8
"""Maximum number of routes in a panel."""


def blockchain_node() -> Dashboard:
    """Return the page of nodes: height, sync, peers, blocks, use of their processes."""
    return (
        page(
            "Blockchain Node",
            "xai-blockchain-node",
            "Each node: height, sync lag, peers, accepted blocks and transactions, and the use of its process.",
            instances="${height}",
        )
        .with_panel(number("Height", "locale", "The newest block.", f"${{height}}{HERE}", legend=BY_INSTANCE))
        .with_panel(number("Behind", "locale", "Blocks behind the best height that the node knows.",
                           "${signal.sync_lag}", legend=BY_INSTANCE, limit="sync_lag"))
        .with_panel(number("Peers", "locale", "Peers connected.", f"${{peers}}{HERE}", legend=BY_INSTANCE,
                           limit="peer_count", side="below"))
        .with_panel(number("Pending transactions", "locale", "Transactions that wait for a block.",
                           f"${{pending_transactions}}{HERE}", legend=BY_INSTANCE))
        .with_row(Row("Chain"))
        .with_panel(lines("Heights", "locale", "A flat line is a node, or a network, that has stopped.",
                          (f"${{height}}{HERE}", BY_INSTANCE), minimum=None))
        .with_panel(lines("New blocks in ${growth_window}", "locale", "The signal of the alert on block height growth.",
                          ("${signal.block_growth}", BY_INSTANCE), limit="block_growth", side="below"))
        .with_panel(lines("Blocks accepted", "cps", "Blocks per second, by origin.",
                          (f"sum by (instance, origin) (rate(${{blocks}}{HERE}{RATE}))",
                           "{{instance}} {{origin}}")))
        .with_panel(lines("Transactions accepted", "cps", "Transactions per second.",
                          (f"sum by (instance) (rate(${{transactions}}{HERE}{RATE}))", BY_INSTANCE)))
        .with_row(Row("Process"))
        .with_panel(lines("Processor", "short", "Cores used; 1 is one core.",
                          (f"rate(${{process_cpu_seconds}}{HERE}{RATE}) and on (instance) ${{height}}", BY_INSTANCE),
                          width=8))
        .with_panel(lines("Memory", "bytes", "Resident memory of the process.",
                          (f"${{process_memory_bytes}}{HERE} and on (instance) ${{height}}", BY_INSTANCE), width=8))
        .with_panel(lines("Open files", "percentunit", "Share of the files that the process may open.",
                          (f"${{process_open_files}}{HERE} / ${{process_most_files}} and on (instance) ${{height}}",
                           BY_INSTANCE), width=8))
    )  # fmt: skip


def network_status() -> Dashboard:
    """Return the page of all nodes together: heights, lag, peers, chain growth, missing metrics."""
    return (
        page(
            "Network Status",
            "xai-network-status",
            "All nodes together: do their heights agree, does the chain grow, which node is behind, alone or silent.",
        )
        .with_panel(number("Best height", "locale", "The highest that any node knows.", "max(${best_height})"))
        .with_panel(number("Reporting nodes", "locale", "Nodes whose height is scraped.", "count(${height})"))
        .with_panel(number("Height difference", "locale", "Blocks between the highest and the lowest node.",
                           "max(${height}) - min(${height})", limit="sync_lag"))
        .with_panel(number("Fewest peers", "locale", "The node with the fewest peers.", "min(${peers})",
                           limit="peer_count", side="below"))
        .with_panel(lines("Heights", "locale", "The heights rise together; a node that does not is behind.",
                          ("${height}", BY_INSTANCE), ("max(${best_height})", "best"), minimum=None))
        .with_panel(lines("Sync lag", "locale", "Blocks behind the best known height.",
                          ("${signal.sync_lag}", BY_INSTANCE), limit="sync_lag"))
        .with_panel(lines("Chain growth", "cpm", "Growth of the best height, in blocks per minute.",
                          (f"60 * max(deriv(${{best_height}}{RATE}))", "blocks"), minimum=None))
        .with_panel(lines("Peers", "locale", "With too few peers, a node may follow a minority of the network.",
                          ("${signal.peer_count}", BY_INSTANCE), limit="peer_count", side="below"))
        .with_panel(lines("Targets up", "bool_yes_no", "Whether Prometheus can scrape its targets.",
                          ("${signal.targets_up}", "{{job}} {{instance}}"), limit="targets_up", side="below"))
        .with_panel(lines("Metrics of the alerts", "locale", "Number of series; at 0 the metric's alert cannot fire.",
                          ("${signal.metrics_present}", "{{metric}} {{instance}}"), limit="metrics_present",
                          side="below"))
    )  # fmt: skip


def database_performance() -> Dashboard:
    """Return the page of PostgreSQL: connections, transactions, cache, size, deadlocks."""
    return (
        page(
            "Database Performance",
            "xai-database-performance",
            "PostgreSQL, from its exporter: connections, transactions, cache, size, long transactions, deadlocks.",
        )
        .with_panel(number("Connections in use", "percentunit", "Share of the connection slots for clients.",
                           "${signal.database_connections}", legend=BY_INSTANCE, limit="database_connections"))
        .with_panel(number("Size", "bytes", "Of each database.", "${database_size_bytes}", legend="{{datname}}"))
        .with_panel(number("Longest transaction", "s", "Age of the oldest open transaction.",
                           "max(${database_transaction_seconds})"))
        .with_panel(number("Deadlocks", "locale", "Since the statistics were reset.",
                           "sum by (datname) (${database_deadlocks})", legend="{{datname}}"))
        .with_panel(lines("Connections", "percentunit", "Share of the connection slots for clients.",
                          ("${signal.database_connections}", BY_INSTANCE), limit="database_connections"))
        .with_panel(lines("Connections by state", "locale", "Sessions idle in transaction hold locks.",
                          ("sum by (state) (${database_backends}) > 0", "{{state}}")))
        .with_panel(lines("Transactions", "cps", "Committed and rolled back, per second.",
                          (f"sum(rate(${{database_commits}}{RATE}))", "committed"),
                          (f"sum(rate(${{database_rollbacks}}{RATE}))", "rolled back")))
        .with_panel(lines("Cache hits", "percentunit", "Share of blocks found in PostgreSQL's shared buffers.",
                          (f"sum(rate(${{database_blocks_hit}}{RATE})) / (sum(rate(${{database_blocks_hit}}{RATE}))"
                           f" + sum(rate(${{database_blocks_read}}{RATE})))", "hit")))
        .with_panel(lines("Longest transaction by state", "s", "A long transaction keeps VACUUM from removing rows.",
                          ("max by (state) (${database_transaction_seconds})", "{{state}}")))
        .with_panel(lines("Sizes", "bytes", "Of each database.", ("${database_size_bytes}", "{{datname}}")))
    )  # fmt: skip


def system_resources() -> Dashboard:
    """Return the page of the hosts: processor, memory, disk against their limits, load, network."""
    return (
        page(
            "System Resources",
            "xai-system-resources",
            "Processor, memory and disk with the signals of their alerts, and the hosts' load, disks and network.",
        )
        .with_panel(lines("Processor", "percentunit", "In use.", ("${signal.cpu_used}", BY_INSTANCE),
                          limit="cpu_used", width=8))
        .with_panel(lines("Memory", "percentunit", "In use, without reclaimable memory.",
                          ("${signal.memory_used}", BY_INSTANCE), limit="memory_used", width=8))
        .with_panel(lines("Disk free", "percentunit", "Available to unprivileged users.",
                          ("${signal.disk_free}", "{{instance}} {{mountpoint}}"), limit="disk_free", side="below",
                          width=8))
        .with_panel(lines("Load", "short", "Running or waiting for a processor or a disk, average of a minute.",
                          ("${host_load}", BY_INSTANCE)))
        .with_panel(lines("Processor by kind", "percentunit", "Share of all cores. iowait: waiting for a disk.",
                          (f'avg by (mode) (rate(${{host_cpu_seconds}}{{mode!="idle"}}{RATE}))', "{{mode}}")))
        .with_panel(lines("Memory available", "bytes", "Available and total.",
                          ("${host_memory_available_bytes}", "{{instance}} available"),
                          ("${host_memory_bytes}", "{{instance}} total")))
        .with_panel(lines("Disks busy", "percentunit", "Share of the time in which a disk was busy.",
                          (f"max by (instance, device) (rate(${{disk_busy_seconds}}{RATE}))",
                           "{{instance}} {{device}}")))
        .with_panel(lines("Network received", "Bps", "By interface, without loopback.",
                          (f'rate(${{host_received_bytes}}{{device!="lo"}}{RATE})', "{{instance}} {{device}}")))
        .with_panel(lines("Network sent", "Bps", "By interface, without loopback.",
                          (f'rate(${{host_sent_bytes}}{{device!="lo"}}{RATE})', "{{instance}} {{device}}")))
    )  # fmt: skip


def application_metrics() -> Dashboard:
    """Return the page of the nodes' API: traffic, errors, latency, time by route."""
    buckets = f"rate(${{request_seconds}}_bucket{HERE}{RATE})"
    quantiles = [
        (f"histogram_quantile({quantile}, sum by (le) ({buckets}))", f"p{quantile[2:]}")
        for quantile in ("0.50", "0.95", "0.99")
    ]
    return (
        page(
            "Application Metrics",
            "xai-application-metrics",
            "The nodes' API: traffic, errors, latency, and the routes that take the time.",
            instances="${requests}",
        )
        .with_panel(number("Requests", "reqps", "Per second, all selected instances.",
                           f"sum(rate(${{requests}}{HERE}{RATE}))", width=8))
        .with_panel(number("Errors", "percentunit", "Share of responses with status 500 to 599.",
                           "${signal.api_errors}", legend=BY_INSTANCE, limit="api_errors", width=8))
        .with_panel(number("Latency", "s", "95 % of requests are faster.",
                           "${signal.api_latency}", legend=BY_INSTANCE, limit="api_latency", width=8))
        .with_panel(lines("Requests by status", "reqps", "Responses of the API.",
                          (f"sum by (status) (rate(${{requests}}{HERE}{RATE}))", "{{status}}")))
        .with_panel(lines("Errors by instance", "percentunit", "Share of responses with status 500 to 599.",
                          ("${signal.api_errors}", BY_INSTANCE), limit="api_errors"))
        .with_panel(lines("Latency quantiles", "s", "50, 95 and 99 % of requests are faster.", *quantiles,
                          limit="api_latency"))
        .with_panel(lines("Latency by instance", "s", "95 % of requests are faster; the signal of the alert.",
                          ("${signal.api_latency}", BY_INSTANCE), limit="api_latency"))
        .with_panel(lines("Requests by route", "reqps", f"The {TOP} busiest routes.",
                          (f"topk({TOP}, sum by (route) (rate(${{requests}}{HERE}{RATE})))", "{{route}}")))
        .with_panel(lines("Time by route", "percentunit", f"Seconds of request time per second, the top {TOP} routes.",
                          (f"topk({TOP}, sum by (route) (rate(${{request_seconds}}_sum{HERE}{RATE})))", "{{route}}")))
    )  # fmt: skip


PAGES: dict[str, Callable[[], Dashboard]] = {
    "Blockchain Node": blockchain_node,
    "Network Status": network_status,
    "Database Performance": database_performance,
    "System Resources": system_resources,
    "Application Metrics": application_metrics,
}
"""Pages by the runbook's titles."""
