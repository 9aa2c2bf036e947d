-- name: pause
-- Pauses a channel. Who pauses it again gives it another reason; it is paused since the first time.
INSERT INTO stockrelay.pause AS p (channel, paused_by, reason) VALUES ($1, $2, $3)
ON CONFLICT (channel) DO UPDATE SET paused_by = excluded.paused_by, reason = excluded.reason
RETURNING channel, paused_at, paused_by, reason;

-- name: outlast_claims
-- Waits for the claims that began before the pause was seen: a claim holds its lane's row until it is committed.
SELECT lane FROM stockrelay.lease WHERE lane = $1 FOR UPDATE;

-- name: in_flight
-- How many requests of a channel have been claimed and have no outcome yet.
SELECT count(*) FROM stockrelay.ledger WHERE channel = $1 AND attempt_id IS NOT NULL;

-- name: resume
-- Ends a pause; no row: there was none.
DELETE FROM stockrelay.pause WHERE channel = $1 RETURNING channel, paused_at, paused_by, reason;

-- name: tell_replicas
-- Wakes whoever owns the lane.
SELECT pg_notify('stockrelay', 'marked');

-- name: pauses
-- The channels that are paused.
SELECT channel, paused_at, paused_by, reason FROM stockrelay.pause ORDER BY channel;
