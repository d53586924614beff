-- Written to postgresql.auto.conf; it holds from the next restart on.
ALTER SYSTEM SET max_connections = {value}
