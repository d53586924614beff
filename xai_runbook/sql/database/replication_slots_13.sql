-- As replication_slots.sql; since 13 max_slot_wal_keep_size can invalidate a slot, whose wal_status is then 'lost'.
-- safe_wal_bytes: WAL that can be written before that happens; NULL without such a limit.
WITH here AS (
    SELECT CASE WHEN pg_is_in_recovery() THEN coalesce(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())
                ELSE pg_current_wal_lsn() END AS lsn
)
SELECT s.slot_name::text AS slot,
       s.slot_type AS kind,
       s.database::text AS database,
       s.active,
       s.wal_status,
       CASE WHEN s.wal_status = 'lost' THEN 'its WAL was removed' END AS invalid_because,
       CASE WHEN s.restart_lsn IS NULL OR s.restart_lsn >= here.lsn THEN 0
            ELSE pg_wal_lsn_diff(here.lsn, s.restart_lsn) END::float8 AS retained_bytes,
       s.safe_wal_size::float8 AS safe_wal_bytes
FROM pg_replication_slots s CROSS JOIN here
ORDER BY 1
