-- Number of objects of each kind that a dump contains, without the objects of extensions.
WITH user_schemas AS (
    SELECT n.oid FROM pg_namespace n
    WHERE n.nspname <> 'pg_catalog' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_(toast|temp)'
), extension_objects AS (
    SELECT classid, objid FROM pg_depend WHERE deptype = 'e'
)
SELECT CASE c.relkind WHEN 'r' THEN 'tables' WHEN 'p' THEN 'partitioned tables' WHEN 'i' THEN 'indexes'
                      WHEN 'I' THEN 'partitioned indexes' WHEN 'S' THEN 'sequences' WHEN 'v' THEN 'views'
                      WHEN 'm' THEN 'materialized views' WHEN 'f' THEN 'foreign tables' ELSE 'composite types' END AS kind,
       count(*) AS count
FROM pg_class c
WHERE c.relnamespace IN (SELECT oid FROM user_schemas) AND c.relkind <> 't' AND c.relpersistence <> 't'
  AND NOT EXISTS (SELECT FROM pg_index x WHERE x.indexrelid = c.oid AND NOT x.indisvalid)  -- these are not dumped
  AND NOT EXISTS (SELECT FROM extension_objects e WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid)
GROUP BY 1
UNION ALL
SELECT 'functions', count(*) FROM pg_proc p
WHERE p.pronamespace IN (SELECT oid FROM user_schemas)
  AND NOT EXISTS (SELECT FROM extension_objects e WHERE e.classid = 'pg_proc'::regclass AND e.objid = p.oid)
UNION ALL
SELECT 'constraints', count(*) FROM pg_constraint k
WHERE k.connamespace IN (SELECT oid FROM user_schemas) AND k.contype <> 'n'
  AND NOT EXISTS (SELECT FROM extension_objects e WHERE e.classid = 'pg_class'::regclass AND e.objid = k.conrelid)
UNION ALL
SELECT 'triggers', count(*) FROM pg_trigger t WHERE NOT t.tgisinternal
UNION ALL
SELECT 'policies', count(*) FROM pg_policy
UNION ALL
SELECT 'large objects', count(*) FROM pg_largeobject_metadata
