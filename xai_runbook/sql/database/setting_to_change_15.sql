-- As setting_to_change.sql; since 15 the privilege to change a setting can be granted.
SELECT s.name,
       s.setting AS value,
       s.source,
       s.context,
       s.min_val,
       s.max_val,
       s.pending_restart,
       pg_conf_load_time() AS loaded_at,
       coalesce((SELECT has_parameter_privilege(oid, s.name, 'ALTER SYSTEM')
                 FROM pg_roles WHERE rolname = %(operator)s), false) AS may_alter,
       coalesce((SELECT has_function_privilege(oid, 'pg_reload_conf()', 'EXECUTE')
                 FROM pg_roles WHERE rolname = %(operator)s), false) AS may_reload,
       EXISTS (SELECT FROM pg_settings WHERE name LIKE 'rds.%%') AS provider
FROM pg_settings s
WHERE s.name = %(name)s
