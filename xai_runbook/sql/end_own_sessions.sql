-- Ends our own sessions in these databases: they come back by themselves. Nobody else's.
SELECT pid, pg_terminate_backend(pid) AS ended
FROM pg_stat_activity
WHERE datname = ANY (%(names)s) AND pid <> pg_backend_pid() AND application_name IN ('xai-runbook', 'xai-runbook apply')
