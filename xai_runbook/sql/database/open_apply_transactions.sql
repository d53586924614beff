-- How many sessions of an apply are idle in a transaction.
SELECT count(*) AS open_count
FROM pg_stat_activity
WHERE application_name = 'xai-runbook apply' AND datname = current_database() AND state LIKE 'idle in transaction%'
