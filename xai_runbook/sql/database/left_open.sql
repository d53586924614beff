-- How many sessions of an apply are in a transaction and do nothing there.
SELECT count(*) AS left_count
FROM pg_stat_activity
WHERE application_name = 'xai-runbook apply' AND datname = current_database() AND state LIKE 'idle in transaction%'
