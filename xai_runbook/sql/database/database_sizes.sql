-- Size of each database, by oid; NULL if the role may not read it.
SELECT d.datname::text AS name,
       'database' AS kind,
       CASE WHEN has_database_privilege(d.oid, 'CONNECT') OR pg_has_role('pg_read_all_stats', 'USAGE')
            THEN pg_database_size(d.oid) END AS size_bytes
FROM pg_database d
ORDER BY size_bytes DESC NULLS LAST
