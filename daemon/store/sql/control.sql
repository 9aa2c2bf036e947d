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
