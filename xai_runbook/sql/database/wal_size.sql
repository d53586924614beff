-- The WAL, which no database's size counts. It is asked apart: a host of servers may let nobody list its files.
SELECT 'WAL' AS name,
       'wal' AS kind,
       sum(size)::bigint AS size_bytes
FROM pg_ls_waldir()
