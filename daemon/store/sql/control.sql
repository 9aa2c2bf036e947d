-- name: pause
-- Pauses a channel. Who pauses it again gives it another reason; it is paused since the first time.
INSERT INTO stockrelay.pause AS p (channel, paused_by, reason) VALUES ($1, $2, $3)
ON CONFLICT (channel) DO UPDATE SET paused_by = excluded.paused_by, reason = excluded.reason
RETURNING channel, paused_at AS since, paused_by AS by, reason;

-- name: has_no_claim
-- Whether no claim is under way: each locks the leases of its slots until it is committed. Asked again and again: waiting
-- for a row would hold up its owner's renewal of the lease.
SELECT (SELECT count(*) FROM stockrelay.lease AS l WHERE l.channel = $1)
     = (SELECT count(*) FROM (SELECT FROM stockrelay.lease AS l WHERE l.channel = $1 FOR UPDATE SKIP LOCKED) AS free);

-- name: in_flight
-- How many requests of a channel have been claimed and have no outcome yet.
SELECT count(*) FROM stockrelay.ledger WHERE channel = $1 AND attempt_id IS NOT NULL;

-- name: resume
-- Ends a pause; no row: there was none.
DELETE FROM stockrelay.pause WHERE channel = $1 RETURNING channel, paused_at AS since, paused_by AS by, reason;

-- name: pauses
-- The channels that are paused.
SELECT channel, paused_at AS since, paused_by AS by, reason FROM stockrelay.pause ORDER BY channel;

-- name: push
-- An operator has a SKU sent now, whatever was acknowledged: as for a doubt that is over, the next acknowledgement ends it.
-- What is parked is tried again. No row: an attempt is in flight, or the guard holds the number.
WITH wanted AS MATERIALIZED (
    SELECT d.sku, n.now, stockrelay.segment(d, n.now) AS segment
    FROM stockrelay.ledger AS d CROSS JOIN (SELECT clock_timestamp() AS now) AS n
    WHERE d.channel = $1 AND d.sku = $2 AND d.attempt_id IS NULL AND d.held_at IS NULL FOR UPDATE OF d
), exposed AS (
    INSERT INTO stockrelay.exposure_log (channel, segments)
    SELECT $1, array_agg(n.segment) FROM wanted AS n WHERE stockrelay.has_exposure(n.segment) HAVING count(*) > 0
)
UPDATE stockrelay.ledger AS d SET
    doubt_at = coalesce(d.doubt_at, n.now), doubt_until = coalesce(d.doubt_until, n.now),
    unacked_since = coalesce(d.unacked_since, n.now), due_at = n.now, urgent = true, failures = 0, retry_at = NULL,
    parked_at = NULL, parked_reason = NULL, discarded_at = NULL,
    exposed_at = (n.segment).ended_at, counted_until = NULL, counted_over = NULL, counted_lost = NULL
FROM wanted AS n WHERE d.channel = $1 AND d.sku = n.sku
RETURNING n.now;

-- name: push_state
-- How far a push is. A SKU that left the listing is forgotten once its zero is acknowledged.
SELECT d.sku IS NOT NULL AS is_followed,
       d.sku IS NULL OR (d.attempt_id IS NULL AND d.due_at IS NULL) AS is_over, d.held_at IS NOT NULL AS is_held,
       CASE WHEN d.doubt_until > clock_timestamp() THEN d.doubt_until END AS confirmed_at,
       EXISTS (SELECT FROM stockrelay.lease AS l
               WHERE l.channel = s.channel AND l.slot = d.slot AND l.until >= clock_timestamp()) AS has_owner,
       CASE WHEN EXISTS (SELECT FROM stockrelay.pause AS p WHERE p.channel = s.channel) THEN 'paused by an operator'
            ELSE (SELECT c.trouble FROM stockrelay.channel_state AS c WHERE c.channel = s.channel) END AS trouble
FROM (SELECT $1::text AS channel, $2::text AS sku) AS s
LEFT JOIN stockrelay.ledger AS d ON d.channel = s.channel AND d.sku = s.sku;
