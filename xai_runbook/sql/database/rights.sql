-- Whether this role sees what others do. Without it texts and kinds of other sessions are hidden, and a count of client
-- backends finds only our own.
SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') AS reads_all_stats
