-- The current value of a setting, and whether the operator role may change it (before 15 only a superuser may) and
-- reload the configuration. provider: on a managed server settings are in a parameter group.
SELECT s.name,
       s.setting AS value,
       s.source,
       s.context,
       s.min_val,
       s.max_val,
       s.pending_restart,
       pg_conf_load_time() AS loaded_at,
       coalesce((SELECT rolsuper FROM pg_roles WHERE rolname = %(operator)s), false) AS may_alter,
       coalesce((SELECT has_function_privilege(oid, 'pg_reload_conf()', 'EXECUTE')
                 FROM pg_roles WHERE rolname = %(operator)s), false) AS may_reload,
       EXISTS (SELECT FROM pg_settings WHERE name LIKE 'rds.%%') AS provider
FROM pg_settings s
WHERE s.name = %(name)s
