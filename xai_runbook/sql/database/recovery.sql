-- Whether this server is a standby, and its own view of its lag. lag_seconds: 0 if all received WAL is replayed and the
-- receiver is connected; NULL if nothing has been replayed yet.
SELECT pg_is_in_recovery() AS in_recovery,
       pg_last_wal_receive_lsn()::text AS received_lsn,
       pg_last_wal_replay_lsn()::text AS replayed_lsn,
       pg_wal_lsn_diff(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())::float8 AS lag_bytes,
       CASE WHEN NOT pg_is_in_recovery() THEN NULL
            WHEN r.status = 'streaming' AND pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0
            ELSE extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())
       END::float8 AS lag_seconds,
       pg_last_xact_replay_timestamp() AS last_replayed_at,
       r.status AS receiver_status,
       r.sender_host,
       r.sender_port,
       CASE WHEN pg_is_in_recovery() THEN pg_is_wal_replay_paused() END AS replay_paused
FROM (SELECT 1) AS one LEFT JOIN pg_stat_wal_receiver r ON true
