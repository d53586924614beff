-- Extensions that this role may not create here, in any version. Before 13 there are no trusted extensions.
SELECT DISTINCT name::text AS name
FROM pg_available_extension_versions
WHERE superuser AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
