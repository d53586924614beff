-- Whether recovery has reached its target and is paused there.
SELECT pg_is_in_recovery() AND pg_is_wal_replay_paused() AS paused
