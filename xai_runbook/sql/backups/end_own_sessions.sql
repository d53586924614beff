-- Ends the sessions of the reading role, and our own, in these databases: they come back by themselves. Nobody else's.
SELECT pid, pg_terminate_backend(pid) AS ended
FROM pg_stat_activity
WHERE datname = ANY (%(names)s) AND pid <> pg_backend_pid()
  AND (usename = %(reader)s OR (usename = current_user AND application_name = 'xai-runbook apply'))
