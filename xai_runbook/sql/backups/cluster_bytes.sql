-- Size of all databases of this cluster on disk.
SELECT sum(pg_database_size(oid))::bigint AS cluster_bytes FROM pg_database
