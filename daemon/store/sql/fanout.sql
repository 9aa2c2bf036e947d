-- name: fan_outs
-- The watched tables whose rows stand for many SKUs, with what `migrate` noted of their queries.
SELECT w.relation, w.name, w.skus, w.changed, w.keys FROM stockrelay.watch AS w WHERE w.skus IS NOT NULL ORDER BY w.name;

-- name: resolve
-- The SKUs that changed rows ($1: their columns, as JSON) stand for; $2 at most.
SELECT r.sku FROM stockrelay.resolved(@query@, $1::jsonb, $2) AS r (sku);

-- name: resolving
-- What the server runs for that.
SELECT DISTINCT s.sku::text AS sku FROM jsonb_to_recordset($1::jsonb) AS changed (@changed@), LATERAL (
@skus@
) AS s (sku) WHERE s.sku IS NOT NULL LIMIT $2;

-- name: sample
-- Some of the SKUs that some rows of the table @table@ stand for. Whole pages are sampled: about ten of them.
SELECT DISTINCT s.sku::text COLLATE "C" AS sku FROM (
    SELECT * FROM @table@ TABLESAMPLE SYSTEM (
        (SELECT least(100, 1000.0 / greatest(c.relpages, 1)) FROM pg_class AS c WHERE c.oid = $1::oid)) REPEATABLE (1)
    LIMIT 10) AS changed, LATERAL (
@skus@
) AS s (sku) WHERE s.sku IS NOT NULL LIMIT $2;

-- name: try
-- Prepared, never run: it says whether the query works over rows of the table @table@.
SELECT s.sku::text FROM @table@ AS changed, LATERAL (
@skus@
) AS s (sku);
