-- Store the statement in a session variable, from which analyze_rolled_back.sql reads it.
SELECT set_config('xai_runbook.statement', %(statement)s, false) IS NOT NULL AS done
