-- name: add_slots
-- Makes the leases of channels that have none yet.
INSERT INTO stockrelay.lease (channel, slot)
SELECT c.channel, s.slot FROM unnest($1::text[]) AS c (channel), generate_series(0, 15) AS s (slot)
ON CONFLICT DO NOTHING;

-- name: take
-- Takes those of the slots ($1, $2) that are free; the epoch rises, so that the holder before can write no more. Slots that
-- this holder has without knowing are free to it. Rows are locked in the order in which claims lock them.
WITH free AS (
    SELECT l.channel, l.slot FROM stockrelay.lease AS l
    JOIN unnest($1::text[], $2::smallint[]) AS w (channel, slot) ON w.channel = l.channel AND w.slot = l.slot
    WHERE l.holder IS NULL OR l.holder = $3 OR l.until < clock_timestamp()
    ORDER BY l.channel, l.slot FOR UPDATE OF l
)
UPDATE stockrelay.lease AS l
SET epoch = l.epoch + 1, holder = $3, until = clock_timestamp() + $4::interval, taken_at = clock_timestamp()
FROM free AS f WHERE l.channel = f.channel AND l.slot = f.slot
RETURNING l.channel, l.slot, l.epoch;

-- name: renew
-- Keeps the slots ($1, $2, with their epochs); those that are not returned were lost.
WITH mine AS (
    SELECT l.channel, l.slot FROM stockrelay.lease AS l
    JOIN unnest($1::text[], $2::smallint[], $3::bigint[]) AS h (channel, slot, epoch)
        ON h.channel = l.channel AND h.slot = l.slot AND h.epoch = l.epoch
    WHERE l.holder = $4 ORDER BY l.channel, l.slot FOR NO KEY UPDATE OF l
)
UPDATE stockrelay.lease AS l SET until = clock_timestamp() + $5::interval
FROM mine AS m WHERE l.channel = m.channel AND l.slot = m.slot
RETURNING l.channel, l.slot;

-- name: give_up
-- Lets other replicas take the slots at once, and notifies them.
WITH mine AS (
    SELECT l.channel, l.slot FROM stockrelay.lease AS l
    JOIN unnest($1::text[], $2::smallint[], $3::bigint[]) AS h (channel, slot, epoch)
        ON h.channel = l.channel AND h.slot = l.slot AND h.epoch = l.epoch
    WHERE l.holder = $4 ORDER BY l.channel, l.slot FOR NO KEY UPDATE OF l
), given AS (
    UPDATE stockrelay.lease AS l SET holder = NULL, until = '-infinity'
    FROM mine AS m WHERE l.channel = m.channel AND l.slot = m.slot RETURNING l.slot
)
SELECT pg_notify('stockrelay', 'slot') FROM (SELECT FROM given LIMIT 1) AS g;

-- name: leases
-- All slots with their holders; NULL: no lease is valid.
SELECT l.channel, l.slot, l.epoch, CASE WHEN l.until >= clock_timestamp() THEN l.holder END AS holder, l.taken_at
FROM stockrelay.lease AS l ORDER BY l.channel, l.slot;

-- name: beat
-- This replica is alive; replicas that have not beaten for a minute are deleted.
WITH dead AS (
    DELETE FROM stockrelay.replica WHERE until < clock_timestamp() - interval '1 minute'
)
INSERT INTO stockrelay.replica AS r (holder, channels, until) VALUES ($1, $2, clock_timestamp() + $3::interval)
ON CONFLICT (holder) DO UPDATE SET channels = excluded.channels, until = excluded.until;

-- name: publish_configuration
-- Publishes this replica's configuration, once its row says that it is alive.
UPDATE stockrelay.replica SET sections = $2::jsonb WHERE holder = $1 AND sections IS DISTINCT FROM $2::jsonb;

-- name: configurations
-- What the replicas that are alive are configured with; those that have not said it are left out.
SELECT holder, sections::text AS sections FROM stockrelay.replica
WHERE until >= clock_timestamp() AND sections IS NOT NULL ORDER BY holder;

-- name: leave
-- This replica stops.
DELETE FROM stockrelay.replica WHERE holder = $1;

-- name: replicas
-- Those that are alive.
SELECT holder, channels FROM stockrelay.replica WHERE until >= clock_timestamp();

-- name: set_trouble
-- Keeps what is wrong with a channel in this process (NULL: nothing), if the process owns a slot of it.
WITH owner AS (
    SELECT FROM stockrelay.lease WHERE channel = $1 AND holder = $2 AND until >= clock_timestamp() ORDER BY slot LIMIT 1
    FOR KEY SHARE
)
SELECT stockrelay.set_trouble($1, $2, $3, $4, $5) FROM owner;

-- name: troubles
-- What is wrong with which channel, for `status`.
SELECT channel, trouble, reason, advice, since FROM stockrelay.channel_state WHERE trouble IS NOT NULL ORDER BY channel;

-- name: notify_owners
-- Wakes the owners of the channel's slots, in whichever process: something of it has become due.
SELECT pg_notify('stockrelay', 'marked ' || $1);
