-- Age of each database's oldest transaction ID and multixact ID, of 2^31; some millions before that, the server stops
-- assigning new ones. From autovacuum_freeze_max_age on, autovacuum freezes even if it is off, so a much higher age
-- means that it is held back.
SELECT datname::text AS database,
       age(datfrozenxid)::bigint AS transaction_age,
       mxid_age(datminmxid)::bigint AS multixact_age,
       greatest(age(datfrozenxid), mxid_age(datminmxid))::float8 / 2147483648 AS used_ratio,
       current_setting('autovacuum_freeze_max_age')::bigint AS forced_from_age
FROM pg_database
ORDER BY used_ratio DESC
