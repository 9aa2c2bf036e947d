-- name: want_lanes
-- Says into how many lanes a channel is to be divided.
SELECT stockrelay.want_lanes($1, $2);

-- name: divide
-- Divides a channel anew, if nobody owns a lane of it. NULL: not now.
SELECT stockrelay.divide($1);

-- name: take
-- Takes a lane that nobody holds; the epoch rises, so that whoever held it before can write no more. Not while the channel
-- is to be divided anew.
UPDATE stockrelay.lease AS l
SET epoch = epoch + 1, holder = $2, until = clock_timestamp() + $3::interval, taken_at = clock_timestamp()
FROM stockrelay.division AS d
WHERE l.lane = $1 AND (l.holder IS NULL OR l.until < clock_timestamp()) AND d.channel = l.channel AND d.lanes = d.wanted
RETURNING l.epoch, l.number, d.lanes;

-- name: renew
-- Keeps a lane; no row: it was lost.
UPDATE stockrelay.lease SET until = clock_timestamp() + $4::interval
WHERE lane = $1 AND epoch = $2 AND holder = $3
RETURNING epoch;

-- name: give_up
-- Lets the next owner take the lane at once, and says so to the others.
WITH given AS (
    UPDATE stockrelay.lease SET holder = NULL, until = '-infinity' WHERE lane = $1 AND epoch = $2 AND holder = $3
    RETURNING lane
)
SELECT pg_notify('stockrelay', 'lane') FROM given;

-- name: lanes
-- All lanes. `is_settled`: the channel is divided as it is to be.
SELECT l.lane, l.channel, l.number, l.epoch, CASE WHEN l.until >= clock_timestamp() THEN l.holder END AS holder, l.taken_at,
       d.lanes = d.wanted AS is_settled
FROM stockrelay.lease AS l JOIN stockrelay.division AS d ON d.channel = l.channel ORDER BY l.channel, l.number;

-- name: beat
-- This replica is alive; those that have not been for a while are forgotten.
WITH dead AS (
    DELETE FROM stockrelay.replica WHERE until < clock_timestamp() - interval '1 minute'
)
INSERT INTO stockrelay.replica AS r (holder, channels, until) VALUES ($1, $2, clock_timestamp() + $3::interval)
ON CONFLICT (holder) DO UPDATE SET channels = excluded.channels, until = excluded.until;

-- name: leave
-- This replica stops.
DELETE FROM stockrelay.replica WHERE holder = $1;

-- name: replicas
-- Those that are alive.
SELECT holder, channels FROM stockrelay.replica WHERE until >= clock_timestamp();

-- name: set_trouble
-- What is wrong in a lane; NULL: nothing is. Only its owner says so: whoever has it next would not take it back.
WITH owner AS (
    SELECT FROM stockrelay.lease WHERE lane = $1 AND epoch = $6 AND holder = $7 FOR KEY SHARE
)
SELECT stockrelay.set_trouble($1, $2, $3, $4, $5) FROM owner;

-- name: troubles
-- What is wrong with which channel, for `status`.
SELECT channel, trouble, reason, advice, since FROM stockrelay.channel_state WHERE trouble IS NOT NULL ORDER BY channel;
