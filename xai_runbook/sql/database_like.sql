-- What a database has that its dump has not: owner and locale.
SELECT pg_get_userbyid(datdba)::text AS owner, datcollate::text AS collation, datctype::text AS ctype
FROM pg_database WHERE datname = current_database()
