-- name: make_lane
-- Every lane has a row before it has an owner.
INSERT INTO stockrelay.lease (lane) VALUES ($1) ON CONFLICT DO NOTHING;

-- name: take
-- Takes a lane that nobody holds; the epoch rises, so that whoever held it before can write no more.
UPDATE stockrelay.lease
SET epoch = epoch + 1, holder = $2, until = clock_timestamp() + $3::interval, taken_at = clock_timestamp()
WHERE lane = $1 AND (holder IS NULL OR until < clock_timestamp())
RETURNING epoch;

-- name: renew
-- Keeps a lane; no row: it was lost.
UPDATE stockrelay.lease SET until = clock_timestamp() + $4::interval
WHERE lane = $1 AND epoch = $2 AND holder = $3
RETURNING epoch;

-- name: give_up
-- Lets the next owner take the lane at once.
UPDATE stockrelay.lease SET holder = NULL, until = '-infinity' WHERE lane = $1 AND epoch = $2 AND holder = $3;

-- name: lanes
-- All lanes, for `status`.
SELECT lane, epoch, CASE WHEN until >= clock_timestamp() THEN holder END AS holder, taken_at FROM stockrelay.lease ORDER BY lane;

-- name: set_trouble
-- What is wrong with a channel.
INSERT INTO stockrelay.channel_state AS c (channel, trouble, reason, advice, troubled_since)
VALUES ($1, $2, $3, $4, CASE WHEN $2::text IS NOT NULL THEN clock_timestamp() END)
ON CONFLICT (channel) DO UPDATE SET trouble = excluded.trouble, reason = excluded.reason, advice = excluded.advice,
    troubled_since = CASE WHEN excluded.trouble IS NOT NULL THEN coalesce(c.troubled_since, excluded.troubled_since) END,
    since = CASE WHEN c.trouble IS NOT DISTINCT FROM excluded.trouble THEN c.since ELSE excluded.since END;

-- name: troubles
-- What is wrong with which channel, for `status`.
SELECT channel, trouble, reason, advice, since FROM stockrelay.channel_state WHERE trouble IS NOT NULL ORDER BY channel;
