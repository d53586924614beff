-- Raise an error unless the B-tree is ordered and has an entry for every row of its table (`true`). Takes ACCESS SHARE.
SELECT count(*) AS examined FROM (SELECT {schema}.bt_index_check(%(oid)s::oid::regclass, true)) AS done
