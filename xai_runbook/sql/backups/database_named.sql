-- The database of that name. The last line of its comment says which backup it was restored from, of which other
-- server, and what was left out.
SELECT oid::text AS oid, datname::text AS name, pg_get_userbyid(datdba)::text AS owner,
       coalesce(substring(comment FROM '(?:^|\n)restored from ([^ \n]+)[^\n]*$'), '') AS restored_from,
       coalesce(substring(comment FROM '(?:^|\n)restored from [^ \n]+ of server ([^ \n]+)[^\n]*$'), '') AS from_server,
       coalesce(substring(comment FROM '(?:^|\n)restored from [^ \n]+(?: of server [^ \n]+)? without ([^\n]*)$'), '')
           AS without
FROM pg_database, shobj_description(oid, 'pg_database') AS comment
WHERE datname = %(name)s
