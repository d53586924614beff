"""Section 3 of the runbook, PostgreSQL, but for backups (`operations.backups`).

sessions         who is connected, what runs, and its end; locks: who waits for whom
pools            the connection pool; pool_size, configuration: what is set, and changing it
sizes            what is large and grows; statements: what is slow
indexes          their use, and building them; maintenance: vacuum, statistics, reindex
replication      standbys, slots and lag; consistency: checksums, damaged tables and indexes
transactions     commits, rollbacks and WAL
"""
