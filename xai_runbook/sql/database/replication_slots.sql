-- Replication slots and the WAL that each retains. Before 13 slots are never invalidated.
WITH here AS (
    SELECT CASE WHEN pg_is_in_recovery() THEN coalesce(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())
                ELSE pg_current_wal_lsn() END AS lsn
)
SELECT s.slot_name::text AS slot,
       s.slot_type AS kind,
       s.database::text AS database,
       s.active,
       NULL::text AS wal_status,
       NULL::text AS invalid_because,
       CASE WHEN s.restart_lsn IS NULL OR s.restart_lsn >= here.lsn THEN 0
            ELSE pg_wal_lsn_diff(here.lsn, s.restart_lsn) END::float8 AS retained_bytes,
       NULL::float8 AS safe_wal_bytes
FROM pg_replication_slots s CROSS JOIN here
ORDER BY 1
