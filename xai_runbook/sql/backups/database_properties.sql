-- Properties of a database that its dump does not contain. properties: every column of pg_database in this version.
SELECT pg_get_userbyid(d.datdba)::text AS owner,
       t.spcname::text AS tablespace,
       pg_encoding_to_char(d.encoding)::text AS encoding,
       shobj_description(d.oid, 'pg_database') AS comment,
       to_jsonb(d) AS properties
FROM pg_database d JOIN pg_tablespace t ON t.oid = d.dattablespace
WHERE d.datname = %(name)s
