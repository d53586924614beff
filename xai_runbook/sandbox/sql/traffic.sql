-- Typical statements of explorers and wallets, to fill pg_stat_statements. Run many times as the application.
-- One statement per line; %(n)s is the number of the round.
SELECT height, hash, mined_at, transaction_count FROM blocks ORDER BY height DESC LIMIT 20
SELECT * FROM blocks WHERE height = %(tip)s - %(n)s
SELECT id, amount, fee, created_at FROM transactions WHERE block_height = %(tip)s - %(n)s ORDER BY position
SELECT sum(amount) FROM utxos WHERE spent_by IS NULL AND address = (SELECT address FROM wallets OFFSET %(n)s LIMIT 1)
SELECT t.id, t.amount, b.mined_at FROM transactions AS t JOIN blocks AS b ON b.height = t.block_height WHERE t.receiver = (SELECT address FROM wallets OFFSET %(n)s LIMIT 1) ORDER BY t.created_at DESC LIMIT 50
UPDATE wallets SET balance = balance WHERE address = (SELECT address FROM wallets OFFSET %(n)s LIMIT 1)
SELECT date_trunc('minute', mined_at) AS minute, count(*), avg(size_bytes) FROM blocks WHERE mined_at > now() - interval '1 hour' GROUP BY 1 ORDER BY 1
