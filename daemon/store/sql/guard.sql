-- name: lock
-- One channel's guard, locked until the transaction ends.
SELECT * FROM stockrelay.guard WHERE channel = $1 FOR UPDATE;

-- name: state
-- For `status`, `explain` and the service. While the first filling is held, all that waits is.
SELECT g.*, nullif(g.pass_until, '-infinity') AS passes_until, g.filled_at IS NOT NULL AS is_filled, (SELECT count(*) FROM stockrelay.ledger AS l
             WHERE l.channel = g.channel AND l.parked_at IS NULL
             AND (l.held_at IS NOT NULL OR (g.cause = 'first' AND (l.due_at IS NOT NULL OR l.sync_at IS NOT NULL)))) AS held
FROM stockrelay.guard AS g WHERE g.channel = $1;

-- name: held_numbers
-- What a release sends: how many numbers, how many of them are zero, and a fingerprint that changes with every SKU that comes,
-- goes, or falls to zero.
SELECT count(*) AS held, count(*) FILTER (WHERE stockrelay.is_zero(l.listed_rows, l.listed_quantity)) AS zeroes,
       coalesce(sum(hashtextextended(l.sku || ' ' || stockrelay.is_zero(l.listed_rows, l.listed_quantity), 0)::numeric), 0)::text
           AS fingerprint
FROM stockrelay.guard AS g JOIN stockrelay.ledger AS l ON l.channel = g.channel
WHERE g.channel = $1 AND g.held_since IS NOT NULL AND l.parked_at IS NULL
AND (l.held_at IS NOT NULL OR (g.cause = 'first' AND (l.due_at IS NOT NULL OR l.sync_at IS NOT NULL)));

-- name: still_anomalous
-- How many of a hold's anomalies are still wrong, sent or not: the numbers that fell, or moved by the factor $2, and are not
-- back. (Numbers that rose from 0 are held and released with them.) For a first filling: its rows, and how many are zero.
SELECT count(*) AS wrong, 0::bigint AS listed FROM stockrelay.guard AS g
JOIN stockrelay.anomaly AS a ON a.channel = g.channel AND a.at > g.held_from AND a.at <= g.held_to
LEFT JOIN stockrelay.ledger AS l ON l.channel = a.channel AND l.sku = a.sku
WHERE g.channel = $1 AND g.cause <> 'first'
AND a.kind <> 'risen'
AND CASE WHEN a.kind = 'new' THEN g.cause = 'new' ELSE g.cause <> 'new' END
AND CASE WHEN a.kind = 'moved' THEN g.cause = 'moves' AND (stockrelay.is_far(a.was, l.listed_quantity, $2)
                                                          OR stockrelay.is_renamed(l, l.listed_rows, l.listed_identifiers))
         WHEN l.sku IS NULL THEN a.kind = 'gone' ELSE l.zero_at IS NOT NULL END
HAVING (SELECT f.cause FROM stockrelay.guard AS f WHERE f.channel = $1) <> 'first'
UNION ALL
SELECT count(*) FILTER (WHERE stockrelay.is_zero(l.listed_rows, l.listed_quantity)), count(*)
FROM stockrelay.ledger AS l WHERE l.channel = $1 AND l.listed_rows > 0
HAVING (SELECT f.cause FROM stockrelay.guard AS f WHERE f.channel = $1) = 'first';

-- name: count_listed
-- How many SKUs the listing has, as it was read last.
SELECT count(*) FROM stockrelay.ledger WHERE channel = $1 AND listed_rows > 0;

-- name: examples
-- Numbers that are held, the largest first, with what the marketplace still shows and what would be sent. Of a first filling:
-- zeroes.
SELECT l.sku, l.acked_quantity AS was, CASE WHEN l.listed_rows > 0 THEN l.listed_quantity END AS now
FROM stockrelay.ledger AS l
WHERE l.channel = $1 AND l.parked_at IS NULL
AND (l.held_at IS NOT NULL
     OR (l.listed_quantity = 0 AND EXISTS (SELECT FROM stockrelay.guard AS g WHERE g.channel = $1 AND g.cause = 'first')))
ORDER BY l.acked_quantity DESC NULLS LAST, l.sku LIMIT $2;

-- name: note_question
-- The person has been asked.
UPDATE stockrelay.guard SET asked_at = clock_timestamp() WHERE channel = $1;

-- name: close
-- Ends the hold; the rows that are still marked as held are released in batches. $3: how many they are; $4: how long the rest
-- of the same import passes, or NULL; $5: the release needs no line in the log.
UPDATE stockrelay.guard SET
    filled_at = coalesce(filled_at, clock_timestamp()), held_since = NULL, held_from = NULL, held_to = NULL, cause = NULL,
    zeroes = NULL, gone = NULL, moved = NULL, risen = NULL, most = NULL, skus = NULL, rows_before = NULL, rows_now = NULL, asked_at = NULL,
    released_at = clock_timestamp(), released_by = $2, released = $3, is_release_logged = $5,
    pass_until = coalesce(greatest(pass_until, clock_timestamp() + $4::interval), pass_until),
    on_sale = NULL, listed = NULL, counted_at = NULL, is_dripping = false
WHERE channel = $1;

-- name: release_held
-- Rows whose hold has ended are due at once, $2 at a time; zeroes go ahead of others.
WITH few AS MATERIALIZED (
    SELECT l.sku, n.now, stockrelay.segment(l, n.now) AS segment
    FROM stockrelay.ledger AS l CROSS JOIN (SELECT clock_timestamp() AS now) AS n
    WHERE l.channel = $1 AND l.held_at IS NOT NULL
    AND NOT EXISTS (SELECT FROM stockrelay.guard AS g WHERE g.channel = $1 AND g.held_since IS NOT NULL)
    ORDER BY l.held_at LIMIT $2 FOR UPDATE OF l SKIP LOCKED
), exposed AS (
    INSERT INTO stockrelay.exposure_log (channel, segments)
    SELECT $1, array_agg(f.segment) FROM few AS f WHERE stockrelay.has_exposure(f.segment) HAVING count(*) > 0
)
UPDATE stockrelay.ledger AS l SET
    held_at = NULL,
    exposed_at = (f.segment).ended_at, counted_until = NULL, counted_over = NULL, counted_lost = NULL,
    due_at = CASE WHEN l.parked_at IS NULL THEN greatest(l.retry_at, f.now) END,
    urgent = l.parked_at IS NULL AND l.zero_at IS NOT NULL
FROM few AS f WHERE l.channel = $1 AND l.sku = f.sku;

-- name: release_renamed
-- A held SKU whose identifiers another listed SKU has now is no stock-out: it becomes due, and its claim forgets it.
WITH answered AS MATERIALIZED (
    SELECT d.sku, stockrelay.segment(d, clock_timestamp()) AS segment FROM stockrelay.ledger AS d JOIN stockrelay.ledger AS h
        ON h.channel = d.channel AND h.listed_identifiers = d.identifiers AND h.sku <> d.sku AND h.listed_rows > 0
        AND (h.identifiers = d.identifiers OR (h.identifiers IS NULL AND h.parked_at IS NULL))
    WHERE d.channel = $1 AND d.held_at IS NOT NULL AND d.parked_at IS NULL AND d.listed_rows = 0
    FOR UPDATE OF d SKIP LOCKED
), forgotten AS (
    DELETE FROM stockrelay.anomaly AS a USING answered AS w WHERE a.channel = $1 AND a.sku = w.sku
), exposed AS (
    INSERT INTO stockrelay.exposure_log (channel, segments)
    SELECT $1, array_agg(a.segment) FROM answered AS a WHERE stockrelay.has_exposure(a.segment) HAVING count(*) > 0
)
UPDATE stockrelay.ledger AS l SET
    held_at = NULL, due_at = clock_timestamp(), exposed_at = (a.segment).ended_at, counted_until = NULL, counted_over = NULL, counted_lost = NULL
FROM answered AS a WHERE l.channel = $1 AND l.sku = a.sku;

-- name: without_nested_loops
-- The server cannot know how many are held now, and would read the ledger once for each.
SELECT set_config('enable_nestloop', 'off', true);

-- name: take_unlogged_release
-- A release that was not logged yet.
UPDATE stockrelay.guard SET is_release_logged = true WHERE channel = $1 AND NOT is_release_logged RETURNING released, released_by;

-- name: recount
-- Counts what was on sale and listed before the window ($3): what is now, and what fell within it. $2: how old the last count
-- may be; $4: the share that makes a drip when it falls in the longer window $5.
WITH stale AS (
    SELECT greatest(clock_timestamp() - $3::interval, max(g.pass_until)) AS since,
           greatest(clock_timestamp() - $5::interval, max(g.pass_until)) AS long_since
    FROM stockrelay.guard AS g WHERE g.channel = $1
    HAVING coalesce(max(g.counted_at) < clock_timestamp() - $2::interval, true)
), fallen AS (
    SELECT count(*) FILTER (WHERE a.at > s.since AND x.is_over) AS on_sale,
           count(*) FILTER (WHERE a.at > s.since AND a.kind = 'gone') AS listed,
           count(*) AS long, count(*) FILTER (WHERE x.is_over) AS long_on_sale
    FROM stale AS s JOIN stockrelay.anomaly AS a ON a.channel = $1 AND a.at > s.long_since AND a.kind IN ('gone', 'zero')
    LEFT JOIN stockrelay.ledger AS l ON l.channel = a.channel AND l.sku = a.sku
    CROSS JOIN LATERAL (
        SELECT NOT coalesce(greatest(l.acked_quantity, l.attempt_quantity) > 0, false) AS is_over
    ) AS x
), counted AS (
    SELECT count(*) FILTER (WHERE greatest(l.acked_quantity, l.attempt_quantity) > 0) AS on_sale,
           count(*) FILTER (WHERE l.listed_rows > 0) AS listed
    FROM stockrelay.ledger AS l WHERE l.channel = $1 AND EXISTS (SELECT FROM stale)
)
INSERT INTO stockrelay.guard AS g (channel, on_sale, listed, is_dripping, counted_at)
SELECT $1, c.on_sale + f.on_sale, c.listed + f.listed, f.long > greatest(10, $4::float8 * (c.on_sale + f.long_on_sale)),
       clock_timestamp()
FROM counted AS c, fallen AS f, stale
ON CONFLICT (channel) DO UPDATE SET
    on_sale = excluded.on_sale, listed = excluded.listed, is_dripping = excluded.is_dripping,
    counted_at = excluded.counted_at;

-- name: forget_anomalies
-- Deletes anomalies from before the longest window, unless they belong to a hold.
DELETE FROM stockrelay.anomaly AS a
WHERE a.channel = $1
AND a.at < least(clock_timestamp() - $2::interval, (SELECT g.held_from FROM stockrelay.guard AS g WHERE g.channel = $1));
