-- name: start_schedule
-- A channel is reconciled from now on.
INSERT INTO stockrelay.reconcile_since (channel) VALUES ($1) ON CONFLICT DO NOTHING;

-- name: schedule_state
-- What the schedule needs to know of a channel: since when it is reconciled, its newest planned day, what is not over.
SELECT clock_timestamp() AS now, s.since,
       (SELECT max(r.day) FROM stockrelay.reconcile_run AS r WHERE r.channel = s.channel AND r.kind = 'scheduled') AS last
FROM stockrelay.reconcile_since AS s WHERE s.channel = $1;

-- name: open_days
-- Scheduled runs that are not over, with why not.
SELECT r.day, r.planned_at, r.began_at IS NOT NULL AS has_begun, r.why FROM stockrelay.reconcile_run AS r
WHERE r.channel = $1 AND r.kind = 'scheduled' AND r.state = 'running' ORDER BY r.day;

-- name: plan_days
-- Days that are due get their runs; a day has one, whichever replica sees it first.
INSERT INTO stockrelay.reconcile_run (channel, day, kind)
SELECT $1, d.day, 'scheduled' FROM unnest($2::date[]) AS d (day) ORDER BY d.day
ON CONFLICT DO NOTHING RETURNING day;

-- name: supersede
-- A newer read-back replaces older ones that have no holder; what those have read is deleted.
WITH gone AS (
    UPDATE stockrelay.reconcile_run SET state = 'superseded', ended_at = clock_timestamp()
    WHERE channel = $1 AND kind = 'scheduled' AND state = 'running' AND day < $2 AND until < clock_timestamp()
    RETURNING run_id
), findings AS (
    DELETE FROM stockrelay.reconcile_finding AS f USING gone AS g WHERE f.run_id = g.run_id
)
DELETE FROM stockrelay.reconcile_read AS d USING gone AS g WHERE d.run_id = g.run_id;

-- name: take
-- Takes the oldest scheduled run that is not over, unless it has a holder or waits: days are done in order.
UPDATE stockrelay.reconcile_run AS r SET
    holder = $2, epoch = r.epoch + 1, until = clock_timestamp() + $3::interval, began_at = coalesce(r.began_at, clock_timestamp()),
    retry_at = NULL
WHERE r.run_id = (SELECT o.run_id FROM stockrelay.reconcile_run AS o
                  WHERE o.channel = $1 AND o.kind = 'scheduled' AND o.state = 'running' ORDER BY o.day LIMIT 1)
AND r.state = 'running' AND r.until < clock_timestamp() AND coalesce(r.retry_at <= clock_timestamp(), true)
RETURNING r.*, clock_timestamp() - r.began_at AS age;

-- name: take_by_hand
-- Resumes a run of that day that has stopped: a scheduled one first, or one that was begun by hand within a day.
UPDATE stockrelay.reconcile_run AS r SET
    holder = $2, epoch = r.epoch + 1, until = clock_timestamp() + $3::interval, began_at = coalesce(r.began_at, clock_timestamp()),
    retry_at = NULL
WHERE r.run_id = (SELECT o.run_id FROM stockrelay.reconcile_run AS o
                  WHERE o.channel = $1 AND o.day = $4 AND o.state = 'running' AND o.until < clock_timestamp()
                  AND o.kind IN ('scheduled', 'manual')
                  AND (o.kind = 'scheduled' OR o.planned_at > clock_timestamp() - interval '1 day')
                  ORDER BY o.kind = 'scheduled' DESC, o.run_id DESC LIMIT 1)
AND r.state = 'running' AND r.until < clock_timestamp()
RETURNING r.*, clock_timestamp() - r.began_at AS age;

-- name: begin_by_hand
-- A run by hand ($5 manual or dry), beside the scheduled ones.
INSERT INTO stockrelay.reconcile_run AS r (channel, day, kind, holder, epoch, until, began_at)
VALUES ($1, $4, $5, $2, 1, clock_timestamp() + $3::interval, clock_timestamp())
RETURNING r.*, interval '0' AS age;

-- name: hold
-- Keeps a run; no row: another has it.
UPDATE stockrelay.reconcile_run SET until = clock_timestamp() + $4::interval
WHERE run_id = $1 AND holder = $2 AND epoch = $3 AND state = 'running' RETURNING run_id;

-- name: release
-- Lets another go on with a run at once.
UPDATE stockrelay.reconcile_run SET holder = NULL, until = '-infinity'
WHERE run_id = $1 AND holder = $2 AND epoch = $3 AND state = 'running';

-- name: postpone
-- The marketplace gave no answer: tried again later.
UPDATE stockrelay.reconcile_run SET
    holder = NULL, until = '-infinity', tries = tries + 1, retry_at = clock_timestamp() + $4::interval, why = $5
WHERE run_id = $1 AND holder = $2 AND epoch = $3 AND state = 'running';

-- name: set_method
-- How the run verifies.
UPDATE stockrelay.reconcile_run SET method = $2 WHERE run_id = $1;

-- name: set_total
-- How many products the marketplace has; $3: it has said another number before.
UPDATE stockrelay.reconcile_run SET total = $2, is_shifted = $3 WHERE run_id = $1;

-- name: set_stage
-- One look is over: its result.
UPDATE stockrelay.reconcile_run SET stage = $2, checked = $3, unsettled = $4, parked = $5, why = $6 WHERE run_id = $1;

-- name: day_count
-- How many SKUs changed on the day, as in `day_skus`.
SELECT count(*) FROM (
    SELECT a.sku FROM stockrelay.attempt AS a WHERE a.channel = $1 AND a.at >= $2 AND coalesce(a.since, a.at) < $3
    UNION
    SELECT d.sku FROM stockrelay.ledger AS d WHERE d.channel = $1 AND d.unacked_since < $3
    UNION
    SELECT f.sku FROM stockrelay.difference AS f WHERE f.channel = $1 AND f.state = 'open' AND f.class <> 'missing_in_listing'
) AS s;

-- name: day_skus
-- The next SKUs, by name, that changed on the day from $2 to $3: attempted since it began for a change that is older than
-- its end, or still waiting. Those of open differences come with them, since they may be over. The ledger, where few rows
-- wait, is read no further than the attempts reach: all chunks together read it once.
WITH attempted AS MATERIALIZED (
    SELECT DISTINCT a.sku FROM stockrelay.attempt AS a
    WHERE a.channel = $1 AND a.sku > $4 AND a.at >= $2 AND coalesce(a.since, a.at) < $3 ORDER BY a.sku LIMIT $5
), bound AS MATERIALIZED (
    SELECT CASE WHEN count(*) = $5 THEN max(t.sku) END AS sku FROM attempted AS t
)
SELECT s.sku FROM (
    SELECT t.sku FROM attempted AS t
    UNION
    (SELECT d.sku FROM stockrelay.ledger AS d
     WHERE d.channel = $1 AND d.sku > $4 AND d.sku <= (SELECT b.sku FROM bound AS b) AND d.unacked_since < $3
     ORDER BY d.sku LIMIT $5)
    UNION
    (SELECT d.sku FROM stockrelay.ledger AS d
     WHERE (SELECT b.sku FROM bound AS b) IS NULL AND d.channel = $1 AND d.sku > $4 AND d.unacked_since < $3
     ORDER BY d.sku LIMIT $5)
    UNION
    (SELECT DISTINCT f.sku FROM stockrelay.difference AS f
     WHERE f.channel = $1 AND f.sku > $4 AND f.state = 'open' AND f.class <> 'missing_in_listing' ORDER BY f.sku LIMIT $5)
) AS s ORDER BY s.sku LIMIT $5;

-- name: settled
-- Whether the ledger's row (e) says what the marketplace holds, and the listing (o) still says the same. $3: how long the
-- number must have been acknowledged before the marketplace is asked.
e.sku IS NOT NULL AND e.attempt_id IS NULL AND e.doubt_at IS NULL AND coalesce(e.due_at, e.sync_at) IS NULL
       AND e.want_seq <= e.acked_seq
       AND e.identifiers = o.identifiers AND e.acked_quantity = o.quantity
       AND coalesce(e.acked_at, '-infinity') <= @asked_at@ - $3::interval

-- name: rows
-- What the listing says of these SKUs now, and whether the marketplace must have it by now.
WITH listed AS (
@listed@
)
SELECT o.sku, coalesce(o.identifiers, '{}') AS identifiers, o.quantity, o.rows > 0 AND coalesce(o.carrier = o.sku, true) AS is_listed, e.parked_at IS NOT NULL OR o.rows > 1 AS is_parked,
       coalesce(@settled@, false) AS is_settled
FROM (SELECT s.sku, coalesce(l.rows, 0) AS rows, l.identifiers, CASE WHEN l.rows = 1 THEN l.quantity END AS quantity,
             l.carrier
      FROM unnest($2::text[]) AS s (sku) LEFT JOIN listed AS l ON l.sku = s.sku) AS o
LEFT JOIN stockrelay.ledger AS e ON e.channel = $1 AND e.sku = o.sku
ORDER BY o.sku;

-- name: progress
-- How far a look has come.
SELECT coalesce(max(c.chunk), 0) AS chunk, max(c.last_sku) AS last_sku, coalesce(sum(c.asked), 0) AS asked,
       coalesce(sum(c.unsettled), 0) AS unsettled, coalesce(sum(c.parked), 0) AS parked, coalesce(sum(c.calls), 0) AS calls,
       coalesce(sum(c.products), 0) AS products, coalesce(sum(c.set_aside), 0) AS set_aside
FROM stockrelay.reconcile_chunk AS c WHERE c.run_id = $1 AND c.look = $2;

-- name: note_chunk
-- What the marketplace answered for one chunk.
INSERT INTO stockrelay.reconcile_chunk
    (run_id, look, chunk, first_sku, last_sku, asked, state, unsettled, parked, suspects, words, calls, products, empty, set_aside, at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, clock_timestamp() - $16::interval)
ON CONFLICT DO NOTHING;

-- name: differing_chunks
-- Chunks of the first look that are to be looked at once more, in order.
SELECT c.chunk, c.suspects, c.words, c.state = 'differs' AS is_named FROM stockrelay.reconcile_chunk AS c
WHERE c.run_id = $1 AND c.look = 1 AND c.state IN ('differs', 'unnamed')
AND NOT EXISTS (SELECT FROM stockrelay.reconcile_chunk AS s WHERE s.run_id = $1 AND s.look = 2 AND s.chunk = c.chunk)
ORDER BY c.chunk LIMIT $2;

-- name: unnamed_chunks
-- Chunks that differ, without a SKU named.
SELECT c.chunk, c.suspects, c.words, false AS is_named FROM stockrelay.reconcile_chunk AS c
WHERE c.run_id = $1 AND c.look = 2 AND c.state = 'unnamed' ORDER BY c.chunk;

-- name: note_findings
-- SKUs that differ.
INSERT INTO stockrelay.reconcile_finding (run_id, look, class, sku, differs, ours)
SELECT $1, 2, $2, f.sku, true, f.ours FROM unnest($3::text[], $4::integer[]) AS f (sku, ours) ON CONFLICT DO NOTHING;

-- name: note_agreed
-- SKUs that agree and have an open difference.
INSERT INTO stockrelay.reconcile_finding (run_id, look, class, sku, differs)
SELECT $1, 2, d.class, d.sku, false FROM stockrelay.difference AS d
WHERE d.channel = $2 AND d.state = 'open' AND d.sku = ANY ($3::text[]) AND d.class <> 'missing_in_listing'
ON CONFLICT DO NOTHING;

-- name: drop_page
-- A page that is read once more replaces what it was.
DELETE FROM stockrelay.reconcile_read WHERE run_id = $1 AND page = $2;

-- name: keep_page
-- One page's numbers.
INSERT INTO stockrelay.reconcile_read (run_id, page, product_id, identifier, quantity, is_used)
SELECT $1, $2, p.product_id, p.identifier, p.quantity, p.is_used
FROM unnest($3::text[], $4::text[], $5::integer[], $6::boolean[]) AS p (product_id, identifier, quantity, is_used);

-- name: drop_pages_after
-- Pages beyond the last one.
DELETE FROM stockrelay.reconcile_read WHERE run_id = $1 AND page > $2;

-- name: count_ledger_skus
-- How many SKUs of a channel the ledger has.
SELECT count(*) FROM stockrelay.ledger AS d WHERE d.channel = $1;

-- name: without_identifier
-- Numbers on sale at the marketplace without an identifier of ours, and the first $2 of their products.
SELECT count(*) AS skus, coalesce((array_agg(DISTINCT r.product_id))[1:$2], '{}') AS products
FROM stockrelay.reconcile_read AS r
WHERE r.run_id = $1 AND r.identifier IS NULL AND r.is_used AND coalesce(r.quantity, 1) > 0;

-- name: count_read
-- How many numbers of a run are kept (a crash of the server empties the table), and of how many products, also those without
-- a SKU.
SELECT count(*) AS numbers,
       count(DISTINCT r.product_id) + (
           SELECT coalesce(sum(c.empty), 0) FROM stockrelay.reconcile_chunk AS c WHERE c.run_id = $1 AND c.look = $2) AS products
FROM stockrelay.reconcile_read AS r WHERE r.run_id = $1;

-- name: forget_looks
-- Begins a read-back anew.
WITH chunks AS (DELETE FROM stockrelay.reconcile_chunk WHERE run_id = $1),
     findings AS (DELETE FROM stockrelay.reconcile_finding WHERE run_id = $1)
DELETE FROM stockrelay.reconcile_read WHERE run_id = $1;

-- name: judge
-- Compares what was read back with listing and ledger, all of it inside the server. $2: the run; $3: as for `settled`; $4:
-- the look; $5: whether every page was read, because only then is what was not seen not there.
-- A product that moved from one page to another while they were read is on both and is not a duplicate; when its numbers
-- differ, it is not judged.
WITH listed AS (
@listed@
), o AS (
    SELECT l.sku, l.identifiers, l.identifiers[1] AS identifier, l.rows, CASE WHEN l.rows = 1 THEN l.quantity END AS quantity,
           count(*) OVER (PARTITION BY l.identifiers[1]) AS twins
    FROM listed AS l WHERE l.rows > 0 AND coalesce(l.carrier = l.sku, true)
), asked AS (
    SELECT c.chunk AS page, max(c.at) AS at FROM stockrelay.reconcile_chunk AS c WHERE c.run_id = $2 GROUP BY c.chunk
), begun AS (
    SELECT min(a.at) AS at FROM asked AS a
), read_back AS (
    SELECT r.identifier, min(a.at) AS asked_at, min(r.quantity) AS quantity, max(r.quantity) AS most, min(r.page) AS page,
           count(*) > 1 AND (min(r.product_id) <> max(r.product_id) OR min(r.page) = max(r.page)) AS is_twice,
           bool_or(r.quantity IS NULL) AS is_unreadable, coalesce(bool_or(r.is_used AND r.quantity > 0), false) AS is_sold
    FROM stockrelay.reconcile_read AS r JOIN asked AS a ON a.page = r.page
    WHERE r.run_id = $2 AND r.identifier IS NOT NULL GROUP BY r.identifier
), judged AS MATERIALIZED (
    SELECT o.sku, o.quantity AS ours, h.quantity AS theirs, h.page, coalesce(@settled@, false) AS is_settled,
           e.parked_at IS NOT NULL OR o.rows > 1 AS is_parked,
           CASE WHEN o.twins > 1 OR h.is_twice THEN 'duplicated_id'
                WHEN h.identifier IS NULL THEN CASE WHEN $5 THEN 'unknown_at_marketplace' ELSE 'unread' END
                WHEN h.is_unreadable THEN 'marketplace_differs'
                WHEN h.quantity <> h.most THEN 'unread'
                WHEN h.quantity <> o.quantity THEN 'marketplace_differs' END AS class
    FROM o LEFT JOIN read_back AS h ON h.identifier = o.identifier
    LEFT JOIN stockrelay.ledger AS e ON e.channel = $1 AND e.sku = o.sku
), unlisted AS MATERIALIZED (
    -- Sold there, and neither listed here nor on its way out. Where the channel's `only` leaves SKUs out, nothing is known of
    -- what else is sold there.
    SELECT h.identifier AS sku, h.quantity AS theirs, h.page
    FROM read_back AS h
    WHERE @is_whole@ AND h.is_sold AND NOT EXISTS (SELECT FROM o WHERE o.identifier = h.identifier)
    AND NOT EXISTS (SELECT FROM stockrelay.ledger AS e WHERE e.channel = $1 AND e.identifiers[1] = h.identifier)
), found AS (
    INSERT INTO stockrelay.reconcile_finding (run_id, look, class, sku, differs, ours, theirs, page)
    SELECT $2::bigint, $4::smallint, j.class, j.sku, true, j.ours, j.theirs, j.page FROM judged AS j
    WHERE j.is_settled AND NOT j.is_parked AND j.class <> 'unread'
    UNION ALL
    SELECT $2::bigint, $4::smallint, 'missing_in_listing', s.sku, true, NULL::integer, s.theirs, s.page FROM unlisted AS s
    UNION ALL
    -- Open differences of which this look shows the end.
    SELECT $2::bigint, $4::smallint, d.class, d.sku, false, j.ours, j.theirs, j.page
    FROM stockrelay.difference AS d
    LEFT JOIN judged AS j ON j.sku = d.sku AND d.class <> 'missing_in_listing'
    WHERE d.channel = $1 AND d.state = 'open' AND CASE
        WHEN d.class = 'missing_in_listing' THEN @is_whole@ AND NOT EXISTS (SELECT FROM unlisted AS s WHERE s.sku = d.sku)
            AND ($5 OR EXISTS (SELECT FROM read_back AS h WHERE h.identifier = d.sku) OR EXISTS (SELECT FROM o WHERE o.identifier = d.sku))
        WHEN j.sku IS NULL THEN true
        ELSE j.is_settled AND NOT j.is_parked AND j.class IS DISTINCT FROM d.class AND j.class IS DISTINCT FROM 'unread' END
    ON CONFLICT DO NOTHING
    RETURNING differs
)
SELECT (SELECT count(*) FROM judged AS j WHERE j.is_settled AND NOT j.is_parked AND j.class IS DISTINCT FROM 'unread') AS checked,
       (SELECT count(*) FROM judged AS j WHERE NOT j.is_settled AND NOT j.is_parked) AS unsettled,
       (SELECT count(*) FROM judged AS j WHERE j.is_parked) AS parked,
       (SELECT count(*) FROM found AS f WHERE f.differs) AS differing;

-- name: count_in_flight_or_recent
-- How many SKUs of a channel are due, in flight or in doubt, or were acknowledged within $2. What is decided in shadow (due
-- at 'infinity') is not about to be sent.
SELECT count(*) FROM stockrelay.ledger AS d
WHERE d.channel = $1 AND d.parked_at IS NULL AND d.held_at IS NULL
AND (coalesce(d.due_at, d.sync_at) < 'infinity' OR d.attempt_id IS NOT NULL OR d.doubt_at IS NOT NULL OR d.acked_at > statement_timestamp() - $2::interval);

-- name: forget_look
-- A look is judged anew.
DELETE FROM stockrelay.reconcile_finding WHERE run_id = $1 AND look >= $2;

-- name: suspect_pages
-- The pages on which something differs, that have not been read again.
SELECT DISTINCT f.page FROM stockrelay.reconcile_finding AS f
WHERE f.run_id = $1 AND f.look = 1 AND f.differs AND f.page IS NOT NULL
AND NOT EXISTS (SELECT FROM stockrelay.reconcile_chunk AS c WHERE c.run_id = $1 AND c.look = 2 AND c.chunk = f.page)
ORDER BY f.page;

-- name: has_news_of_absence
-- Whether a SKU is newly missing at the marketplace: only reading everything again can confirm that.
SELECT EXISTS (
    SELECT FROM stockrelay.reconcile_finding AS f
    WHERE f.run_id = $1 AND f.look = 1 AND f.differs AND f.class = 'unknown_at_marketplace'
    AND NOT EXISTS (SELECT FROM stockrelay.difference AS d
                    WHERE d.channel = $2 AND d.sku = f.sku AND d.class = f.class AND d.state = 'open'));

-- name: only_look
-- Nothing differs after the first look: what it says of open differences is final.
UPDATE stockrelay.reconcile_finding SET look = 2 WHERE run_id = $1 AND look = 1;

-- name: keep_both
-- Only what both looks have found is a difference.
DELETE FROM stockrelay.reconcile_finding AS f
WHERE f.run_id = $1 AND f.look = 2 AND f.differs AND NOT EXISTS (
    SELECT FROM stockrelay.reconcile_finding AS e
    WHERE e.run_id = $1 AND e.look = 1 AND e.differs AND e.class = f.class AND e.sku = f.sku);

-- name: next_findings
-- The next findings that this run has not processed, with the differences that they belong to.
SELECT f.class, f.sku, f.differs, f.ours, f.theirs, d.state, d.first_seen, d.last_seen, d.times_seen, d.heals,
       clock_timestamp() AS now
FROM stockrelay.reconcile_finding AS f
LEFT JOIN stockrelay.difference AS d ON d.channel = $2 AND d.class = f.class AND d.sku = f.sku
WHERE f.run_id = $1 AND f.look = 2 AND (f.class, f.sku) > ($3, $4) AND d.last_run IS DISTINCT FROM $1
ORDER BY f.class, f.sku LIMIT $5;

-- name: keep_differences
-- Keeps differences as this run leaves them.
INSERT INTO stockrelay.difference AS d
    (channel, class, sku, state, ours, theirs, first_seen, last_seen, times_seen, heals, last_run, last_status)
SELECT $1, r.class, r.sku, r.state, r.ours, r.theirs, r.first_seen, r.last_seen, r.times_seen, r.heals, $2, r.status
FROM jsonb_to_recordset($3::jsonb) AS r (class text, sku text, state text, ours integer, theirs integer,
    first_seen timestamptz, last_seen timestamptz, times_seen integer, heals integer, status text)
ON CONFLICT (channel, sku, class) DO UPDATE SET
    state = excluded.state, ours = excluded.ours, theirs = excluded.theirs, first_seen = excluded.first_seen,
    last_seen = excluded.last_seen, times_seen = excluded.times_seen, heals = excluded.heals,
    last_run = excluded.last_run, last_status = excluded.last_status;

-- name: reassert
-- Sends these numbers again, also acknowledged ones: $3 a second, beginning with the $4-th, so that new changes do not
-- wait behind them; zeroes at once. What is parked or in flight is left alone.
UPDATE stockrelay.ledger AS d SET
    doubt_at = coalesce(d.doubt_at, n.now), doubt_until = coalesce(d.doubt_until, n.now),
    unacked_since = coalesce(d.unacked_since, n.now), urgent = d.urgent OR coalesce(d.acked_quantity = 0, false),
    due_at = least(d.due_at, n.now + CASE WHEN d.acked_quantity = 0 THEN interval '0'
                                          ELSE make_interval(secs => ($4::bigint + n.place) / $3::float8) END)
FROM (SELECT s.sku, s.place, clock_timestamp() AS now FROM unnest($2::text[]) WITH ORDINALITY AS s (sku, place)) AS n
WHERE d.channel = $1 AND d.sku = n.sku AND d.parked_at IS NULL AND d.attempt_id IS NULL
RETURNING d.sku;

-- name: add_healed
-- Counts numbers that a run sends again; returns how many there were before these.
UPDATE stockrelay.reconcile_run SET healed = healed + $2 WHERE run_id = $1 RETURNING healed - $2 AS before;

-- name: age
-- Differences that no run has seen for $2 are not open any more.
UPDATE stockrelay.difference SET state = 'aged'
WHERE channel = $1 AND state = 'open' AND last_seen < clock_timestamp() - $2::interval AND last_run <> $3;

-- name: count_by_status
-- The run's differences by status: how many, how many of them are listed, and how many could be sent again: those of the
-- classes $3 that were sent again less than $4 times.
SELECT d.last_status AS status, count(*) AS many, count(*) FILTER (WHERE d.class <> 'missing_in_listing') AS listed,
       count(*) FILTER (WHERE d.class = ANY ($3::text[]) AND d.heals < $4) AS healable
FROM stockrelay.difference AS d WHERE d.channel = $2 AND d.last_run = $1 GROUP BY d.last_status;

-- name: counts
-- A run in numbers.
SELECT r.checked, r.unsettled, r.parked, r.healed FROM stockrelay.reconcile_run AS r WHERE r.run_id = $1;

-- name: list_by_status
-- The first of one status, for the digest and the table.
SELECT d.class, d.sku, d.ours, d.theirs, d.first_seen, d.times_seen, d.heals FROM stockrelay.difference AS d
WHERE d.channel = $2 AND d.last_run = $1 AND d.last_status = $3 ORDER BY d.class, d.sku LIMIT $4;

-- name: finish
-- The run is over.
UPDATE stockrelay.reconcile_run SET
    state = $4, ended_at = clock_timestamp(), holder = NULL, until = '-infinity', retry_at = NULL, why = $5, report = $6::text::jsonb
WHERE run_id = $1 AND holder = $2 AND epoch = $3 AND state = 'running' RETURNING run_id;

-- name: tidy_run
-- Deletes what a run needed only while it ran.
WITH findings AS (DELETE FROM stockrelay.reconcile_finding WHERE run_id = $1)
DELETE FROM stockrelay.reconcile_read WHERE run_id = $1;

-- name: drop_run
-- A dry run leaves nothing behind.
WITH reads AS (DELETE FROM stockrelay.reconcile_read WHERE run_id = $1)
DELETE FROM stockrelay.reconcile_run WHERE run_id = $1;

-- name: tidy_old
-- Deletes old runs, and runs by hand that were abandoned.
WITH gone AS (
    DELETE FROM stockrelay.reconcile_run AS r
    WHERE r.channel = $1 AND ((r.ended_at < clock_timestamp() - $2::interval AND r.day < (clock_timestamp() - interval '40 days')::date)
        OR (r.kind <> 'scheduled' AND r.state = 'running' AND greatest(r.until, r.planned_at) < clock_timestamp() - interval '1 day'))
    RETURNING r.run_id
)
DELETE FROM stockrelay.reconcile_read AS d USING gone AS g WHERE d.run_id = g.run_id;
