-- ALTER DATABASE SET, with NULL for the role, and ALTER ROLE IN DATABASE SET.
SELECT CASE WHEN s.setrole <> 0 THEN pg_get_userbyid(s.setrole)::text END AS role, u.setting
FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
CROSS JOIN LATERAL unnest(s.setconfig) WITH ORDINALITY u(setting, place)
WHERE d.datname = %(name)s
ORDER BY s.setrole, u.place
