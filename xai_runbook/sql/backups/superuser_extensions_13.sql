-- Extensions that this role may not create here: they are not trusted, and the role is not a superuser.
SELECT name::text AS name
FROM pg_available_extension_versions
WHERE NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
GROUP BY name
HAVING bool_and(superuser AND NOT trusted)
