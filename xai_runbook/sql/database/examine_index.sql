-- Whether a B-tree is in order, and every row of its table has its entry in it (`true`): an error says what is wrong.
-- It takes the lock that a reader takes.
SELECT count(*) AS examined FROM (SELECT {schema}.bt_index_check(%(oid)s::oid::regclass, true)) AS done
