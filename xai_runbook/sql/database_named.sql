-- The database of that name, and which backup it says it was restored from, of which other server, without what.
SELECT oid::text AS oid, datname::text AS name, pg_get_userbyid(datdba)::text AS owner,
       coalesce(substring(told FROM '^restored from ([^ ]+)'), '') AS restored_from,
       coalesce(substring(told FROM '^restored from [^ ]+ of server ([^ ]+)'), '') AS from_server,
       coalesce(substring(told FROM '^restored from [^ ]+(?: of server [^ ]+)? without (.*)$'), '')
           AS without
FROM pg_database, shobj_description(oid, 'pg_database') AS told
WHERE datname = %(name)s
