-- Where a sequence is. No snapshot covers it: it is always the newest value.
SELECT last_value::text || CASE WHEN is_called THEN '' ELSE ' (not called)' END AS position FROM {sequence}
