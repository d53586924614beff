-- The last WAL position and the last commit that were replayed.
SELECT pg_last_wal_replay_lsn()::text AS lsn, pg_last_xact_replay_timestamp() AS last_commit_at
