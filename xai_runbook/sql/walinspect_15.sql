-- Where pg_walinspect is, whether our role may count with it, and the newest stretch of WAL.
SELECT n.nspname::text AS schema,
       coalesce(has_function_privilege(p.oid, 'EXECUTE'), false) AS may_count,
       greatest(here.lsn - %(bytes)s::numeric, '0/1'::pg_lsn)::text AS start,
       here.lsn::text AS until
FROM pg_extension e
JOIN pg_namespace n ON n.oid = e.extnamespace
LEFT JOIN pg_proc p ON p.pronamespace = n.oid AND p.proname = 'pg_get_wal_stats'
CROSS JOIN (SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END AS lsn)
    AS here
WHERE e.extname = 'pg_walinspect'
