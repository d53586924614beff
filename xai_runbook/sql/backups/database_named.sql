-- The database of that name, and which backup the last line of its comment says it was restored from, of which other
-- server, without what.
SELECT oid::text AS oid, datname::text AS name, pg_get_userbyid(datdba)::text AS owner,
       coalesce(substring(told FROM '(?:^|\n)restored from ([^ \n]+)[^\n]*$'), '') AS restored_from,
       coalesce(substring(told FROM '(?:^|\n)restored from [^ \n]+ of server ([^ \n]+)[^\n]*$'), '') AS from_server,
       coalesce(substring(told FROM '(?:^|\n)restored from [^ \n]+(?: of server [^ \n]+)? without ([^\n]*)$'), '')
           AS without
FROM pg_database, shobj_description(oid, 'pg_database') AS told
WHERE datname = %(name)s
