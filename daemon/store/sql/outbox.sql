-- name: post
-- Something to tell; no row: the same was posted already.
INSERT INTO stockrelay.notice (kind, key, channel, data) VALUES ($1, $2, $3, $4::text::jsonb)
ON CONFLICT (key) DO NOTHING
RETURNING id;
