-- Standbys that are connected to this server, and how far each one is. A standby shows its own followers.
-- lag_bytes: what it has not replayed yet of what this server has. lag_seconds: 0 where nothing is missing. Else the
-- greater of the lag that the server measured and the time since the standby last told anything: an idle pair has no
-- measured lag (NULL), and a hung standby keeps showing its last one. NULL where neither is known, and while it still
-- catches up, for there the server measures from the sending only.
WITH here AS (
    SELECT CASE WHEN pg_is_in_recovery() THEN coalesce(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())
                ELSE pg_current_wal_lsn() END AS lsn
)
SELECT coalesce(nullif(r.application_name, ''), 'pid ' || r.pid) AS standby,
       coalesce(host(r.client_addr), 'socket') AS client_address,
       r.state,
       r.sync_state,
       CASE WHEN r.replay_lsn >= here.lsn THEN 0 ELSE pg_wal_lsn_diff(here.lsn, r.replay_lsn) END::float8 AS lag_bytes,
       CASE WHEN r.replay_lsn >= here.lsn THEN 0
            WHEN r.state = 'streaming' THEN
                extract(epoch FROM greatest(r.replay_lag, clock_timestamp() - r.reply_time))
       END::float8 AS lag_seconds,
       r.backend_start AS connected_at
FROM pg_stat_replication r CROSS JOIN here
ORDER BY 1
