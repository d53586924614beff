-- The database of that name, and which backup it says it was restored from.
SELECT oid::text AS oid, datname::text AS name, pg_get_userbyid(datdba)::text AS owner,
       substring(shobj_description(oid, 'pg_database') FROM '^restored from (.*)$') AS restored_from
FROM pg_database WHERE datname = %(name)s
