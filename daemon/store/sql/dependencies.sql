-- name: held
-- The relations that this transaction has locked, which are all that a statement has read, also in views and functions; why no
-- trigger sees changes of them (`unseen`), and the watches that do (`watches`). $1: relations that need not be watched. A
-- table is watched by itself, by its parent, or as a parent whose rows are in watched parts.
WITH RECURSIVE held AS (
    SELECT c.oid, c.relkind, format('%I.%I', n.nspname, c.relname) AS name
    FROM (SELECT DISTINCT l.relation FROM pg_locks AS l
          WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation'
          AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())) AS k
    JOIN pg_class AS c ON c.oid = k.relation AND c.relkind IN ('r', 'p', 'm', 'f') AND c.relpersistence <> 't'
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'stockrelay')
), watched (name, id) AS (
    SELECT w.name, w.relation FROM stockrelay.watch AS w
    UNION SELECT t.name, i.inhrelid FROM pg_inherits AS i JOIN watched AS t ON i.inhparent = t.id
), parts (root, id) AS (
    SELECT h.oid, h.oid FROM held AS h WHERE h.relkind IN ('r', 'p')
    UNION SELECT p.root, i.inhrelid FROM pg_inherits AS i JOIN parts AS p ON i.inhparent = p.id
), bare AS (
    -- Parts that hold rows and are not watched; a partitioned table holds none itself.
    SELECT DISTINCT p.root FROM parts AS p JOIN pg_class AS c ON c.oid = p.id AND c.relkind <> 'p'
    WHERE p.id NOT IN (SELECT w.id FROM watched AS w)
)
SELECT h.name, CASE
    WHEN h.oid = ANY (ARRAY(SELECT to_regclass(a.name) FROM unnest($1::text[]) AS a (name))) THEN NULL
    -- Its refreshes write to a table that a fan-out watches.
    WHEN h.relkind = 'm' AND EXISTS (SELECT FROM stockrelay.watch AS w WHERE h.oid = ANY (w.reads)) THEN NULL
    WHEN h.relkind = 'm' THEN 'materialized'
    WHEN h.relkind = 'f' THEN 'foreign'
    -- Parts are reported with the parent that the listing names; watched tables of a subscription by `subscribed`.
    WHEN h.oid NOT IN (SELECT b.root FROM bare AS b)
        OR EXISTS (SELECT FROM pg_inherits AS i JOIN held AS o ON o.oid = i.inhparent WHERE i.inhrelid = h.oid) THEN NULL
    WHEN EXISTS (SELECT FROM pg_subscription_rel AS s JOIN parts AS p ON p.id = s.srrelid WHERE p.root = h.oid)
        THEN 'subscribed'
    ELSE 'unwatched' END AS unseen,
    ARRAY(SELECT w.name FROM watched AS w WHERE w.id = h.oid) AS watches
FROM held AS h ORDER BY h.name;

-- name: begin_looking
-- A SKU of the channel whose row can be read, to read its listing for. A stalled process must not keep the ERP's tables
-- locked, and locked tables are not waited for.
SELECT set_config('idle_in_transaction_session_timeout', '700ms', true), set_config('lock_timeout', '500ms', true),
       (SELECT d.sku FROM stockrelay.ledger AS d WHERE d.channel = $1 AND d.listed_rows = 1
        AND d.parked_at IS NULL LIMIT 1) AS sku;

-- name: subscribed
-- The watched tables whose rows, or those of a part, come from a subscription. $1: as above.
WITH RECURSIVE tree (root, id) AS (
    SELECT w.relation, w.relation FROM stockrelay.watch AS w
    UNION SELECT t.root, i.inhrelid FROM pg_inherits AS i JOIN tree AS t ON i.inhparent = t.id
)
SELECT w.name FROM stockrelay.watch AS w
WHERE EXISTS (SELECT FROM tree AS t JOIN pg_subscription_rel AS s ON s.srrelid = t.id WHERE t.root = w.relation)
AND w.relation <> ALL (ARRAY(SELECT coalesce(to_regclass(a.name)::oid, 0) FROM unnest($1::text[]) AS a (name)))
ORDER BY w.name;

-- name: spellings
-- How the last changes spell SKUs: for each watched table how many of them are in the ledger of a channel ($1) and how many
-- are not, an example of the latter, and one that is spelled almost like a listed SKU; the table (`relation`) and its SKU
-- expression. Nothing while the ledger is empty. Spellings are tried one by one, since the index finds whole SKUs only.
WITH recent AS (
    SELECT c.relation, c.sku, c.at FROM stockrelay.change AS c ORDER BY c.xid DESC LIMIT 10000
), seen AS (
    SELECT DISTINCT r.relation, r.sku FROM recent AS r
    WHERE r.relation IS NOT NULL AND r.sku >= ' ' AND r.at > clock_timestamp() - interval '15 minutes'
), judged AS (
    SELECT s.relation, s.sku, EXISTS (
        SELECT FROM stockrelay.ledger AS d WHERE d.channel = ANY ($1::text[]) AND d.sku = s.sku) AS is_known
    FROM seen AS s
), counted AS (
    SELECT j.relation, count(*) FILTER (WHERE j.is_known) AS known, count(*) FILTER (WHERE NOT j.is_known) AS unknown,
           min(j.sku) FILTER (WHERE NOT j.is_known) AS example
    FROM judged AS j GROUP BY j.relation
), unknown AS (
    SELECT x.* FROM (SELECT j.relation, j.sku, row_number() OVER (PARTITION BY j.relation ORDER BY j.sku) AS place
                     FROM judged AS j WHERE NOT j.is_known) AS x WHERE x.place <= 200
), alike AS (
    SELECT DISTINCT ON (u.relation) u.relation, u.sku, d.sku AS listed
    FROM unknown AS u
    CROSS JOIN LATERAL (
        SELECT lower(u.sku) UNION SELECT upper(u.sku) UNION SELECT btrim(u.sku) UNION SELECT u.sku || ' '
        UNION SELECT ' ' || u.sku UNION SELECT ltrim(btrim(u.sku), '0')
        UNION SELECT lpad(u.sku, n, '0') FROM generate_series(length(u.sku) + 1, least(length(u.sku) + 8, 20)) AS n
    ) AS v (spelling)
    JOIN stockrelay.ledger AS d ON d.channel = ANY ($1::text[]) AND d.sku = v.spelling
    ORDER BY u.relation, u.sku
)
SELECT w.name, c.known, c.unknown, c.example, a.sku AS alike, a.listed, w.sku,
       format('%I.%I', n.nspname, t.relname) AS relation
FROM counted AS c JOIN stockrelay.watch AS w ON w.relation = c.relation
JOIN pg_class AS t ON t.oid = w.relation JOIN pg_namespace AS n ON n.oid = t.relnamespace
LEFT JOIN alike AS a ON a.relation = c.relation
WHERE EXISTS (SELECT FROM stockrelay.ledger AS d WHERE d.channel = ANY ($1::text[]))
ORDER BY w.name;

-- name: has_listed
-- Whether some rows of a watched table, from all over it, have SKUs of the channel's listing, as the ledger knows them.
SELECT EXISTS (
    SELECT FROM (
        SELECT (@sku@)::text COLLATE "C" AS sku FROM @table@ TABLESAMPLE SYSTEM (
            (SELECT least(100, 100000 / greatest(c.reltuples, 1)) FROM pg_class AS c WHERE c.oid = to_regclass($2)))
        LIMIT 200000) AS x
    JOIN stockrelay.ledger AS d ON d.channel = $1 AND d.sku = x.sku AND d.listed_rows > 0) AS has_listed;

-- name: fan_outs
-- The watched tables that are there, whose rows stand for many SKUs.
SELECT w.name, w.skus, format('%I.%I', n.nspname, c.relname) AS relation
FROM stockrelay.watch AS w JOIN pg_class AS c ON c.oid = w.relation JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE w.skus IS NOT NULL ORDER BY w.name;
