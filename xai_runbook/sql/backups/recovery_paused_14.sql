-- Whether recovery has reached its target and is paused there; a pause that was only requested does not count.
SELECT pg_is_in_recovery() AND pg_get_wal_replay_pause_state() = 'paused' AS paused
