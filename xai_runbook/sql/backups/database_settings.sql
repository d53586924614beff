-- Settings made by ALTER DATABASE SET (role is NULL) and ALTER ROLE IN DATABASE SET.
SELECT CASE WHEN s.setrole <> 0 THEN pg_get_userbyid(s.setrole)::text END AS role, u.setting
FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
CROSS JOIN LATERAL unnest(s.setconfig) WITH ORDINALITY u(setting, position)
WHERE d.datname = %(name)s
ORDER BY s.setrole, u.position
