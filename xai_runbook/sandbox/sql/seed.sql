-- More than two hours of blocks before the nodes' start, ending now. Run as the owner.
-- The caller sets xai.start_height. All values are hashes of the height, so the rows are the same each time.
INSERT INTO wallets (address, created_at, label)
SELECT 'XAI' || left(encode(sha256(convert_to('wallet ' || n, 'UTF8')), 'hex'), 40),
       now() - interval '400 days' + n * interval '5 hours',
       CASE WHEN n <= 3 THEN 'miner of node-' || n WHEN n % 97 = 0 THEN 'exchange ' || n END
FROM generate_series(1, 1500) AS n;

INSERT INTO blocks (height, hash, previous_hash, mined_at, miner, difficulty, transaction_count, size_bytes)
SELECT h,
       encode(sha256(convert_to('xai-sandbox block ' || h, 'UTF8')), 'hex'),
       encode(sha256(convert_to('xai-sandbox block ' || h - 1, 'UTF8')), 'hex'),
       now() - (current_setting('xai.start_height')::bigint - h) * interval '1.2 seconds',
       'XAI' || left(encode(sha256(convert_to('wallet ' || 1 + h % 3, 'UTF8')), 'hex'), 40),
       48000 + (h % 2016) * 3,
       1 + (h * 7919 % 5)::integer,
       420 + (1 + h * 7919 % 5)::integer * 310
FROM generate_series(current_setting('xai.start_height')::bigint - 7199, current_setting('xai.start_height')::bigint) AS h;

INSERT INTO transactions (id, block_height, position, kind, sender, receiver, amount, fee, created_at)
SELECT encode(sha256(convert_to('transaction ' || b.height || ' ' || p, 'UTF8')), 'hex'),
       b.height,
       p,
       CASE p WHEN 0 THEN 'coinbase' ELSE 'transfer' END,
       CASE WHEN p > 0 THEN 'XAI' || left(encode(sha256(convert_to('wallet ' || 1 + (b.height * 31 + p * 17) % 1500, 'UTF8')), 'hex'), 40) END,
       CASE p WHEN 0 THEN b.miner ELSE 'XAI' || left(encode(sha256(convert_to('wallet ' || 1 + (b.height * 13 + p * 101) % 1500, 'UTF8')), 'hex'), 40) END,
       CASE p WHEN 0 THEN 12.5 ELSE 0.01 + (b.height * 104729 + p * 1299709) % 250000 / 10000.0 END,
       CASE p WHEN 0 THEN 0 ELSE 0.0005 + b.height % 40 / 100000.0 END,
       b.mined_at - CASE p WHEN 0 THEN interval '0' ELSE p * interval '190 milliseconds' END
FROM blocks AS b CROSS JOIN LATERAL generate_series(0, b.transaction_count - 1) AS p;

-- One output per transaction; some are spent by a later transaction, so that spent and unspent outputs exist.
INSERT INTO utxos (transaction_id, output_index, address, amount, spent_by)
SELECT t.id, 0, t.receiver, t.amount,
       CASE WHEN t.block_height % 5 < 2 THEN later.id END
FROM transactions AS t
LEFT JOIN transactions AS later ON later.block_height = t.block_height + 60 AND later.position = 1;

UPDATE wallets SET balance = unspent.amount
FROM (SELECT address, sum(amount) AS amount FROM utxos WHERE spent_by IS NULL GROUP BY address) AS unspent
WHERE wallets.address = unspent.address;
