"""Table of the sandbox's faults. Each is made in a real part and reported by a finding.

To add one, add a row to FAULTS. The running supervisor makes and heals them (`commands`).
"""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from xai_runbook.errors import SandboxError
from xai_runbook.sandbox.components import alertmanager, grafana, prometheus, standby
from xai_runbook.sandbox.faults import backups, database, maintenance
from xai_runbook.sandbox.faults import prometheus as prometheus_faults
from xai_runbook.system.files import write_atomically

if TYPE_CHECKING:
    from xai_runbook.sandbox.supervisor.supervisor import Supervisor

SLOW_READ_SECONDS = 2.0
LAGGING_BLOCKS_PER_SECOND = 0.1
MOVED_LAG_BLOCKS = 1000.0
CLOCK_AHEAD_SECONDS = 60.0

Act = Callable[["Supervisor"], None]


@dataclass(frozen=True)
class Fault:
    """One fault: description, part, the finding that reports it, and the functions that make and heal it."""

    name: str
    part: str
    does: str
    finding: str
    make: Act
    undo: Act


def _stop(supervisor: Supervisor, part: str) -> None:
    supervisor.stop_part(part)


def _start(supervisor: Supervisor, part: str) -> None:
    supervisor.start_part(part)


def _send_signal(supervisor: Supervisor, part: str, sig: signal.Signals) -> None:
    supervisor.signal_part(part, sig)


def _control(supervisor: Supervisor, part: str, **changes: bool | float | None) -> None:
    """Change a node's behaviour through its control file, which it watches."""
    path = supervisor.layout.part_folder(part) / "control.json"
    control = json.loads(path.read_bytes()) if path.exists() else {}
    write_atomically(path, json.dumps(control | changes).encode())


def _rules(supervisor: Supervisor, lag_blocks: float | None) -> None:
    """Write Prometheus' rule file and reload it."""
    write_atomically(prometheus.rule_file(supervisor.layout), prometheus.rules(lag_blocks).encode())
    supervisor.signal_part("prometheus", signal.SIGHUP)


def _silence(supervisor: Supervisor) -> None:
    alertmanager.silence_all(supervisor.layout)


def _expire_silences(supervisor: Supervisor) -> None:
    alertmanager.end_silences(supervisor.layout)


def _remove_dashboard(supervisor: Supervisor) -> None:
    grafana.remove_dashboard(supervisor.layout)


def _restore_dashboard(supervisor: Supervisor) -> None:
    grafana.restore_dashboard(supervisor.layout)


def _move_folder(supervisor: Supervisor, part: str, source: str, target: str) -> None:
    folder = supervisor.layout.part_folder(part)
    if not (folder / source).exists():
        raise SandboxError(f"{part} has no {source} folder", on=str(folder))
    if (folder / target).exists():  # a new store that the node created meanwhile
        shutil.rmtree(folder / target)
    (folder / source).rename(folder / target)


FAULTS = {
    fault.name: fault
    for fault in (
        Fault(
            "node-stopped", "node-2", "stops node-2: connections are refused", "node_reachable",
            partial(_stop, part="node-2"), partial(_start, part="node-2"),
        ),
        Fault(
            "node-hung", "node-2", "freezes node-2: it accepts connections and never answers", "node_reachable",
            partial(_send_signal, part="node-2", sig=signal.SIGSTOP),
            partial(_send_signal, part="node-2", sig=signal.SIGCONT),
        ),
        Fault(
            "height-frozen", "node-1", "node-1 stops mining: the height no longer grows on any node", "block_growth",
            partial(_control, part="node-1", mining=False), partial(_control, part="node-1", mining=True),
        ),
        Fault(
            "peers-lost", "node-3", "node-3 closes its listener and all peer connections", "peer_count",
            partial(_control, part="node-3", peers=False), partial(_control, part="node-3", peers=True),
        ),
        Fault(
            "sync-lag", "node-3", "node-3 accepts blocks more slowly than they are mined", "sync_lag",
            partial(_control, part="node-3", intake_blocks_per_second=LAGGING_BLOCKS_PER_SECOND),
            partial(_control, part="node-3", intake_blocks_per_second=None),
        ),
        Fault(
            "api-errors", "node-2", "moves the block store of node-2 away: block reads fail with 500", "api_errors",
            partial(_move_folder, part="node-2", source="chain", target="chain.away"),
            partial(_move_folder, part="node-2", source="chain.away", target="chain"),
        ),
        Fault(
            "api-slow", "node-2", f"adds {SLOW_READ_SECONDS:g} s to every block read on node-2", "api_latency",
            partial(_control, part="node-2", read_delay_seconds=SLOW_READ_SECONDS),
            partial(_control, part="node-2", read_delay_seconds=0.0),
        ),
        Fault(
            "clock-skewed", "node-2", f"sets the clock of node-2 {CLOCK_AHEAD_SECONDS:g} s ahead", "clock_skew",
            partial(_control, part="node-2", clock_ahead_seconds=CLOCK_AHEAD_SECONDS),
            partial(_control, part="node-2", clock_ahead_seconds=0.0),
        ),
        Fault(
            "database-down", "postgres", "stops PostgreSQL: connections are refused", "database_reachable",
            partial(_stop, part="postgres"), partial(_start, part="postgres"),
        ),
        Fault(
            "prometheus-down", "prometheus", "stops Prometheus: connections are refused", "prometheus_reachable",
            partial(_stop, part="prometheus"), partial(_start, part="prometheus"),
        ),
        Fault(
            "alertmanager-down", "alertmanager", "stops Alertmanager: no alert is delivered", "alertmanager_reachable",
            partial(_stop, part="alertmanager"), partial(_start, part="alertmanager"),
        ),
        Fault(
            "alerts-silenced", "alertmanager", "silences every alert for a week", "silences",
            _silence, _expire_silences,
        ),
        Fault(
            "rules-drifted", "prometheus", "changes the sync lag limit in the rules that Prometheus has loaded",
            "rules_current", partial(_rules, lag_blocks=MOVED_LAG_BLOCKS), partial(_rules, lag_blocks=None),
        ),
        Fault(
            "dashboard-missing", "grafana", f"deletes the dashboard {grafana.REMOVABLE_DASHBOARD!r}", "dashboards",
            _remove_dashboard, _restore_dashboard,
        ),
        Fault(
            "connections-taken", "postgres", "opens idle sessions until six connection slots are left", "pool",
            partial(database.take_connections, fault="connections-taken"),
            partial(database.close_sessions, fault="connections-taken"),
        ),
        Fault(
            "lock-held", "postgres", "a session updates a row without committing; another waits for the lock",
            "lock_waits",
            partial(database.hold_lock, fault="lock-held"), partial(database.close_sessions, fault="lock-held"),
        ),
        Fault(
            "idle-in-transaction", "postgres", "three sessions stay idle in an open transaction",
            "idle_in_transaction",
            partial(database.open_idle_transactions, fault="idle-in-transaction"),
            partial(database.close_sessions, fault="idle-in-transaction"),
        ),
        Fault(
            "transaction-long", "postgres", "one transaction runs a statement that does not end", "transaction_age",
            partial(database.open_long_transaction, fault="transaction-long"),
            partial(database.close_sessions, fault="transaction-long"),
        ),
        Fault(
            "connections-leaked", "postgres", "one application leaves fifteen idle sessions open",
            "idle_sessions",
            partial(database.leak_connections, fault="connections-leaked"),
            partial(database.close_sessions, fault="connections-leaked"),
        ),
        Fault(
            "pool-exhausted", "pooler", "occupies every server connection of the application's pool; a client waits",
            "pool_waiting",
            partial(database.exhaust_pool, fault="pool-exhausted"),
            partial(database.close_sessions, fault="pool-exhausted"),
        ),
        Fault(
            "pooler-down", "pooler", "stops PgBouncer: connections are refused", "pooler_reachable",
            partial(_stop, part="pooler"), partial(_start, part="pooler"),
        ),
        Fault(
            "index-invalid", "postgres", "a failed CREATE INDEX CONCURRENTLY leaves an invalid index",
            "indexes_valid",
            maintenance.create_invalid_index, maintenance.drop_invalid_index,
        ),
        Fault(
            "dead-rows", "postgres", "disables autovacuum on a table in which most rows are dead", "dead_row_ratio",
            maintenance.make_dead_rows, maintenance.vacuum_dead_rows,
        ),
        Fault(
            "statement-slow", "postgres", "an application statement takes more than a second", "statement_time",
            maintenance.run_slow_statement, maintenance.reset_slow_statement,
        ),
        Fault(
            "index-missing", "postgres", "drops an index: an application statement scans a whole table per wallet",
            "statement_time", maintenance.drop_index, maintenance.recreate_index,
        ),
        Fault(
            "standby-stopped", "standby", "stops the standby: the primary has none", "standbys_connected",
            partial(_stop, part="standby"), partial(_start, part="standby"),
        ),
        Fault(
            "standby-paused", "standby", "pauses WAL replay on the standby",
            "replication_lag", standby.pause, standby.resume,
        ),
        Fault(
            "slot-left-behind", "postgres", "an unused replication slot retains WAL",
            "replication_slots",
            partial(database.create_unused_slot, fault="slot-left-behind"),
            partial(database.drop_unused_slot, fault="slot-left-behind"),
        ),
        Fault(
            "page-damaged", "postgres", "corrupts a page of a table in a database made for it", "checksums",
            partial(database.corrupt_page, fault="page-damaged"),
            partial(database.drop_corrupted_database, fault="page-damaged"),
        ),
        Fault(
            "transactions-aborted", "postgres", "rolls back hundreds of transactions",
            "rollback_ratio",
            partial(database.roll_back_transactions, fault="transactions-aborted"),
            partial(database.commit_transactions, fault="transactions-aborted"),
        ),
        Fault(
            "prometheus-misconfigured", "prometheus", "gives Prometheus a configuration that it cannot load",
            "prometheus_config", prometheus_faults.misconfigure, prometheus_faults.restore_configuration,
        ),
        Fault(
            "target-gone", "prometheus", f"removes {prometheus_faults.REMOVED_TARGET} from Prometheus' scrape targets",
            "targets_present", prometheus_faults.remove_target, prometheus_faults.restart,
        ),
        Fault(
            "prometheus-log-damaged", "prometheus", "corrupts Prometheus' write-ahead log: Prometheus truncates it",
            "prometheus_storage", prometheus_faults.corrupt_wal, prometheus_faults.restart,
        ),
        Fault(
            "files-short", "node-2", "lowers the open-files limit of node-2 to little more than it uses", "open_files",
            partial(prometheus_faults.limit_open_files, part="node-2"),
            partial(prometheus_faults.restore_open_files, part="node-2"),
        ),
        Fault(
            "backup-damaged", "backups", "truncates the newest dump to half its size",
            "backups_intact", backups.truncate_newest, backups.restore,
        ),
        Fault(
            "backup-stale", "backups", "dates every backup back by three days",
            "backup_age", backups.backdate, backups.restore,
        ),
        Fault(
            "archive-failing", "postgres", "moves the WAL archive away: archiving fails",
            "wal_archiving", backups.fail_archiving, backups.restore_archiving,
        ),
    )
}  # fmt: skip
