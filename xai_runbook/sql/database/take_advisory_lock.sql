-- Held until this session ends; excludes users of other journals, who do not share our lock files.
SELECT CASE WHEN %(shared)s THEN pg_try_advisory_lock_shared(%(key)s::bigint)
            ELSE pg_try_advisory_lock(%(key)s::bigint) END AS taken
