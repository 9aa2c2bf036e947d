-- name: now
-- The database's time.
SELECT clock_timestamp();

-- name: ledger_row
-- What the ledger holds of one SKU.
SELECT d.*, coalesce(d.due_at = 'infinity', false) AS is_shadowed FROM stockrelay.ledger AS d WHERE d.channel = $1 AND d.sku = $2;

-- name: listing_rows
-- The rows of the operator's query for one SKU, at most $2.
SELECT row_to_json(stockrelay_row)::text AS row FROM (
@listing@
) AS stockrelay_row WHERE stockrelay_row.sku::text = $1 LIMIT $2;

-- name: last_attempts
-- The last attempts of one SKU, the newest first, without one that is in flight.
SELECT a.at, a.attempt_id, coalesce(a.identifiers, '{}') AS identifiers, a.quantity, a.outcome, a.reason, a.duration_ms::float8 AS duration_ms
FROM stockrelay.attempt AS a WHERE a.channel = $1 AND a.sku = $2 ORDER BY a.at DESC, a.attempt_id DESC LIMIT $3;

-- name: differences
-- The reconcile differences of one SKU, the newest first. One that is not listed goes by the marketplace's identifier.
SELECT d.class AS kind, d.last_status AS status, d.ours, d.theirs, d.first_seen, d.last_seen, d.times_seen, d.state = 'open' AS is_open
FROM stockrelay.difference AS d WHERE d.channel = $1 AND d.sku = $2 ORDER BY d.last_seen DESC;

-- name: open_differences
-- The open reconcile differences of some channels, the last seen first.
SELECT d.channel, d.sku, d.class AS kind, d.last_status AS status, d.ours, d.theirs, d.first_seen, d.last_seen, d.times_seen,
       true AS is_open
FROM stockrelay.difference AS d WHERE d.channel = ANY ($1::text[]) AND d.state = 'open'
ORDER BY d.last_seen DESC, d.channel, d.sku LIMIT $2;

-- name: twins
-- Other listed SKUs with identifiers $3, the first by name, and what was sent for them under these.
SELECT d.sku, d.listed_quantity AS quantity, CASE WHEN d.identifiers = $3 THEN d.acked_quantity END AS acked_quantity,
       CASE WHEN d.identifiers = $3 THEN d.acked_at END AS acked_at,
       d.identifiers = $3 AND (d.attempt_id IS NOT NULL OR d.doubt_at IS NOT NULL) IS TRUE AS is_unclear, d.parked_reason
FROM stockrelay.ledger AS d
WHERE d.channel = $1 AND d.sku <> $2 AND d.listed_rows > 0 AND d.listed_identifiers = $3
AND hash_array_extended(d.listed_identifiers, 0) = hash_array_extended($3::text[], 0)
AND array_position($3, NULL) IS NULL AND array_position($3, '') IS NULL
ORDER BY d.sku COLLATE "C" LIMIT $4;

-- name: intake
-- The database's time; when everything was compared; and whether channel $2 has still to read the SKU in the change log, by
-- name or possibly by a fan-out. A channel without a position has everything to read.
SELECT clock_timestamp() AS now, p.resynced_at, p.channel IS NULL AS is_first_reading, p.channel IS NULL
       OR EXISTS (SELECT FROM stockrelay.unread(p.read_until) AS u WHERE u.sku = $1 OR u.sku IS NULL
                  OR starts_with(u.sku, E'\x02'))
       OR stockrelay.is_asked(p.read_until) AS is_unread
FROM (SELECT) AS one LEFT JOIN stockrelay.read_position AS p ON p.channel = $2;

-- name: sold_as
-- The SKUs that the ledger knows by this first identifier, as sent last or as listed.
SELECT DISTINCT d.sku FROM stockrelay.ledger AS d
WHERE d.channel = $1 AND (d.identifiers[1] = $2 OR d.listed_identifiers[1] = $2) ORDER BY d.sku LIMIT $3;

-- name: listed_as
-- The SKUs that the listing has under this first identifier.
SELECT DISTINCT l.sku::text AS sku FROM (
@listing@
) AS l WHERE l.sku IS NOT NULL AND (l.@identifier@)::text = $1 ORDER BY 1 LIMIT $2;

-- name: near_in_ledger
-- SKUs of the ledger that may have been meant; see `near`.
SELECT d.sku FROM stockrelay.ledger AS d WHERE d.channel = $3

-- name: near_in_listing
-- SKUs of the listing that may have been meant; see `near`. ($3 is the channel; the query has its own.)
SELECT l.sku::text FROM (
@listing@
) AS l WHERE $3::text IS NOT NULL

-- name: near
-- SKUs that share half of their letters and digits, at the beginning or the end, with $1; the best first.
WITH asked AS (
    SELECT w.word, greatest(2, length(w.word) / 2) AS half
    FROM (SELECT translate(lower($1::text), ' -_./', '') AS word) AS w
)
SELECT k.sku
FROM (SELECT DISTINCT s.sku, translate(lower(s.sku), ' -_./', '') AS word FROM (
@source@
) AS s (sku) WHERE s.sku IS NOT NULL) AS k, asked AS a
WHERE left(k.word, a.half) = left(a.word, a.half) OR right(k.word, a.half) = right(a.word, a.half)
ORDER BY k.word <> a.word, NOT starts_with(k.word, a.word), NOT starts_with(a.word, k.word),
         left(k.word, -1) <> left(a.word, -1), right(k.word, -1) <> right(a.word, -1),
         left(k.word, -2) <> left(a.word, -2), right(k.word, -2) <> right(a.word, -2),
         abs(length(k.word) - length(a.word)), k.sku
LIMIT $2;

-- name: attempts
-- The attempt log, the newest first. Only the partitions of the days that are asked for are read.
SELECT a.at, a.attempt_id, a.channel, a.sku, coalesce(a.identifiers, '{}') AS identifiers, a.quantity, a.outcome, a.reason,
       a.duration_ms::float8 AS duration_ms
FROM stockrelay.attempt AS a
WHERE a.at >= coalesce($1::timestamptz, '-infinity') AND a.channel = ANY ($2::text[])
AND ($3::text IS NULL OR a.sku = $3) AND ($4::text[] IS NULL OR a.outcome = ANY ($4))
ORDER BY a.at DESC, a.attempt_id DESC LIMIT $5;

-- name: parked
-- Parked SKUs of a channel, the newest first; those that were discarded only where $3 says so.
SELECT d.sku, d.parked_reason AS reason, d.parked_at AS since, coalesce(d.listed_identifiers, '{}') AS identifiers,
       d.listed_quantity AS quantity,
       coalesce(d.discarded_at >= d.parked_at, false) AS is_discarded
FROM stockrelay.ledger AS d
WHERE d.channel = $1 AND d.parked_at IS NOT NULL AND ($3::boolean OR NOT coalesce(d.discarded_at >= d.parked_at, false))
ORDER BY d.parked_at DESC, d.sku LIMIT $2;

-- name: count_parked
-- How many SKUs of a channel are parked, and how many of these were discarded.
SELECT count(*) AS parked, count(*) FILTER (WHERE d.discarded_at >= d.parked_at) AS discarded
FROM stockrelay.ledger AS d WHERE d.channel = $1 AND d.parked_at IS NOT NULL;

-- name: count_named_parked
-- How many of the SKUs $2 are parked, or of all of them (NULL) those that were not discarded; $3: discarded ones too. The
-- fingerprint changes with every SKU that comes, goes or is parked anew.
SELECT count(*) AS parked,
       coalesce(sum(hashtextextended(d.sku || ' ' || extract(epoch FROM d.parked_at), 0)::numeric), 0)::text AS fingerprint
FROM stockrelay.ledger AS d
WHERE d.channel = $1 AND d.parked_at IS NOT NULL AND ($2::text[] IS NULL OR d.sku = ANY ($2))
AND ($2::text[] IS NOT NULL OR $3 OR NOT coalesce(d.discarded_at >= d.parked_at, false));

-- name: retry_parked
-- Tries parked rows again: the SKUs $2, or all of them (NULL), $3 a second, so that new changes do not wait behind them.
WITH wanted AS MATERIALIZED (
    SELECT l.sku, l.parked_at, n.now, stockrelay.segment(l, n.now) AS segment
    FROM stockrelay.ledger AS l CROSS JOIN (SELECT clock_timestamp() AS now) AS n
    WHERE l.channel = $1 AND l.parked_at IS NOT NULL AND l.attempt_id IS NULL AND ($2::text[] IS NULL OR l.sku = ANY ($2))
    ORDER BY l.sku FOR UPDATE OF l
), exposed AS (
    INSERT INTO stockrelay.exposure_log (channel, segments)
    SELECT $1, array_agg(w.segment) FROM wanted AS w WHERE stockrelay.has_exposure(w.segment) HAVING count(*) > 0
)
UPDATE stockrelay.ledger AS d SET
    parked_at = NULL, parked_reason = NULL, discarded_at = NULL, failures = 0, retry_at = NULL,
    exposed_at = (o.segment).ended_at, counted_until = NULL, counted_over = NULL, counted_lost = NULL,
    urgent = stockrelay.is_urgent(d, d.listed_rows, d.listed_quantity, 0),
    unacked_since = coalesce(d.unacked_since, o.now),
    due_at = o.now + make_interval(secs => CASE WHEN $2::text[] IS NULL THEN o.place / $3::float8 ELSE 0 END)
FROM (SELECT w.*, row_number() OVER (ORDER BY w.parked_at, w.sku) - 1 AS place FROM wanted AS w) AS o
WHERE d.channel = $1 AND d.sku = o.sku
RETURNING d.sku;

-- name: discard_parked
-- Parked rows that an operator knows of, the SKUs $2 or all of them (NULL): they stay parked, and are no longer reported.
UPDATE stockrelay.ledger AS d SET discarded_at = clock_timestamp()
WHERE d.channel = $1 AND d.parked_at IS NOT NULL
AND CASE WHEN $2::text[] IS NULL THEN NOT coalesce(d.discarded_at >= d.parked_at, false) ELSE d.sku = ANY ($2) END
RETURNING d.sku;

-- name: channel_state
-- For `status`: the open sync and how many SKUs are still queued for it, the last reconcile, and the open differences.
SELECT s.started_at AS since, s.total,
       (SELECT count(*) FROM stockrelay.ledger AS d WHERE d.channel = c.channel AND d.sync_at IS NOT NULL) AS left,
       r.day, r.method, r.state, r.ended_at,
       (SELECT count(*) FROM stockrelay.difference AS d WHERE d.channel = c.channel AND d.state = 'open') AS differences
FROM (SELECT $1::text AS channel) AS c
LEFT JOIN stockrelay.sync_run AS s ON s.channel = c.channel AND s.state <> 'finished'
LEFT JOIN LATERAL (
    SELECT l.* FROM stockrelay.reconcile_run AS l
    WHERE l.channel = c.channel AND l.state IN ('finished', 'incomplete') AND l.kind <> 'dry'
    ORDER BY l.ended_at DESC LIMIT 1
) AS r ON true;
