-- Schema of amcheck in this database, and which of its functions our role may run; no row without the extension.
SELECT n.nspname::text AS schema,
       coalesce(bool_or(p.proname = 'bt_index_check' AND p.pronargs = 2 AND has_function_privilege(p.oid, 'EXECUTE')),
           false) AS may_examine_indexes,
       coalesce(bool_or(p.proname = 'verify_heapam' AND has_function_privilege(p.oid, 'EXECUTE')), false)
           AS may_examine_tables,
       coalesce(bool_or(p.proname = 'verify_heapam'), false) AS supports_tables
FROM pg_extension e
JOIN pg_namespace n ON n.oid = e.extnamespace
LEFT JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e'
    AND d.classid = 'pg_proc'::regclass
LEFT JOIN pg_proc p ON p.oid = d.objid
WHERE e.extname = 'amcheck'
GROUP BY n.nspname
