-- Runs the statement that is kept, tells the plan with its real times line by line, and rolls back all it did.
DO $$
DECLARE
    line text;
BEGIN
    FOR line IN EXECUTE 'EXPLAIN (ANALYZE, BUFFERS) ' || current_setting('xai_runbook.statement') LOOP
        RAISE NOTICE '%%', line;
    END LOOP;
    RAISE EXCEPTION USING ERRCODE = 'XAI01', MESSAGE = 'rolled back';
EXCEPTION WHEN SQLSTATE 'XAI01' THEN
    NULL;
END $$
