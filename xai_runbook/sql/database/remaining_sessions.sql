-- How many of these sessions, given as "PID START", still exist.
SELECT count(*) AS left_count
FROM pg_stat_activity
WHERE pid::text || ' ' || to_char(backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')
      = ANY (%(sessions)s::text[])
