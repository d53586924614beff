-- Privileges on that database, including those of its owner; NULL is PUBLIC.
SELECT CASE WHEN a.grantee <> 0 THEN pg_get_userbyid(a.grantee)::text END AS grantee,
       a.privilege_type AS privilege,
       a.is_grantable AND a.grantee <> d.datdba AS grantable  -- an owner can always grant
FROM pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) WITH ORDINALITY a(grantor, grantee, privilege_type, is_grantable, position)
WHERE d.datname = %(name)s
ORDER BY a.position
