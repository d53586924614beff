-- Free connection slots for ordinary clients, and whether this session took a reserved one. reserved_connections exists
-- since 16; before that an ordinary role never gets a reserved slot.
SELECT pg_is_in_recovery() AS in_recovery,
       usable - used AS slots_free,
       used > usable AS used_reserved_slot
FROM (SELECT count(*) AS used,
             current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
                 - coalesce(current_setting('reserved_connections', true), '0')::int AS usable
      FROM pg_stat_activity
      WHERE backend_type = 'client backend') AS slots
