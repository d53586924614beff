-- The transactions that wrote anything (only those get a number), newest first, from the last that has ended back.
-- Savepoints have numbers too.
-- committed_at is kept where track_commit_timestamp is on.
WITH newest AS (
    SELECT txid_snapshot_xmax(txid_current_snapshot()) AS next
)
SELECT x.xid,
       txid_status(x.xid) AS status,
       CASE WHEN current_setting('track_commit_timestamp') = 'on' AND txid_status(x.xid) = 'committed'
            THEN pg_xact_commit_timestamp((x.xid %% 4294967296)::text::xid) END AS committed_at
FROM newest, generate_series(newest.next - 1, greatest(newest.next - %(most)s, 3), -1) AS x(xid)
ORDER BY x.xid DESC
