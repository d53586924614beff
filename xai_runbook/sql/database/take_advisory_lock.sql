-- Held by this session until it ends; those who do not share our journal's folder meet here.
SELECT CASE WHEN %(shared)s THEN pg_try_advisory_lock_shared(%(key)s::bigint)
            ELSE pg_try_advisory_lock(%(key)s::bigint) END AS taken
