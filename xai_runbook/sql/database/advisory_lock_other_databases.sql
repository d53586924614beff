-- Count the sessions in other databases of this server that hold the same advisory lock in a conflicting mode.
SELECT count(*) AS holders_count
FROM pg_locks
WHERE locktype = 'advisory' AND objsubid = 1 AND granted AND pid <> pg_backend_pid()
  AND database <> (SELECT oid FROM pg_database WHERE datname = current_database())
  AND classid::bigint = (%(key)s::bigint >> 32) & 4294967295
  AND objid::bigint = %(key)s::bigint & 4294967295
  AND (mode = 'ExclusiveLock' OR NOT %(shared)s)
