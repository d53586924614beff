-- The statement as a text of this session, where the next one finds it: it is pasted into nothing.
SELECT set_config('xai_runbook.statement', %(statement)s, false) IS NOT NULL AS done
