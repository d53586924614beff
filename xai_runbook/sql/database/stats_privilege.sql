-- Whether this role sees other roles' sessions. Otherwise their texts and types are hidden, and only our own are
-- counted.
SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') AS reads_all_stats
