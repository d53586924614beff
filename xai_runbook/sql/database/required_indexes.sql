-- Indexes that must not be dropped, one row per reason. Included by other queries.
SELECT k.conindid AS oid,
       CASE WHEN k.contype = 'f' THEN 'foreign key ' || k.conname || ' of ' || k.conrelid::regclass || ' references it'
            ELSE 'it backs a constraint: drop ' || k.conname || ' instead' END AS reason
FROM pg_constraint k
WHERE k.conindid <> 0
UNION ALL
SELECT x.indexrelid, 'it is the replica identity of ' || x.indrelid::regclass || ', needed to replicate its updates and deletes'
FROM pg_index x
WHERE x.indisreplident
UNION ALL
SELECT x.indexrelid, x.indrelid::regclass || ' is clustered on it'
FROM pg_index x
WHERE x.indisclustered
UNION ALL
SELECT c.oid, 'it belongs to a partitioned table, so it cannot be dropped concurrently'
FROM pg_class c
WHERE c.relkind = 'I'
UNION ALL
SELECT i.inhrelid, 'it is part of the partitioned index ' || i.inhparent::regclass
FROM pg_inherits i JOIN pg_index x ON x.indexrelid = i.inhrelid
UNION ALL
SELECT x.indexrelid, 'it belongs to extension ' || e.extname
FROM pg_depend d
JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND e.oid = d.refobjid
JOIN pg_index x ON d.objid IN (x.indexrelid, x.indrelid)
WHERE d.classid = 'pg_class'::regclass AND d.deptype = 'e'
UNION ALL
-- without a target it is NULL since 17, and -1 before
SELECT a.attrelid, 'it has its own statistics target for ' || pg_get_indexdef(a.attrelid, a.attnum, true)
FROM pg_attribute a JOIN pg_index x ON x.indexrelid = a.attrelid
WHERE a.attstattarget >= 0 AND x.indkey[a.attnum - 1] = 0
UNION ALL
SELECT x.indexrelid, 'REFRESH MATERIALIZED VIEW CONCURRENTLY ' || x.indrelid::regclass || ' needs it'
FROM pg_index x JOIN pg_class c ON c.oid = x.indrelid AND c.relkind = 'm'
WHERE x.indisunique AND x.indpred IS NULL AND x.indexprs IS NULL AND NOT EXISTS (
    SELECT FROM pg_index o
    WHERE o.indrelid = x.indrelid AND o.indexrelid <> x.indexrelid AND o.indisvalid AND o.indimmediate
      AND o.indisunique AND o.indpred IS NULL AND o.indexprs IS NULL)
UNION ALL
SELECT d.refobjid, pg_describe_object(d.classid, d.objid, d.objsubid) || ' depends on it'
FROM pg_depend d JOIN pg_index x ON x.indexrelid = d.refobjid
WHERE d.refclassid = 'pg_class'::regclass AND d.classid <> 'pg_constraint'::regclass
  AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = d.objid AND i.inhparent = d.refobjid)
