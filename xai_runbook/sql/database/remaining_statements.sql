-- How many of these statements, given as "PID START STATEMENT_START", are still running.
SELECT count(*) AS left_count
FROM pg_stat_activity
WHERE state = 'active'
  AND pid::text || ' ' || to_char(backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')
      || ' ' || to_char(query_start AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')
      = ANY (%(statements)s::text[])
