-- name: begin_sync
-- Opens a sync with the filter $2, or finds the one that is open. No row: another process is opening one at this moment.
WITH made AS (
    INSERT INTO stockrelay.sync_run (channel, filter) VALUES ($1, $2) ON CONFLICT (channel) WHERE state <> 'finished' DO NOTHING
    RETURNING id, state, started_at, filter
)
SELECT m.id AS number, m.started_at, m.state = 'sending' AS is_marked, true AS is_new, m.filter FROM made AS m
UNION ALL
SELECT r.id, r.started_at, r.state = 'sending', false, r.filter FROM stockrelay.sync_run AS r WHERE r.channel = $1 AND r.state <> 'finished';

-- name: open_sync
-- The sync that is open.
SELECT r.id AS number, r.started_at, r.state = 'sending' AS is_marked, false AS is_new, r.filter
FROM stockrelay.sync_run AS r WHERE r.channel = $1 AND r.state <> 'finished';

-- name: chosen_skus
-- The listing's SKUs that a filter chooses: those named ($2; NULL: any) that changed since $3 (NULL: at any time), which is:
-- their number was read as another one, was sent or tried, or waits to be sent. The query in place gives those that its condition chooses.
SELECT DISTINCT c.sku FROM stockrelay.resolved(@chosen@, NULL, NULL) AS c (sku)
WHERE ($2::text[] IS NULL OR c.sku = ANY ($2)) AND ($3::timestamptz IS NULL OR c.sku IN (
    SELECT u.sku FROM stockrelay.reading AS r CROSS JOIN LATERAL unnest(r.skus) AS u (sku) WHERE r.channel = $1 AND r.at >= $3
    UNION ALL
    SELECT a.sku FROM stockrelay.attempt AS a WHERE a.channel = $1 AND a.at >= $3
    UNION ALL
    SELECT e.sku FROM stockrelay.ledger AS e WHERE e.channel = $1 AND e.unacked_since IS NOT NULL))

-- name: choose
-- Keeps the SKUs of a filter with its sync ($4), and drops those of earlier ones. With SKUs that are sold as one ($5), all of
-- them, since one of them is sent for all.
WITH chosen AS (
@chosen_skus@
), old AS (
    DELETE FROM stockrelay.sync_sku AS k USING stockrelay.sync_run AS r
    WHERE r.channel = $1 AND r.state = 'finished' AND k.run_id = r.id
)
INSERT INTO stockrelay.sync_sku (run_id, sku)
SELECT $4::bigint, c.sku FROM chosen AS c
UNION
SELECT $4::bigint, h.sku FROM chosen AS c JOIN stockrelay.ledger AS d ON d.channel = $1 AND d.sku = c.sku AND d.duplicates = 'sum'
JOIN stockrelay.ledger AS h ON h.channel = $1 AND h.listed_rows > 0 AND h.listed_identifiers = d.listed_identifiers
     AND hash_array_extended(h.listed_identifiers, 0) = hash_array_extended(d.listed_identifiers, 0)
WHERE $5::boolean;

-- name: next_chosen
-- The next of a sync's chosen SKUs, by name.
SELECT k.sku FROM stockrelay.sync_sku AS k WHERE k.run_id = $1 AND k.sku > $2 ORDER BY k.sku LIMIT $3;

-- name: missing
-- Those of the SKUs $2 that are not among a sync's chosen ones.
SELECT s.sku FROM unnest($2::text[]) AS s (sku)
WHERE NOT EXISTS (SELECT FROM stockrelay.sync_sku AS k WHERE k.run_id = $1 AND k.sku = s.sku) ORDER BY s.sku;

-- name: is_of_sync
-- Whether a SKU of the ledger (e) belongs to a sync (r).
(r.filter IS NULL OR EXISTS (SELECT FROM stockrelay.sync_sku AS k WHERE k.run_id = r.id AND k.sku = e.sku))

-- name: mark_sync
-- Queues SKUs for a sync: $2 is when the sync was opened, $3 what the listing says of them. Not those that are parked, in
-- flight, or acknowledged since. A SKU that is not urgent and was never acknowledged is no longer due: it goes with the sync,
-- not in a call of its own.
WITH listed AS (
    SELECT * FROM jsonb_to_recordset($3::jsonb) AS r (sku text, rows integer, identifiers text[], quantity integer)
), marked AS (
    INSERT INTO stockrelay.ledger AS d
        (channel, sku, want_seq, listed_rows, listed_identifiers, listed_quantity, unacked_since, sync_at)
    SELECT $1, l.sku, nextval('stockrelay.want_seq'), l.rows, l.identifiers, l.quantity, clock_timestamp(), $2
    FROM listed AS l ORDER BY l.sku
    ON CONFLICT (channel, sku) DO UPDATE SET
        sync_at = greatest(excluded.sync_at, d.retry_at),
        first_dirty_at = CASE WHEN d.urgent OR d.acked_at IS NOT NULL THEN d.first_dirty_at END,
        due_at = CASE WHEN d.urgent OR d.acked_at IS NOT NULL THEN d.due_at END
    WHERE d.sync_at IS NULL AND d.parked_at IS NULL AND d.attempt_id IS NULL
          AND (d.acked_at IS NULL OR d.acked_at < excluded.sync_at)
    RETURNING 1
)
SELECT count(*) FROM marked;

-- name: end_marking
-- All of the listing has been marked.
UPDATE stockrelay.sync_run AS r SET state = 'sending', listed = $2, total = (
    SELECT count(*) FROM stockrelay.ledger AS e
    WHERE e.channel = r.channel AND @is_of_sync@
    AND (e.sync_at IS NOT NULL OR e.attempt_id IS NOT NULL OR e.acked_at >= r.started_at OR e.parked_at >= r.started_at))
WHERE r.id = $1 AND r.state = 'marking';

-- name: sync_progress
-- How far a sync is: `waiting` have not been accepted yet, `confirming` have, and are asked once more after a doubt.
-- `trouble`: why nothing is sent just now.
SELECT r.state = 'finished' AS is_finished, r.total, d.waiting, d.confirming,
       ARRAY(SELECT DISTINCT l.holder FROM stockrelay.lease AS l
             WHERE l.channel = r.channel AND l.holder IS NOT NULL AND l.until >= clock_timestamp()) AS holders,
       CASE WHEN EXISTS (SELECT FROM stockrelay.pause AS p WHERE p.channel = r.channel) THEN 'paused by an operator'
            WHEN EXISTS (SELECT FROM stockrelay.guard AS g WHERE g.channel = r.channel AND g.cause = 'first')
                THEN 'held by the guard: most quantities are 0; stockrelay release ' || r.channel
            ELSE (SELECT s.trouble FROM stockrelay.channel_state AS s WHERE s.channel = r.channel) END AS trouble
FROM stockrelay.sync_run AS r
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE coalesce(e.acked_at < r.started_at, true)) AS waiting,
           count(*) FILTER (WHERE e.acked_at >= r.started_at) AS confirming
    FROM stockrelay.ledger AS e WHERE e.channel = r.channel AND e.sync_at IS NOT NULL
) AS d
WHERE r.id = $1;

-- name: sync_summary
-- The result of a sync so far: a pass over the channel's rows.
SELECT r.state = 'finished' AS is_finished, r.listed, r.total,
       coalesce(r.finished_at, clock_timestamp()) - r.started_at AS took,
       d.*
FROM stockrelay.sync_run AS r
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE e.acked_at >= r.started_at AND e.parked_at IS NULL) AS accepted,
           count(*) FILTER (WHERE e.parked_at >= r.started_at) AS refused,
           count(*) FILTER (WHERE e.parked_at < r.started_at) AS parked_before,
           count(*) FILTER (WHERE e.held_at IS NOT NULL AND e.parked_at IS NULL) AS held,
           count(*) FILTER (WHERE e.doubt_at IS NOT NULL AND e.parked_at IS NULL) AS in_doubt,
           count(*) FILTER (WHERE e.sync_at IS NOT NULL AND coalesce(e.acked_at < r.started_at, true)) AS left
    FROM stockrelay.ledger AS e WHERE e.channel = r.channel AND @is_of_sync@
) AS d
WHERE r.id = $1;

-- name: sync_rows
-- What has become of a sync's SKUs so far, the next $3 after $2 by name.
SELECT e.sku, coalesce(e.identifiers, e.listed_identifiers, '{}') AS identifiers, e.acked_quantity AS quantity,
       CASE WHEN e.parked_at >= r.started_at THEN 'refused'
            WHEN e.parked_at IS NOT NULL THEN 'parked before'
            WHEN e.held_at IS NOT NULL THEN 'held by the guard'
            WHEN e.sync_at IS NOT NULL AND coalesce(e.acked_at < r.started_at, true) THEN 'left'
            WHEN e.doubt_at IS NOT NULL THEN 'in doubt'
            WHEN e.acked_at >= r.started_at THEN 'accepted'
            ELSE 'not sent' END AS result,
       e.parked_reason AS reason
FROM stockrelay.sync_run AS r JOIN stockrelay.ledger AS e ON e.channel = r.channel AND e.sku > $2 AND @is_of_sync@
WHERE r.id = $1 ORDER BY e.sku LIMIT $3;

-- name: sync_reasons
-- Why SKUs were parked since a sync was opened, the most frequent reasons first.
SELECT e.parked_reason AS reason, count(*) AS skus, min(e.sku) AS sku
FROM stockrelay.sync_run AS r JOIN stockrelay.ledger AS e ON e.channel = r.channel AND e.parked_at >= r.started_at
WHERE r.id = $1 AND @is_of_sync@ GROUP BY e.parked_reason ORDER BY count(*) DESC, min(e.sku) LIMIT $2;

-- name: sync_before
-- What a sync would find: how many SKUs are parked, and since when one is open.
SELECT (SELECT count(*) FROM stockrelay.ledger AS e WHERE e.channel = $1 AND e.parked_at IS NOT NULL) AS parked,
       (SELECT r.started_at FROM stockrelay.sync_run AS r WHERE r.channel = $1 AND r.state <> 'finished') AS open_since;
