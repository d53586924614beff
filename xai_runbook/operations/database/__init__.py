"""Section 3 of the runbook: PostgreSQL, except backups, which are `operations.backups`.

sessions         who is connected, what runs, cancelling and terminating
locks            blocked sessions, idle and long transactions
pools            connections by state, leaks, PgBouncer's pools
pool_size        how large a pool may be, and changing its size
configuration    server settings, and changing max_connections and shared_preload_libraries
sizes            sizes, bloat, disk headroom, cache hits
statements       slow statements, EXPLAIN
indexes          invalid, unused, duplicate and missing indexes; creating and dropping one
maintenance      dead rows, transaction IDs, vacuum, reindex
replication      standbys, lag and replication slots
consistency      data checksums and amcheck
transactions     commits, rollbacks and WAL
"""
