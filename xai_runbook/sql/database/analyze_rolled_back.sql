-- Run EXPLAIN ANALYZE of the stored statement, raise its lines as notices, and roll everything back.
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
