-- Position of a sequence. Snapshots do not cover sequences: this is always the newest value.
SELECT last_value::text || CASE WHEN is_called THEN '' ELSE ' (not called)' END AS position FROM {sequence}
