-- How large all databases of this cluster are on disk.
SELECT sum(pg_database_size(oid))::bigint AS cluster_bytes FROM pg_database
