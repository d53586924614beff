-- Properties of that database that the role cannot set on another one, or that nobody can. setting: the name of a
-- parameter, with the role it is for. Before 15 only superusers may set parameters that require a superuser.
WITH me AS (
    SELECT oid, rolsuper, rolcreaterole FROM pg_roles WHERE rolname = %(role)s
), db AS (
    SELECT * FROM pg_database WHERE datname = %(name)s
), settings AS (
    SELECT s.setrole, r.rolname, coalesce(r.rolsuper, false) AS of_superuser, split_part(u.setting, '=', 1) AS name
    FROM pg_db_role_setting s JOIN db ON db.oid = s.setdatabase LEFT JOIN pg_roles r ON r.oid = s.setrole
    CROSS JOIN LATERAL unnest(s.setconfig) u(setting)
)
SELECT s.rolname::text AS role, s.name AS setting,
       'setting ' || s.name || coalesce(' of role ' || s.rolname, '') || ', which ' || %(role)s || ' may not set' AS what
FROM settings s, me
WHERE NOT me.rolsuper AND (
    -- for another role this needs CREATEROLE, and since 16 ADMIN on that role
    (s.setrole NOT IN (0, me.oid) AND (NOT me.rolcreaterole OR s.of_superuser
        OR current_setting('server_version_num')::int >= 160000
           AND NOT pg_has_role(me.oid, s.setrole, 'MEMBER WITH ADMIN OPTION')))
    OR NOT me.rolsuper AND NOT EXISTS (
        SELECT FROM pg_settings p WHERE p.name = s.name AND p.context NOT IN ('superuser', 'superuser-backend')))
UNION ALL
SELECT NULL, NULL, 'tablespace ' || t.spcname || ', in which ' || %(role)s || ' may not create'
FROM db JOIN pg_tablespace t ON t.oid = db.dattablespace, me
WHERE t.spcname <> 'pg_default' AND NOT has_tablespace_privilege(me.oid, t.oid, 'CREATE')
UNION ALL
SELECT NULL, NULL, 'tablespace ' || t.spcname || ' of ' || count(*)
    || ' tables and indexes, which move to the default tablespace of the database'
FROM pg_class c JOIN pg_tablespace t ON t.oid = c.reltablespace, db
WHERE db.datname = current_database() AND t.spcname <> 'pg_global'
GROUP BY t.spcname
UNION ALL
SELECT NULL, NULL, 'the security label of provider ' || l.provider || ', which only that provider can set'
FROM pg_shseclabel l JOIN db ON l.classoid = 'pg_database'::regclass AND l.objoid = db.oid
UNION ALL
SELECT NULL, NULL, 'replication slot ' || s.slot_name || ', which stays with the old database'
FROM pg_replication_slots s JOIN db ON s.database = db.datname
UNION ALL
SELECT NULL, NULL, 'subscription ' || s.subname || ', which stays active in the old database'
FROM pg_subscription s JOIN db ON s.subdbid = db.oid
UNION ALL
SELECT NULL, NULL, 'the grantor of a privilege of ' || coalesce(pg_get_userbyid(a.grantee)::text, 'PUBLIC')
    || ': the owner grants it instead'
FROM db, aclexplode(db.datacl) a
WHERE a.grantor <> db.datdba
ORDER BY what
