-- Privileges granted on objects of extensions, as the beginning of their entries in an archive: where the extension
-- cannot be created, they cannot be granted either.
SELECT e.extname::text AS extension,
       'ACL ' || n.nspname || CASE p.prokind WHEN 'p' THEN ' PROCEDURE ' WHEN 'a' THEN ' AGGREGATE ' ELSE ' FUNCTION ' END
           || p.proname || '(' AS entry
FROM pg_depend d JOIN pg_extension e ON d.refobjid = e.oid AND d.refclassid = 'pg_extension'::regclass
JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE d.deptype = 'e' AND p.proacl IS NOT NULL
UNION
SELECT e.extname::text, 'ACL ' || n.nspname || ' TABLE ' || c.relname || ' '
FROM pg_depend d JOIN pg_extension e ON d.refobjid = e.oid AND d.refclassid = 'pg_extension'::regclass
JOIN pg_class c ON d.classid = 'pg_class'::regclass AND d.objid = c.oid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE d.deptype = 'e' AND c.relacl IS NOT NULL
ORDER BY 1, 2
