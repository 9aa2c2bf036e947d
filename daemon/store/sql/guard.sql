-- name: lock
-- One channel's guard, for as long as the transaction lasts.
SELECT * FROM stockrelay.guard WHERE channel = $1 FOR UPDATE;

-- name: state
-- For `status`, `explain` and the service.
SELECT g.*, (SELECT count(*) FROM stockrelay.ledger AS l
             WHERE l.channel = g.channel AND l.held_at IS NOT NULL AND l.parked_at IS NULL) AS held
FROM stockrelay.guard AS g WHERE g.channel = $1;

-- name: count_listed
-- How many SKUs the listing has, as it was read last.
SELECT count(*) FROM stockrelay.ledger WHERE channel = $1 AND listed_rows > 0;

-- name: note_question
-- The person has been asked.
UPDATE stockrelay.guard SET asked_at = clock_timestamp(), zeroes = $2 WHERE channel = $1;

-- name: close
-- Nothing is held on purpose any more; who is still marked as held is let go bit by bit. $3: how many zeroes that is, $4:
-- how long the rest of the same import passes unasked, or NULL.
UPDATE stockrelay.guard SET
    held_since = NULL, held_from = NULL, held_to = NULL, cause = NULL, zeroes = NULL, skus = NULL, rows_before = NULL,
    rows_now = NULL, asked_at = NULL, released_at = clock_timestamp(), released_by = $2, released = $3, is_told = $5,
    pass_until = coalesce(greatest(pass_until, clock_timestamp() + $4::interval), pass_until),
    on_sale = NULL, listed = NULL, counted_at = NULL
WHERE channel = $1;

-- name: let_go
-- The zeroes that nobody holds any more are due at once, so many at a time.
WITH few AS (
    SELECT l.sku FROM stockrelay.ledger AS l
    WHERE l.channel = $1 AND l.held_at IS NOT NULL
    AND NOT EXISTS (SELECT FROM stockrelay.guard AS g WHERE g.channel = $1 AND g.held_since IS NOT NULL)
    ORDER BY l.held_at LIMIT $2 FOR UPDATE OF l SKIP LOCKED
)
UPDATE stockrelay.ledger AS l SET
    held_at = NULL,
    due_at = CASE WHEN l.parked_at IS NULL THEN greatest(l.retry_at, clock_timestamp()) END,
    urgent = l.parked_at IS NULL
FROM few AS f WHERE l.channel = $1 AND l.sku = f.sku;

-- name: let_heirs_answer
-- Held SKUs whose identifiers are another listed SKU's by now are no stock-outs: their claims find that out.
WITH answered AS (
    SELECT d.sku FROM stockrelay.ledger AS d JOIN stockrelay.ledger AS h
        ON h.channel = d.channel AND h.listed_identifiers = d.identifiers AND h.sku <> d.sku AND h.listed_rows > 0
        AND (h.identifiers = d.identifiers OR (h.identifiers IS NULL AND h.parked_at IS NULL))
    WHERE d.channel = $1 AND d.held_at IS NOT NULL AND d.parked_at IS NULL AND d.listed_rows = 0
    FOR UPDATE OF d SKIP LOCKED
)
UPDATE stockrelay.ledger AS l SET held_at = NULL, due_at = clock_timestamp()
FROM answered AS a WHERE l.channel = $1 AND l.sku = a.sku;

-- name: without_nested_loops
-- The server knows nothing of how many are held just now, and would read the ledger once for each.
SELECT set_config('enable_nestloop', 'off', true);

-- name: take_news
-- What was let go and nobody has told the log of.
UPDATE stockrelay.guard SET is_told = true WHERE channel = $1 AND NOT is_told RETURNING released, released_by;

-- name: recount
-- What was on sale and listed before the window, counted by one replica every so often: what is, and what fell within it.
-- $2: how old a count may be, $3 the window.
WITH stale AS (
    SELECT greatest(clock_timestamp() - $3::interval, max(g.pass_until)) AS since
    FROM stockrelay.guard AS g WHERE g.channel = $1
    HAVING coalesce(max(g.counted_at) < clock_timestamp() - $2::interval, true)
), fallen AS (
    SELECT count(*) FILTER (WHERE NOT coalesce(greatest(l.acked_quantity, l.attempt_quantity) > 0, false)) AS on_sale,
           count(*) FILTER (WHERE f.is_gone) AS listed
    FROM stale AS s JOIN stockrelay.fall AS f ON f.channel = $1 AND f.at > s.since
    LEFT JOIN stockrelay.ledger AS l ON l.channel = f.channel AND l.sku = f.sku
), counted AS (
    SELECT count(*) FILTER (WHERE greatest(l.acked_quantity, l.attempt_quantity) > 0) AS on_sale,
           count(*) FILTER (WHERE l.listed_rows > 0) AS listed
    FROM stockrelay.ledger AS l WHERE l.channel = $1 AND EXISTS (SELECT FROM stale)
)
INSERT INTO stockrelay.guard AS g (channel, on_sale, listed, counted_at)
SELECT $1, c.on_sale + f.on_sale, c.listed + f.listed, clock_timestamp() FROM counted AS c, fallen AS f, stale
ON CONFLICT (channel) DO UPDATE SET
    on_sale = excluded.on_sale, listed = excluded.listed, counted_at = excluded.counted_at;

-- name: forget_falls
-- What fell before the window is not counted any more.
DELETE FROM stockrelay.fall WHERE channel = $1 AND at < clock_timestamp() - $2::interval;

-- name: tell_replicas
-- Wakes the owners of lanes: something has become due.
SELECT pg_notify('stockrelay', 'marked');
