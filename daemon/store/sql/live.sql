-- name: begin
-- The channel may be sent to from now on, and its owners in all processes are notified; no row: it was already.
WITH begun AS (
    INSERT INTO stockrelay.live (channel, by, origin) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING
    RETURNING channel, since, by, origin
), notified AS (
    SELECT pg_notify('stockrelay', 'marked ' || b.channel) AS done FROM begun AS b
)
SELECT b.channel, b.since, b.by, b.origin FROM begun AS b, notified AS n;

-- name: post_waiting
-- A notice that the channel is not live, once its account has been known for $2, and the last notice of it is older than $3.
INSERT INTO stockrelay.notice (kind, key, channel, data)
SELECT 'channel_waits', format('waits:%s:%s', a.channel, to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24')),
       a.channel,
       jsonb_build_object('since', a.since, 'listed', (SELECT count(*) FROM stockrelay.ledger AS d
                                                       WHERE d.channel = a.channel AND d.listed_rows > 0))
FROM stockrelay.channel_account AS a
WHERE a.channel = $1 AND a.since <= clock_timestamp() - $2::interval
AND NOT EXISTS (SELECT FROM stockrelay.live AS v WHERE v.channel = a.channel)
AND NOT EXISTS (SELECT FROM stockrelay.notice AS n WHERE n.kind = 'channel_waits' AND n.channel = a.channel
                AND n.created_at > greatest(a.since, clock_timestamp() - $3::interval))
ON CONFLICT (key) DO NOTHING;

-- name: all
-- The channels that may be sent to.
SELECT channel, since, by, origin FROM stockrelay.live ORDER BY channel;

-- name: listing_summary
-- What the ledger knows of a channel's listing: a pass over its rows.
SELECT (SELECT p.resynced_at FROM stockrelay.read_position AS p WHERE p.channel = $1) AS compared_at,
       count(*) FILTER (WHERE d.listed_rows > 0) AS listed,
       count(*) FILTER (WHERE d.listed_rows = 1 AND d.listed_quantity = 0) AS zeroes,
       count(*) FILTER (WHERE d.parked_at IS NOT NULL) AS parked,
       count(*) FILTER (WHERE d.listed_rows > 0 AND d.twins IS NOT NULL) AS sharing,
       count(*) FILTER (WHERE d.held_at IS NOT NULL
                        OR (d.parked_at IS NULL AND d.due_at IS NOT NULL AND g.held_since IS NOT NULL AND g.cause = 'first')) AS held,
       count(*) FILTER (WHERE d.due_at = 'infinity') AS shadowed
FROM stockrelay.ledger AS d LEFT JOIN stockrelay.guard AS g ON g.channel = d.channel WHERE d.channel = $1;

-- name: is_undecided
-- Whether a number of the channel waits to be decided. While the guard holds the first filling, none is.
SELECT EXISTS (SELECT FROM stockrelay.ledger AS d
               WHERE d.channel = $1 AND d.due_at < 'infinity' AND d.held_at IS NULL AND d.parked_at IS NULL)
       AND NOT EXISTS (SELECT FROM stockrelay.guard AS g WHERE g.channel = $1 AND g.held_since IS NOT NULL);

-- name: largest
-- The SKUs with the largest numbers, at most $2.
SELECT d.sku, coalesce(d.listed_identifiers, '{}') AS identifiers, d.listed_quantity AS quantity FROM stockrelay.ledger AS d
WHERE d.channel = $1 AND d.listed_quantity IS NOT NULL ORDER BY d.listed_quantity DESC, d.sku LIMIT $2;

-- name: first
-- The first SKUs by name, at most $2.
SELECT d.sku, coalesce(d.listed_identifiers, '{}') AS identifiers, d.listed_quantity AS quantity FROM stockrelay.ledger AS d
WHERE d.channel = $1 AND d.listed_rows > 0 ORDER BY d.sku LIMIT $2;

-- name: shared
-- The first SKUs by name that share their identifiers, at most $2.
SELECT d.sku, d.twins FROM stockrelay.ledger AS d
WHERE d.channel = $1 AND d.listed_rows > 0 AND d.twins IS NOT NULL ORDER BY d.sku LIMIT $2;

-- name: without_nested_loops
-- For this transaction: what was just read has no statistics, and the planner would compare each SKU with each number.
SELECT set_config('enable_nestloop', 'off', true);

-- name: never_sent
-- The SKUs of a channel that were never sent and can be, with the number under the same identifier that the reading $2 found
-- at the marketplace (`theirs`, NULL: it is not there). Left out are numbers that say nothing for sure: of an identifier that
-- several products have, that are unreadable, or that changed while they were read.
SELECT e.sku, e.listed_quantity AS ours, b.quantity AS theirs, b.identifier IS NOT NULL AS is_found
FROM stockrelay.ledger AS e LEFT JOIN (
    SELECT r.identifier, min(r.quantity) AS quantity,
           count(r.quantity) = count(*) AND min(r.quantity) = max(r.quantity)
           AND (count(*) = 1 OR (min(r.product_id) = max(r.product_id) AND min(r.page) <> max(r.page))) AS is_sure
    FROM stockrelay.reconcile_read AS r WHERE r.run_id = $2 AND r.identifier IS NOT NULL GROUP BY r.identifier
) AS b ON b.identifier = e.listed_identifiers[1]
WHERE e.channel = $1 AND e.identifiers IS NULL AND e.attempt_id IS NULL AND e.doubt_at IS NULL AND e.parked_at IS NULL
AND e.listed_rows = 1 AND e.listed_quantity IS NOT NULL AND e.twins IS NULL AND coalesce(b.is_sure, true)

-- name: compare
-- How many of the never sent SKUs have at the marketplace the number that is listed, another one, or none.
SELECT count(*) FILTER (WHERE n.ours = n.theirs) AS equal, count(*) FILTER (WHERE n.ours <> n.theirs) AS differing,
       count(*) FILTER (WHERE NOT n.is_found) AS missing
FROM (
@never_sent@
) AS n;

-- name: differing
-- The first of those SKUs, by name, whose numbers differ, at most $3.
SELECT n.sku, n.ours, n.theirs FROM (
@never_sent@
) AS n WHERE n.ours <> n.theirs ORDER BY n.sku LIMIT $3;

-- name: not_listed
-- The identifiers, at most $3, that the reading $2 found on sale at the marketplace and that no SKU of the listing has, with how
-- many there are in all.
SELECT r.identifier, count(*) OVER () AS total
FROM (SELECT DISTINCT f.identifier FROM stockrelay.reconcile_read AS f WHERE f.run_id = $2 AND f.quantity > 0) AS r
WHERE r.identifier IS NOT NULL AND NOT EXISTS (
    SELECT FROM stockrelay.ledger AS e
    WHERE e.channel = $1 AND e.listed_rows > 0 AND e.listed_identifiers[1] = r.identifier)
ORDER BY r.identifier LIMIT $3;

-- name: acknowledge_read
-- Numbers that were read back from the marketplace count as acknowledged, for SKUs that were never sent. A comparison of
-- everything has to follow in which the guard judges what differs. Nothing changes while the channel's first filling is held.
WITH found AS MATERIALIZED (
@never_sent@
), known AS (
    UPDATE stockrelay.ledger AS d SET
        acked_seq = d.want_seq, acked_quantity = f.theirs, identifiers = d.listed_identifiers, first_dirty_at = NULL,
        unacked_since = NULL, urgent = false, due_at = NULL, shadow_quantity = NULL, shadow_identifiers = NULL, held_at = NULL,
        zero_at = CASE WHEN f.theirs = 0 AND d.listed_quantity = 0 THEN d.zero_at END,
        exposed_at = NULL, counted_until = NULL, counted_over = NULL, counted_lost = NULL
    FROM found AS f
    WHERE d.channel = $1 AND d.sku = f.sku AND f.is_found AND d.identifiers IS NULL AND d.attempt_id IS NULL
    AND d.parked_at IS NULL AND d.listed_rows = 1 AND d.twins IS NULL
    AND NOT EXISTS (SELECT FROM stockrelay.guard AS g
                    WHERE g.channel = $1 AND g.held_since IS NOT NULL AND g.filled_at IS NULL)
    RETURNING d.sku
)
-- What the guard noted of them before anything was known of the marketplace's numbers.
DELETE FROM stockrelay.anomaly AS a USING known AS k WHERE a.channel = $1 AND a.sku = k.sku;

-- name: want_resync
-- The next reading of any replica compares everything, and their intakes are rung for it.
WITH wanted AS (
    UPDATE stockrelay.read_position SET resynced_at = NULL WHERE channel = $1
)
SELECT pg_notify('stockrelay', 'resync');
