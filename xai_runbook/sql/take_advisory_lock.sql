-- Held by this session until it ends; those who do not share our journal's folder meet here.
SELECT pg_try_advisory_lock(%(key)s::bigint) AS taken
