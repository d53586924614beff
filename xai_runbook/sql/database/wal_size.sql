-- Size of the WAL, which is part of no database. A query of its own, since managed servers may forbid pg_ls_waldir.
SELECT 'WAL' AS name,
       'wal' AS kind,
       sum(size)::bigint AS size_bytes
FROM pg_ls_waldir()
