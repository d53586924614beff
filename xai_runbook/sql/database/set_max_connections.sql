-- Written to postgresql.auto.conf; effective from the next restart.
ALTER SYSTEM SET max_connections = {value}
