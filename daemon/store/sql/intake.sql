-- name: begin_reading
-- Gives a channel a position in the change log, if it has none; everything has to be compared then. Committed before that
-- comparison, which thus sees all that a slot of the log held that is emptied meanwhile.
INSERT INTO stockrelay.read_position (channel) VALUES ($1) ON CONFLICT DO NOTHING;

-- name: take_changes
-- What is new to a channel. The limits, which are set after the reading, see to it that a stalled process keeps no locks from
-- other replicas or the ERP, and that we wait for a locked table for less than `deadlock_timeout` (a second), after which the
-- server might end the ERP's transaction.
SELECT is_known, changes, clock_timestamp() - oldest AS oldest, is_everything, skus, times, unreadable,
       oldest AS oldest_at, statement_timestamp() AS read_at,
       read_from::text AS read_from, (SELECT p.resynced_at IS NULL FROM stockrelay.read_position AS p WHERE p.channel = $1) AS wants_resync,
       pg_backend_pid() AS pid,
       set_config('idle_in_transaction_session_timeout', '700ms', true), set_config('lock_timeout', '500ms', true)
FROM stockrelay.take_changes($1, $2);

-- name: mark_blind
-- Marks SKUs of a listing that does not work without reading it: their claims read it.
INSERT INTO stockrelay.ledger AS d (channel, sku, want_seq, listed_rows, first_dirty_at, unacked_since, due_at)
SELECT $1, s.sku, nextval('stockrelay.want_seq'), 0, clock_timestamp(), clock_timestamp(),
       clock_timestamp() + $3::interval
FROM (SELECT DISTINCT u.sku FROM unnest($2::text[]) AS u (sku) WHERE octet_length(u.sku) <= 1000 ORDER BY u.sku) AS s
ON CONFLICT (channel, sku) DO UPDATE SET
    want_seq = excluded.want_seq,
    first_dirty_at = coalesce(d.first_dirty_at, excluded.first_dirty_at),
    unacked_since = coalesce(d.unacked_since, excluded.unacked_since),
    due_at = CASE WHEN d.parked_at IS NULL THEN greatest(d.retry_at, least(d.due_at, excluded.due_at)) END;

-- name: stay_awake
-- No capture rings for $1 seconds: this process polls quickly. 0: ring again, unless the doorbell is off.
SELECT stockrelay.stay_awake($1::float8 * 1000);

-- name: resynced
-- Everything was compared now; $2: how many SKUs the ledger can't hold, or NULL where they were not counted.
UPDATE stockrelay.read_position AS p SET resynced_at = clock_timestamp(), seen_at = clock_timestamp(),
    refused = coalesce($2, p.refused)
WHERE p.channel = $1;

-- name: want_resync
-- A comparison of everything is still due: the next reading of any replica makes it.
UPDATE stockrelay.read_position SET resynced_at = NULL WHERE channel = $1;

-- name: rotate
-- One step of the change log's rotation.
SELECT stockrelay.rotate($1);

-- name: roll_attempts
-- Makes the attempt log's partitions and drops the old ones.
SELECT stockrelay.roll_attempts($1, $2);

-- name: identity
-- The database this is, and the one that is pushed from.
SELECT i.system_identifier = n.system_identifier AND i.database_oid = n.database_oid AS is_ours,
       i.timeline = n.timeline AS is_same_timeline, i.accepted_at, n.system_identifier, n.timeline
FROM stockrelay.intake AS i, stockrelay.identity() AS n;

-- name: note_timeline
-- The same database after a failover; true: no replica has noted it before.
WITH noted AS (
    UPDATE stockrelay.intake AS i SET timeline = n.timeline FROM stockrelay.identity() AS n
    WHERE i.timeline <> n.timeline RETURNING i.timeline
)
SELECT EXISTS (SELECT FROM noted);

-- name: adopt
-- From now on this database is pushed from; returns its system identifier.
SELECT stockrelay.adopt();

-- name: doubt_everything
-- Has every number confirmed, since what was acknowledged after the copy was made, or just before the failover, is not known:
-- $1 of a channel's SKUs a second, so that new changes do not wait behind them. $2 is the settle time: a request that this
-- server has never heard of may land until it has passed. $3: only of this channel; NULL: of all.
UPDATE stockrelay.ledger AS d SET
    doubt_at = o.now, doubt_until = o.now + $2::interval, unacked_since = coalesce(d.unacked_since, o.now),
    due_at = least(d.due_at, o.now + make_interval(secs => o.place / $1::float8))
FROM (SELECT x.channel, x.sku, clock_timestamp() AS now, row_number() OVER (PARTITION BY x.channel ORDER BY x.sku) AS place
      -- Locked in the order in which outcomes and markings lock them.
      FROM (SELECT l.channel, l.sku FROM stockrelay.ledger AS l WHERE l.parked_at IS NULL AND l.attempt_id IS NULL
            AND ($3::text IS NULL OR l.channel = $3) ORDER BY l.channel, l.sku FOR UPDATE) AS x) AS o
WHERE d.channel = o.channel AND d.sku = o.sku;

-- name: reading_state
-- For `status`: when each channel's listing was compared as a whole, the SKUs that the ledger can't hold, and unread changes.
SELECT p.channel, p.resynced_at, p.refused, (SELECT count(*) FROM stockrelay.unread(p.read_until)) AS unread
FROM stockrelay.read_position AS p WHERE p.channel = ANY ($1::text[]);
