-- The newest transaction IDs, from the newest that has ended backwards. Only writing transactions and their savepoints
-- have one. committed_at is NULL unless track_commit_timestamp is on.
WITH newest AS (
    SELECT txid_snapshot_xmax(txid_current_snapshot()) AS next
)
SELECT x.xid,
       txid_status(x.xid) AS status,
       CASE WHEN current_setting('track_commit_timestamp') = 'on' AND txid_status(x.xid) = 'committed'
            THEN pg_xact_commit_timestamp((x.xid %% 4294967296)::text::xid) END AS committed_at
FROM newest, generate_series(newest.next - 1, greatest(newest.next - %(max_rows)s, 3), -1) AS x(xid)
ORDER BY x.xid DESC
