-- How far each database's oldest transaction and multixact are from the wall, at 2^31: the server stops to write some
-- millions before. autovacuum freezes by force from autovacuum_freeze_max_age on, so what is far above that is stuck.
SELECT datname::text AS database,
       age(datfrozenxid)::bigint AS transaction_age,
       mxid_age(datminmxid)::bigint AS multixact_age,
       greatest(age(datfrozenxid), mxid_age(datminmxid))::float8 / 2147483648 AS used_ratio,
       current_setting('autovacuum_freeze_max_age')::bigint AS forced_from_age
FROM pg_database
ORDER BY used_ratio DESC
