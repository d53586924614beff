-- Whether recovery has reached its target and stands still there.
SELECT pg_is_in_recovery() AND pg_is_wal_replay_paused() AS paused
