-- Functions that a statement may call and that are not known to roll back completely: those named in its text, in any
-- position, and those used by its relations: views, rules, policies, and for writes triggers, defaults and constraints,
-- including those of partitions and of tables that reference them.
-- effect: lasts (a function of the server or an extension whose effects are not rolled back), sequence (it advances
-- one), unknown (a user's function, a stable function of an extension, or a foreign table).
WITH RECURSIVE words AS (
    SELECT ARRAY(SELECT left(w, 63) FROM regexp_split_to_table(lower(%(statement)s), '[^a-z0-9_$]+') AS w) AS list,
           lower(%(statement)s) AS text
),
relations(oid) AS (
    SELECT c.oid
    FROM pg_class c, words
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
      AND CASE WHEN c.relname ~ '^[A-Za-z0-9_$]+$' THEN lower(c.relname) = ANY (words.list)
               ELSE position(replace(lower(c.relname), '"', '""') IN words.text) > 0 END
    UNION
    SELECT brought.oid
    FROM relations r
    CROSS JOIN LATERAL (
        SELECT d.refobjid AS oid
        FROM pg_rewrite w
        JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid AND d.refclassid = 'pg_class'::regclass
        WHERE w.ev_class = r.oid
        UNION ALL SELECT inhrelid FROM pg_inherits WHERE inhparent = r.oid
        UNION ALL SELECT conrelid FROM pg_constraint WHERE contype = 'f' AND confrelid = r.oid AND %(writes)s
    ) brought
),
trees(tree) AS (
    SELECT w.ev_action::text || w.ev_qual::text FROM pg_rewrite w JOIN relations r ON w.ev_class = r.oid
    WHERE w.ev_type = '1' OR %(writes)s  -- views, and rules on SELECT; other rules for writes
    UNION ALL
    SELECT concat(p.polqual::text, p.polwithcheck::text) FROM pg_policy p JOIN relations r ON p.polrelid = r.oid
    UNION ALL
    SELECT d.adbin::text FROM pg_attrdef d JOIN relations r ON d.adrelid = r.oid WHERE %(writes)s
    UNION ALL
    SELECT k.conbin::text FROM pg_constraint k JOIN relations r ON k.conrelid = r.oid WHERE %(writes)s
    UNION ALL
    SELECT k.conbin::text
    FROM pg_constraint k
    WHERE k.contypid IN (SELECT a.atttypid FROM pg_attribute a JOIN relations r ON a.attrelid = r.oid
                         UNION ALL
                         SELECT t.oid FROM pg_type t, words
                         WHERE t.typtype = 'd' AND position(lower(t.typname) IN words.text) > 0)
    UNION ALL
    SELECT concat(x.indexprs::text, x.indpred::text) FROM pg_index x JOIN relations r ON x.indrelid = r.oid
    WHERE %(writes)s
    UNION ALL
    SELECT t.tgqual::text FROM pg_trigger t JOIN relations r ON t.tgrelid = r.oid WHERE %(writes)s
),
used(oid) AS (
    SELECT p.oid
    FROM pg_proc p, words
    WHERE CASE WHEN p.proname ~ '^[A-Za-z0-9_$]+$' THEN lower(p.proname) = ANY (words.list)
               ELSE position(replace(lower(p.proname), '"', '""') IN words.text) > 0 END
    UNION
    SELECT m.found[1]::oid FROM trees, regexp_matches(tree, ':(?:funcid|opfuncid|aggfnoid|winfnoid) (\d+)', 'g') AS m(found)
    UNION
    SELECT o.oprcode FROM trees, regexp_matches(tree, ':opno (\d+)', 'g') AS m(found)
    JOIN pg_operator o ON o.oid = m.found[1]::oid
    UNION
    SELECT t.tgfoid FROM pg_trigger t JOIN relations r ON t.tgrelid = r.oid
    WHERE %(writes)s AND t.tgenabled <> 'D'  -- triggers cloned to partitions are marked internal before 15
    UNION
    SELECT o.oprcode FROM pg_operator o, words WHERE o.oid >= 16384 AND position(o.oprname IN words.text) > 0
    UNION
    SELECT k.castfunc FROM pg_cast k WHERE k.castfunc >= 16384
),
judged AS (
    SELECT p.oid, n.nspname || '.' || p.proname AS name, p.proname, p.provolatile, p.oid < 16384 AS of_server,
           EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
               AS of_extension
    FROM used u
    JOIN pg_proc p ON p.oid = u.oid
    JOIN pg_namespace n ON n.oid = p.pronamespace
)
SELECT DISTINCT name, CASE WHEN of_server AND proname = 'nextval' THEN 'sequence'
                           WHEN of_server OR (of_extension AND provolatile = 'v') THEN 'lasts' ELSE 'unknown' END AS effect
FROM judged
WHERE NOT (of_server AND proname ~ '^RI_FKey_')  -- foreign keys, whose tables are among the relations
  AND NOT ((of_server OR of_extension) AND (proname = ANY (%(harmless)s::text[]) OR provolatile = 'i'))
  -- only the server's own stable functions are trusted: those of extensions may run text as SQL, as crosstab does
  AND NOT (of_server AND provolatile = 's' AND proname !~ '_to_xml')
UNION
SELECT 'foreign table ' || n.nspname || '.' || c.relname, 'unknown'
FROM relations r
JOIN pg_class c ON c.oid = r.oid AND c.relkind = 'f'
JOIN pg_namespace n ON n.oid = c.relnamespace
UNION
SELECT 'the sequence of ' || n.nspname || '.' || c.relname || '.' || a.attname, 'sequence'
FROM relations r
JOIN pg_class c ON c.oid = r.oid
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attidentity <> ''
WHERE %(writes)s
ORDER BY 2, 1
