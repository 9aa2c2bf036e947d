-- name: begins
-- Since when attempts and readings of a channel are kept. A day of attempts is kept or dropped as a whole (UTC).
SELECT (SELECT min(c.day) FROM stockrelay.attempt_chain AS c WHERE starts_with(c.chain, $1 || '/'))::timestamp AT TIME ZONE 'UTC' AS attempts,
       (SELECT min(r.at) FROM stockrelay.reading AS r WHERE r.channel = $1) AS readings, clock_timestamp() AS now;

-- name: attempts_until
-- The attempts of a SKU that were claimed until $3, the newest first.
SELECT a.at, a.attempt_id, coalesce(a.identifiers, '{}') AS identifiers, a.quantity, a.outcome, a.reason,
       a.duration_ms::float8 AS duration_ms, a.since
FROM stockrelay.attempt AS a WHERE a.channel = $1 AND a.sku = $2 AND a.at <= $3 ORDER BY a.at DESC, a.attempt_id DESC LIMIT $4;

-- name: attempts_after
-- The attempts of a SKU that were claimed after $3, the oldest first.
SELECT a.at, a.attempt_id, coalesce(a.identifiers, '{}') AS identifiers, a.quantity, a.outcome, a.reason,
       a.duration_ms::float8 AS duration_ms, a.since
FROM stockrelay.attempt AS a WHERE a.channel = $1 AND a.sku = $2 AND a.at > $3 ORDER BY a.at, a.attempt_id LIMIT $4;

-- name: logged_at
-- When the outcome of attempt $3 was written, which was claimed at $2.
SELECT b.logged_at FROM stockrelay.attempt_batch AS b
WHERE b.day = ($2::timestamptz AT TIME ZONE 'UTC')::date AND starts_with(b.chain, $1 || '/') AND $3::bigint = ANY (b.attempts);

-- name: reading_until
-- The last recorded reading of a SKU from $4 until $3. $4 is the last attempt before: what it sent had been read.
SELECT r.at, r.quantities[p.place] AS quantity, r.listed_rows[p.place] AS listed_rows
FROM stockrelay.reading AS r CROSS JOIN LATERAL (SELECT array_position(r.skus, $2) AS place) AS p
WHERE r.channel = $1 AND r.at <= $3 AND r.at >= coalesce($4::timestamptz, '-infinity') AND p.place IS NOT NULL
ORDER BY r.at DESC LIMIT 1;

-- name: reading_after
-- The first recorded reading of a SKU after $3, until $4.
SELECT r.at, r.quantities[p.place] AS quantity, r.listed_rows[p.place] AS listed_rows
FROM stockrelay.reading AS r CROSS JOIN LATERAL (SELECT array_position(r.skus, $2) AS place) AS p
WHERE r.channel = $1 AND r.at > $3 AND r.at <= coalesce($4::timestamptz, 'infinity') AND p.place IS NOT NULL
ORDER BY r.at LIMIT 1;
