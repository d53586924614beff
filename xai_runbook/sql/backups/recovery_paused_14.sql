-- Whether recovery has reached its target and stands still there: asked for is not yet paused.
SELECT pg_is_in_recovery() AND pg_get_wal_replay_pause_state() = 'paused' AS paused
