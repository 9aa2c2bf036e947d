-- name: log
-- Notes an operation; $9: the one whose end this tells, or NULL.
SELECT stockrelay.log_operation($1, $2, $3, $4, $5, $6, $7, $8, $9);

-- name: trim
-- Deletes what is past its keeping.
SELECT stockrelay.trim_operations($1);

-- name: recent
-- The last operations ($3 of them) of any channel, or of one ($1); with a SKU ($2), those that named it or no SKU at all.
SELECT o.at, o.operator, o.origin, o.action, o.channel, o.skus, o.sku_count, o.reason, coalesce(e.outcome, o.outcome) AS outcome
FROM stockrelay.operation AS o LEFT JOIN LATERAL (
    SELECT f.outcome FROM stockrelay.operation AS f WHERE f.ends = o.id ORDER BY f.id DESC LIMIT 1
) AS e ON true
WHERE o.ends IS NULL AND ($1::text IS NULL OR o.channel = $1) AND ($2::text IS NULL OR $2 = ANY (o.skus) OR o.skus = '{}')
ORDER BY o.id DESC LIMIT $3;
