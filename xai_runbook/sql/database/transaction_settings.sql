-- For pooled sessions: the settings of a direct connection, for this transaction only.
SELECT set_config('transaction_read_only', 'on', true),
       set_config('statement_timeout', %(milliseconds)s::text, true),
       set_config('idle_in_transaction_session_timeout', %(milliseconds)s::text, true),
       set_config('lock_timeout', '1000', true),
       set_config('search_path', 'pg_catalog', true),
       set_config('TimeZone', 'UTC', true)
