-- ALTER DATABASE SET, for all roles.
SELECT unnest(s.setconfig) AS setting
FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
WHERE d.datname = current_database() AND s.setrole = 0
