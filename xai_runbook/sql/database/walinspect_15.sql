-- Schema of pg_walinspect, whether our role may call it, and the newest range of WAL: not before the oldest segment of
-- this timeline that still exists, and from the start of a segment, since the rest of a segment after a WAL switch is
-- empty, and no record is found from there.
WITH here AS (
    SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END AS lsn
), oldest AS (
    SELECT min((substr(w.name, 9, 8) || '/' || to_hex(
               ('x' || substr(w.name, 17, 8))::bit(32)::int8 * pg_size_bytes(current_setting('wal_segment_size'))
           ))::pg_lsn) AS lsn
    FROM pg_ls_waldir() w, pg_control_checkpoint() c
    WHERE w.name ~ '^[0-9A-F]{24}$' AND left(w.name, 8) = lpad(upper(to_hex(c.timeline_id)), 8, '0')
)
SELECT n.nspname::text AS schema,
       coalesce(has_function_privilege(p.oid, 'EXECUTE'), false) AS may_execute,
       greatest(
           oldest.lsn,
           '0/0'::pg_lsn + div(greatest(here.lsn - '0/0'::pg_lsn - %(bytes)s::numeric, 0), segment.bytes) * segment.bytes
       )::text AS start,
       here.lsn::text AS until
FROM pg_extension e
JOIN pg_namespace n ON n.oid = e.extnamespace
LEFT JOIN pg_proc p ON p.pronamespace = n.oid AND p.proname = 'pg_get_wal_stats'
CROSS JOIN here CROSS JOIN oldest
CROSS JOIN (SELECT pg_size_bytes(current_setting('wal_segment_size'))::numeric AS bytes) segment
WHERE e.extname = 'pg_walinspect'
