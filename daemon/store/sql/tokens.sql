-- name: load
-- The token, while it is valid.
SELECT value, generation, expires_at - clock_timestamp() AS remaining
FROM stockrelay.token WHERE channel = $1 AND value IS NOT NULL AND expires_at > clock_timestamp();

-- name: begin_refresh
-- One refresh at a time over all replicas: a row where no other is under way and there is no newer token.
INSERT INTO stockrelay.token AS t (channel, refresh_until) VALUES ($1, clock_timestamp() + $3::interval)
ON CONFLICT (channel) DO UPDATE SET refresh_until = excluded.refresh_until
WHERE (t.refresh_until IS NULL OR t.refresh_until <= clock_timestamp())
  AND (t.generation <= $2 OR t.value IS NULL OR t.expires_at <= clock_timestamp())
RETURNING generation;

-- name: save
-- A new token, and the end of its refresh.
INSERT INTO stockrelay.token AS t (channel, value, generation, expires_at) VALUES ($1, $2, 1, clock_timestamp() + $3::interval)
ON CONFLICT (channel) DO UPDATE SET
    value = excluded.value, generation = t.generation + 1, expires_at = excluded.expires_at, refresh_until = NULL
RETURNING generation;

-- name: fail_refresh
-- No replica tries again before then.
UPDATE stockrelay.token SET refresh_until = clock_timestamp() + $2::interval WHERE channel = $1;

-- name: invalidate
-- Drops the token the marketplace refused, unless another has been fetched meanwhile.
UPDATE stockrelay.token SET value = NULL, expires_at = NULL WHERE channel = $1 AND generation = $2;
