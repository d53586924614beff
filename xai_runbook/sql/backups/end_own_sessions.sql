-- End the sessions of the reader role and of xai-runbook apply in these databases, which reconnect by themselves.
SELECT pid, pg_terminate_backend(pid) AS ended
FROM pg_stat_activity
WHERE datname = ANY (%(names)s) AND pid <> pg_backend_pid()
  AND (usename = %(reader)s OR (usename = current_user AND application_name = 'xai-runbook apply'))
