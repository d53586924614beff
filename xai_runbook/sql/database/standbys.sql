-- Standbys that are connected to this server; a standby shows those that are connected to itself.
-- lag_bytes: WAL of this server that it has not replayed yet. lag_seconds: 0 if it has replayed everything. Otherwise
-- the greater of the measured lag and the time since its last reply, because an idle pair has no measured lag (NULL),
-- and a hung standby keeps its last one. NULL if neither is known, and during catch-up, when the server measures only
-- from the time of sending.
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
