-- name: listed
-- The operator's listing, one row per SKU. `number` is the quantity as the listing has it; `quantity` is what may be sent:
-- rounded down, 0 at least, and NULL for NULL, NaN, infinity and numbers above the channel's `max_quantity`. `identifiers` is
-- NULL where a database that is not UTF-8 has characters that the daemon can't read. The other columns: see `summed`.
    SELECT x.sku, x.rows, x.identifiers, x.number, NULL::text AS carrier, NULL::text AS lacks, NULL::integer AS lacks_rows,
           CASE WHEN x.number > '-Infinity' AND x.number < @max_quantity@::numeric + 1
                THEN greatest(floor(x.number), 0)::integer END AS quantity
    FROM (
        SELECT l.sku::text AS sku, (count(*)@chosen@)::integer AS rows,
               min(CASE WHEN @are_identifiers_readable@ THEN ARRAY[@identifiers@]::text[] END)@chosen@ AS identifiers,
               min(@number@)@chosen@ AS number
        FROM (
@listing@
        ) AS l
        -- Longer ones do not fit an index; see `refused_skus`.
        WHERE octet_length(l.sku::text) <= 1000 AND @is_sku_readable@@only@@named@
        GROUP BY l.sku::text
    ) AS x

-- name: only_some
-- Restricts the listing to the SKUs asked for; the planner carries it down into the operator's query.
 AND l.sku::text = ANY ($2::text[])

-- name: named
-- Whether a SKU is one of those that the channel's `only` names.
@sku@ = ANY (@skus@::text[])

-- name: if_chosen
-- Restricts an aggregate to the rows for which the channel's `only_where` is true.
FILTER (WHERE (
@where@
) IS TRUE)

-- name: chosen
-- The rows of the listing that the channel's `only` and `only_where` do not leave out.
SELECT l.* FROM (
@listing@
) AS l WHERE @named@ AND (
@where@
) IS TRUE;

-- name: listed_some
-- The same, run by the server when the statement is run (see stockrelay.listed).
    SELECT a.sku, a.rows, a.identifiers, a.number, NULL::text AS carrier, NULL::text AS lacks, NULL::integer AS lacks_rows, a.quantity
    FROM stockrelay.listed(@portion@, $2::text[]) AS a

-- name: listed_whole
-- The same for all of it.
    SELECT a.sku, a.rows, a.identifiers, a.number, NULL::text AS carrier, NULL::text AS lacks, NULL::integer AS lacks_rows, a.quantity
    FROM stockrelay.listed_whole(@portion@) AS a

-- name: listed_apart
-- The same for a listing that fails on some rows: those SKUs have one row, with a `fault` and no identifiers or quantity.
    SELECT a.sku, a.rows, a.identifiers, a.number, NULL::text AS carrier, NULL::text AS lacks, NULL::integer AS lacks_rows, a.quantity, a.fault
    FROM stockrelay.listed_apart(@channel@, @portion@, @names@, @wanted@, current_setting('search_path'), @membership@) AS a

-- name: membership
-- The same columns for some SKUs, with nothing in them but how many rows of a SKU are chosen.
SELECT l.sku::text AS sku, (count(*)@chosen@)::integer AS rows, NULL::text[] AS identifiers, NULL::numeric AS number,
       NULL::integer AS quantity
FROM (
@listing@
) AS l WHERE l.sku::text = ANY ($2::text[]) GROUP BY l.sku::text;

-- name: summed
-- The listing where SKUs with the same identifiers are sold as one. The first of them by name, their `carrier`, has the sum,
-- and the others have no number. If the quantity of one of them can't be sent, there is no sum: `lacks` names that SKU, all
-- of them have its `number`, and `lacks_rows` is how many rows it has. They also share a sum that is too large as their
-- `number`. Where only some SKUs are read, $2 must contain all that share their identifiers.
    SELECT s.sku, s.rows, s.identifiers, s.number, s.carrier, s.lacks, s.lacks_rows,
           CASE WHEN s.number > '-Infinity' AND s.number < @max_quantity@::numeric + 1
                THEN greatest(floor(s.number), 0)::integer END AS quantity@fault@
    FROM (
        SELECT l.sku, l.rows, l.identifiers, c.carrier@l_fault@,
               CASE WHEN c.carrier IS NOT NULL AND l.has_unsendable THEN l.worst_sku END AS lacks,
               CASE WHEN c.carrier IS NOT NULL AND l.has_unsendable THEN l.worst_rows END AS lacks_rows,
               CASE WHEN c.carrier IS NULL THEN l.number
                    WHEN l.has_unsendable THEN CASE WHEN l.worst_rows = 1 THEN l.worst_number END
                    WHEN c.carrier = l.sku OR l.sum >= @max_quantity@::numeric + 1 THEN l.sum END AS number
        FROM (SELECT r.*, count(*) OVER w AS skus, sum(r.number) OVER w AS sum, min(r.sku COLLATE "C") OVER w AS first,
                     bool_or(r.is_unsendable) OVER w AS has_unsendable, first_value(r.sku) OVER worst AS worst_sku,
                     first_value(r.rows) OVER worst AS worst_rows, first_value(r.number) OVER worst AS worst_number
              FROM (SELECT o.*, o.rows <> 1 OR (o.number > '-Infinity' AND o.number < @max_quantity@::numeric + 1) IS NOT TRUE
                                AS is_unsendable
                    FROM (
@listed@
                    ) AS o) AS r
              WINDOW w AS (PARTITION BY r.identifiers), worst AS (w ORDER BY r.is_unsendable DESC, r.sku COLLATE "C")) AS l
        CROSS JOIN LATERAL (
            SELECT CASE WHEN l.skus > 1 AND l.identifiers IS NOT NULL AND array_position(l.identifiers, NULL) IS NULL
                        AND array_position(l.identifiers, '') IS NULL THEN l.first END AS carrier
        ) AS c
    ) AS s

-- name: listed_names
-- All SKUs of the listing. The server computes no other column for it, as a rule.
SELECT l.sku::text AS sku FROM (
@listing@
) AS l WHERE octet_length(l.sku::text) <= 1000 AND @is_sku_readable@

-- name: refused_skus
-- Some of the listing's SKUs that the ledger can't hold, cut or escaped, and how many there are.
SELECT left(x.sku, 60) AS sku, x.is_readable, count(*) OVER () AS many FROM (
    SELECT DISTINCT r.is_readable, CASE WHEN r.is_readable THEN l.sku::text
           ELSE encode(convert_to(l.sku::text, getdatabaseencoding()), 'escape') END AS sku
    FROM (
@listing@
    ) AS l CROSS JOIN LATERAL (SELECT @is_sku_readable@ AS is_readable) AS r
    WHERE octet_length(l.sku::text) > 1000 OR NOT r.is_readable
) AS x ORDER BY x.is_readable, x.sku LIMIT 20;

-- name: is_readable
-- Whether the daemon can read this text: any, in a UTF-8 database.
((SELECT getdatabaseencoding() = 'UTF8') OR stockrelay.is_readable(@text@))

-- name: left_out
-- Rows of SKUs that the channel's `only` leaves out are forgotten, whatever they wait for; the marketplace keeps its number.
-- One that is in flight, or of which an attempt may still land, is forgotten when that is over: it becomes due, and a claim
-- decides. The guard's counts of the channel begin anew.
, left_out AS MATERIALIZED (
    SELECT e.sku, e.listed_identifiers AS identifiers, stockrelay.segment(e, clock_timestamp()) AS segment FROM dirty AS d LEFT JOIN listed AS l ON l.sku = d.sku
    JOIN stockrelay.ledger AS e ON e.channel = $1 AND e.sku = d.sku
    WHERE @is_left_out@ ORDER BY e.sku FOR UPDATE OF e
), forgotten AS (
    DELETE FROM stockrelay.ledger AS e USING left_out AS o
    WHERE e.channel = $1 AND e.sku = o.sku AND e.attempt_id IS NULL AND coalesce(e.doubt_until <= clock_timestamp(), true)
), ending AS (
    UPDATE stockrelay.ledger AS e SET
        want_seq = nextval('stockrelay.want_seq'), listed_rows = 0, listed_identifiers = NULL, listed_quantity = NULL,
        twins = NULL, duplicates = NULL, first_dirty_at = NULL, urgent = false, sync_at = NULL, zero_at = NULL, held_at = NULL,
        exposed_at = NULL, counted_until = NULL, counted_over = NULL, counted_lost = NULL,
        parked_at = NULL, parked_reason = NULL, unacked_since = coalesce(e.unacked_since, clock_timestamp()),
        due_at = greatest(e.doubt_until, clock_timestamp())
    FROM left_out AS o
    WHERE e.channel = $1 AND e.sku = o.sku AND NOT (e.attempt_id IS NULL AND coalesce(e.doubt_until <= clock_timestamp(), true))
), exposed AS (
    INSERT INTO stockrelay.exposure_log (channel, segments)
    SELECT $1, array_agg(o.segment) FROM left_out AS o WHERE stockrelay.has_exposure(o.segment) HAVING count(*) > 0
), uncounted AS (
    DELETE FROM stockrelay.anomaly AS a USING left_out AS o WHERE a.channel = $1 AND a.sku = o.sku
), recounted AS (
    UPDATE stockrelay.guard AS g SET on_sale = NULL, listed = NULL, counted_at = NULL
    WHERE g.channel = $1 AND EXISTS (SELECT FROM left_out)
)

-- name: left_out_names
-- The identifiers that they give up.
            UNION
            SELECT o.identifiers FROM left_out AS o WHERE $2::text[] IS NOT NULL AND o.identifiers IS NOT NULL

-- name: dirty_some
-- The SKUs that the change log names.
    SELECT s.sku, min(s.at) AS at FROM unnest($2::text[], $10::timestamptz[]) AS s (sku, at) WHERE octet_length(s.sku) <= 1000
    GROUP BY s.sku

-- name: dirty_all
-- A resync: every SKU that the listing or the ledger knows.
    SELECT a.sku, ($10::timestamptz[])[1] AS at FROM (
        SELECT l.sku FROM listed AS l UNION SELECT e.sku FROM stockrelay.ledger AS e WHERE e.channel = $1 AND $2::text[] IS NULL
    ) AS a

-- name: mark
-- Marks the SKUs whose number or identifiers differ from what was sent. $3: the debounce's quiet time; $4: its longest wait;
-- $5: urgent below. $6: a change, which defers rows that wait already, and no resync. $7: whether numbers are guarded: those
-- that fall to zero, rise from zero, or move by the factor $8 are noted, and `anomalies` counts them. $9: whether this may be
-- the channel's first filling. $10: when each of the SKUs $2 changed first, as far as that is known; for a comparison of
-- everything, when the first of all changes was made. A row that is acknowledged meanwhile is marked in vain: its claim finds it settled.
WITH listed AS (
@listed@
), dirty AS (
@dirty@
), target AS (
    SELECT d.sku, coalesce(l.rows, 0) AS rows, l.identifiers, CASE WHEN l.rows = 1 THEN l.quantity END AS quantity, l.carrier, d.at
    FROM dirty AS d LEFT JOIN listed AS l ON l.sku = d.sku
    WHERE NOT (@is_left_out@)
), moved AS (
    SELECT t.*, clock_timestamp() AS now, coalesce(e.listed_rows, 0) AS rows_before, e.listed_identifiers AS identifiers_before
    FROM target AS t LEFT JOIN stockrelay.ledger AS e ON e.channel = $1 AND e.sku = t.sku
    WHERE CASE
        WHEN e.sku IS NULL THEN t.rows > 0
        WHEN e.parked_at IS NOT NULL THEN
            (t.rows, t.identifiers, t.quantity) IS DISTINCT FROM (e.listed_rows, e.listed_identifiers, e.listed_quantity)
        -- In shadow: what would be sent is known, and stays so until the listing says something else.
        WHEN e.due_at = 'infinity' THEN
            (t.rows, t.identifiers, t.quantity) IS DISTINCT FROM (e.listed_rows, e.listed_identifiers, e.listed_quantity)
        -- Waiting already, for its number or for the end of a doubt. A claim may be reading an older number at this moment,
        -- so that a number that is equal here is not the one that is sent. (A comparison of everything leaves a row in the
        -- queue of a sync: its number is read when it is claimed.)
        WHEN e.want_seq > coalesce(e.attempt_seq, e.acked_seq) OR (e.due_at IS NOT NULL AND e.attempt_id IS NULL) THEN
             $6 AND NOT ($2::text[] IS NULL AND e.sync_at IS NOT NULL AND e.due_at IS NULL AND e.attempt_id IS NULL)
             OR CASE WHEN stockrelay.is_zero(t.rows, t.quantity)
                         THEN $7 AND (stockrelay.falls(e) OR (e.held_at IS NOT NULL AND e.zero_at IS NULL))
                     WHEN stockrelay.is_far(stockrelay.last_sent(e), t.quantity, $8)
                          OR stockrelay.is_risen(stockrelay.last_sent(e), t.quantity)
                          OR stockrelay.is_renamed(e, t.rows, t.identifiers)
                         THEN $7 AND (t.quantity IS DISTINCT FROM e.listed_quantity
                                      OR t.identifiers IS DISTINCT FROM e.listed_identifiers)
                     ELSE e.held_at IS NOT NULL END
        -- Another SKU sends this one's number as part of its sum.
        WHEN t.carrier <> t.sku AND coalesce(e.identifiers = t.identifiers, true) AND e.listed_identifiers = t.identifiers
            AND e.attempt_id IS NULL THEN false
        ELSE t.rows <> 1 OR e.identifiers IS DISTINCT FROM t.identifiers
             OR t.quantity IS DISTINCT FROM CASE WHEN e.attempt_id IS NULL THEN e.acked_quantity ELSE e.attempt_quantity END
    END
    ORDER BY t.sku
), marked AS (
    INSERT INTO stockrelay.ledger AS d (
        channel, sku, want_seq, listed_rows, listed_identifiers, listed_quantity, first_dirty_at, unacked_since, due_at, zero_at,
        exposed_at)
    SELECT $1, m.sku, nextval('stockrelay.want_seq'), m.rows, m.identifiers, m.quantity, m.now, m.now,
           stockrelay.debounced(m.now, m.now, $3, $4), CASE WHEN $7 AND m.quantity = 0 THEN m.now END,
           least(m.at, m.now)
    FROM moved AS m
    ON CONFLICT (channel, sku) DO UPDATE SET
        want_seq = excluded.want_seq,
        listed_rows = excluded.listed_rows,
        listed_identifiers = excluded.listed_identifiers,
        listed_quantity = excluded.listed_quantity,
        twins = CASE WHEN stockrelay.is_named_alike(d, excluded) THEN d.twins END,
        duplicates = CASE WHEN stockrelay.is_named_alike(d, excluded) THEN d.duplicates END,
        -- The debounce of a held row starts over.
        first_dirty_at = CASE WHEN d.held_at IS NULL THEN coalesce(d.first_dirty_at, excluded.first_dirty_at)
                              ELSE excluded.first_dirty_at END,
        unacked_since = coalesce(d.unacked_since, excluded.unacked_since),
        exposed_at = CASE WHEN d.exposed_at IS NULL THEN excluded.exposed_at
                          WHEN d.held_at IS NULL AND d.parked_at IS NULL THEN d.exposed_at
                          ELSE stockrelay.log_exposure(d, excluded.exposed_at) END,
        counted_until = CASE WHEN d.exposed_at IS NOT NULL AND d.held_at IS NULL AND d.parked_at IS NULL
                             THEN greatest(d.counted_until, d.exposed_at, excluded.exposed_at) END,
        counted_over = CASE WHEN d.held_at IS NULL AND d.parked_at IS NULL
                            THEN stockrelay.counted(d.counted_over, stockrelay.units_over(d), d, excluded.exposed_at) END,
        counted_lost = CASE WHEN d.held_at IS NULL AND d.parked_at IS NULL
                            THEN stockrelay.counted(d.counted_lost, stockrelay.units_lost(d), d, excluded.exposed_at) END,
        zero_at = CASE WHEN stockrelay.is_zero(excluded.listed_rows, excluded.listed_quantity) THEN
            coalesce(d.zero_at, CASE WHEN $7 AND stockrelay.falls(d) AND NOT stockrelay.stays_parked(d, excluded)
                                     THEN excluded.first_dirty_at END) END,
        held_at = CASE WHEN stockrelay.stays_held(d, excluded.listed_rows, excluded.listed_quantity, excluded.listed_identifiers, $8) THEN d.held_at END,
        urgent = NOT stockrelay.stays_held(d, excluded.listed_rows, excluded.listed_quantity, excluded.listed_identifiers, $8)
            AND (d.urgent OR stockrelay.is_urgent(d, excluded.listed_rows, excluded.listed_quantity, $5)),
        -- A parked SKU stays parked until what was refused changes: its identifiers or its rows.
        parked_at = CASE WHEN stockrelay.stays_parked(d, excluded) THEN d.parked_at END,
        parked_reason = CASE WHEN stockrelay.stays_parked(d, excluded) THEN d.parked_reason END,
        due_at = CASE WHEN stockrelay.stays_parked(d, excluded) THEN NULL
                      WHEN stockrelay.stays_held(d, excluded.listed_rows, excluded.listed_quantity, excluded.listed_identifiers, $8) THEN NULL
                      ELSE greatest(d.retry_at,
            CASE WHEN d.urgent OR stockrelay.is_urgent(d, excluded.listed_rows, excluded.listed_quantity, $5)
                 THEN excluded.first_dirty_at
                 ELSE stockrelay.debounced(coalesce(d.first_dirty_at, excluded.first_dirty_at),
                                           excluded.first_dirty_at, $3, $4) END) END
    RETURNING d.sku, d.urgent, d.listed_rows, d.listed_quantity, d.identifiers IS NULL AS is_new,
              greatest(d.acked_quantity, d.attempt_quantity) AS shown, stockrelay.last_sent(d) AS last_sent,
              coalesce(d.zero_at >= statement_timestamp(), false) AS is_zero,
              $7 AND d.listed_rows = 1 AND d.parked_at IS NULL AND d.held_at IS NULL
                  AND (stockrelay.is_far(stockrelay.last_sent(d), d.listed_quantity, $8)
                       OR stockrelay.is_renamed(d, d.listed_rows, d.listed_identifiers)) AS is_far,
              $7 AND d.listed_rows = 1 AND d.parked_at IS NULL AND d.held_at IS NULL
                  AND stockrelay.is_risen(stockrelay.last_sent(d), d.listed_quantity) AS is_risen
), noted AS (
    INSERT INTO stockrelay.anomaly AS a (channel, sku, at, kind, was, xid)
    SELECT $1, k.sku, clock_timestamp(),
           CASE WHEN k.is_risen THEN 'risen' WHEN NOT k.is_zero THEN 'moved' WHEN k.listed_rows = 0 THEN 'gone' WHEN k.is_new THEN 'new' ELSE 'zero' END,
           CASE WHEN k.is_zero THEN k.shown ELSE k.last_sent END, pg_current_xact_id()
    FROM marked AS k WHERE k.is_zero OR k.is_far OR k.is_risen
    ON CONFLICT (channel, sku) DO UPDATE SET
        at = excluded.at, kind = excluded.kind, was = excluded.was, xid = excluded.xid, backend = NULL, relation = NULL
    -- A number that moves again before it is sent is the same anomaly.
    WHERE a.kind <> 'moved' OR excluded.kind <> 'moved' OR a.was <> excluded.was
    RETURNING a.sku
), kept AS (
    -- In portions, as a value has a largest size.
    INSERT INTO stockrelay.reading (channel, at, skus, quantities, listed_rows)
    SELECT $1, clock_timestamp(), array_agg(k.sku), array_agg(k.listed_quantity), array_agg(k.listed_rows)
    FROM (SELECT m.sku, m.listed_quantity, m.listed_rows, (row_number() OVER () - 1) / 1000 AS portion FROM marked AS m) AS k
    GROUP BY k.portion
), counted AS (
    -- For a first filling: how many SKUs can be sent, and how many of those are 0.
    SELECT count(*) AS listed, count(*) FILTER (WHERE l.quantity = 0) AS zeroes
    FROM (SELECT a.*, count(*) OVER (PARTITION BY a.identifiers) AS alike FROM listed AS a WHERE $9 AND $2::text[] IS NULL) AS l
    WHERE l.rows = 1 AND l.quantity IS NOT NULL AND (l.alike = 1 OR l.carrier = l.sku)
    AND array_position(l.identifiers, NULL) IS NULL AND array_position(l.identifiers, '') IS NULL
)@left_out@
SELECT count(*) AS marked, count(*) FILTER (WHERE urgent) AS urgent, (SELECT count(*) FROM noted) AS anomalies,
       (SELECT c.listed FROM counted AS c) AS listed, (SELECT c.zeroes FROM counted AS c) AS zeroes,
       -- The identifiers that SKUs gained or gave up; not collected when everything is compared.
       (SELECT jsonb_agg(n.identifiers) FROM (
            SELECT m.identifiers FROM moved AS m WHERE $2::text[] IS NOT NULL AND m.rows > 0 AND m.identifiers IS NOT NULL
            AND (m.rows_before = 0 OR m.identifiers_before IS DISTINCT FROM m.identifiers)
            UNION
            SELECT m.identifiers_before FROM moved AS m
            WHERE $2::text[] IS NOT NULL AND m.rows_before > 0 AND m.identifiers_before IS NOT NULL
            AND (m.rows = 0 OR m.identifiers_before IS DISTINCT FROM m.identifiers)
            @left_out_names@) AS n)::text AS names
FROM marked;

-- name: hold_anomalies
-- Holds the anomalies that a marking has found, in its transaction, if they are too many at once; returns how many it held.
-- $10: the marking read the whole listing. $11: the snapshot from which on the change log was read for it.
SELECT stockrelay.hold_anomalies($1, $2, $3, $4, $6, $7, $5, $8, $9, $10, $11::text::pg_snapshot);

-- name: pass_anomalies
-- Whether anomalies that a claim found before any marking are few enough to be sent; the others wait for a marking.
SELECT stockrelay.pass_anomalies($1, $2, $3, $4, $5, $6, $7);

-- name: filling
-- Whether the channel's first filling was found good, and whether anything was ever sent.
SELECT coalesce((SELECT g.filled_at IS NOT NULL FROM stockrelay.guard AS g WHERE g.channel = $1), false) AS is_good,
       EXISTS (SELECT FROM stockrelay.ledger AS l WHERE l.channel = $1 AND l.identifiers IS NOT NULL) AS has_sent;

-- name: hold_filling
-- Whether a first filling of $2 SKUs with $3 zeroes is held. One that is not held counts as good from now on.
SELECT stockrelay.hold_filling($1, $2, $3, $4, $5);

-- name: keep_held
-- A held row that became due (marked while the listing failed, to be confirmed, or for a sync) stays held: it is still wrong.
UPDATE stockrelay.ledger SET
    held_at = coalesce(held_at, clock_timestamp()), first_dirty_at = NULL, urgent = false, due_at = NULL, sync_at = NULL
WHERE channel = $1 AND sku = ANY ($2::text[]);

-- name: defer
-- Claimed, but a marking has to count its number first.
UPDATE stockrelay.ledger SET due_at = clock_timestamp() + interval '1 s' WHERE channel = $1 AND sku = ANY ($2::text[]);

-- name: forget_anomalies
-- A successor answers for these SKUs, so they did not fall to zero.
DELETE FROM stockrelay.anomaly WHERE channel = $1 AND sku = ANY ($2::text[]);

-- name: capture
-- The first step of a claim: rows of the slots $2 that this holder ($4) still has under the epochs $3, and what is wanted.
-- @due@ finds them: rows that are due, up to $6 urgent and $7 other ones, or up to $6 that are queued for a sync. The listing
-- is read after this, in a statement of its own: a number read before would be older than the want it answers. Nothing is
-- locked: however long the listing takes, no other session waits for these rows. The last step takes those that have not
-- changed. $5: nothing is captured before the channel's first filling is found good. `is_live`: the channel may be sent to.
SELECT d.sku, d.slot, u.version::text AS version, d.want_seq, d.acked_quantity, d.identifiers,
       -- A sync asks for every number, also one that was acknowledged.
       d.doubt_at IS NOT NULL OR d.sync_at IS NOT NULL AS is_doubted,
       coalesce(d.doubt_until <= statement_timestamp(), true) AS is_doubt_over,
       coalesce(d.acked_at >= d.doubt_at, false) AS is_acked_since_doubt, d.failures, d.urgent,
       g.held_since IS NOT NULL AND d.held_at IS NOT NULL AS is_held, d.zero_at IS NOT NULL AS is_zero_known,
       d.listed_quantity, d.listed_rows, d.listed_identifiers, CASE WHEN d.duplicates = 'park' THEN d.twins END AS twins,
       EXISTS (SELECT FROM stockrelay.live AS v WHERE v.channel = $1) AS is_live
FROM stockrelay.@due@($1, ARRAY(
    SELECT l.slot FROM stockrelay.lease AS l
    JOIN unnest($2::smallint[], $3::bigint[]) AS o (slot, epoch) ON o.slot = l.slot AND o.epoch = l.epoch
    WHERE l.channel = $1 AND l.holder = $4), @most@) AS u CROSS JOIN LATERAL (SELECT (u.entry).*) AS d
LEFT JOIN stockrelay.guard AS g ON g.channel = $1
WHERE NOT EXISTS (SELECT FROM stockrelay.pause AS p WHERE p.channel = $1)
AND (NOT $5 OR g.filled_at IS NOT NULL);

-- name: read_listing
-- The second step of a claim: what the listing says now of the captured SKUs, $1. ($2 also has the SKUs that are sold as one
-- with them. Their rows are not returned, as they may be more than the socket's buffers take.)
WITH listed AS (
@listed@
) SELECT sku, rows, identifiers, CASE WHEN rows = 1 THEN quantity END AS quantity,
         CASE WHEN quantity IS NULL THEN left(number::text, 32) END AS raw_quantity, carrier, lacks, lacks_rows@fault@
FROM listed WHERE sku = ANY ($1::text[]);

-- name: read_whole_listing
-- The whole listing as it is now, ordered by SKU, without the SKUs that the channel's `only` leaves out.
WITH listed AS (
@listed@
) SELECT sku, rows, identifiers, CASE WHEN rows = 1 THEN quantity END AS quantity,
         CASE WHEN quantity IS NULL THEN left(number::text, 32) END AS raw_quantity, carrier, lacks, lacks_rows@fault@
FROM listed WHERE rows > 0 ORDER BY sku;

-- name: own_slots
-- The last step of a claim that writes more than attempts: those of the slots $2 that are still ours; none while the channel
-- is paused. FOR KEY SHARE makes a takeover wait (the epoch is part of a key), and not our own renewal. A stalled process must
-- not keep the locks, or no other could take its slots over.
SELECT l.slot, set_config('idle_in_transaction_session_timeout', '700ms', true),
       -- Bytes sent imply an attempt that outlives a crash, whatever the server's default.
       CASE WHEN current_setting('synchronous_commit') = 'off' THEN set_config('synchronous_commit', 'on', true) END
FROM stockrelay.lease AS l
JOIN unnest($2::smallint[], $3::bigint[]) AS o (slot, epoch) ON o.slot = l.slot AND o.epoch = l.epoch
WHERE l.channel = $1 AND l.holder = $4
AND NOT EXISTS (SELECT FROM stockrelay.pause AS p WHERE p.channel = $1) ORDER BY l.slot FOR KEY SHARE OF l;

-- name: lock_unchanged
-- Locks those of the captured rows that no other session has written since, or is writing now.
SELECT d.sku FROM stockrelay.ledger AS d JOIN unnest($2::text[], $3::text[]) AS c (sku, version) ON c.sku = d.sku
WHERE d.channel = $1 AND d.sku = ANY ($2::text[]) AND d.xmin::text = c.version AND d.attempt_id IS NULL
ORDER BY d.sku FOR UPDATE OF d SKIP LOCKED;

-- name: successors
-- For each of these SKUs (`of`), its successor: another listed SKU that now has the identifiers under which it was last sent,
-- and that was sent under them already or never sent. It answers for what the marketplace holds there. A SKU that has to
-- take other identifiers off sale first is no successor, since it may never get to these. A parked one takes nothing over,
-- unless it shares these identifiers with others. `is_doubted`: the last number for `of` may have landed after the
-- successor's own, or may land yet.
SELECT d.sku AS of, h.sku, d.identifiers, h.parked_at IS NULL OR h.twins IS NOT NULL AS takes_over,
       h.identifiers IS NOT NULL OR d.doubt_at IS NOT NULL AS is_doubted
FROM stockrelay.ledger AS d
JOIN stockrelay.ledger AS h ON h.channel = d.channel AND h.sku <> d.sku AND h.listed_rows > 0
     AND hash_array_extended(h.listed_identifiers, 0) = hash_array_extended(d.identifiers, 0)
     AND h.listed_identifiers = d.identifiers
     AND (h.identifiers = d.identifiers OR (h.identifiers IS NULL AND (h.parked_at IS NULL OR h.twins IS NOT NULL)))
     -- Of those that are sold as one, the carrier alone.
     AND (h.duplicates IS DISTINCT FROM 'sum' OR h.sku COLLATE "C" < h.twins[1])
WHERE d.channel = $1 AND d.sku = ANY ($2::text[]) AND d.identifiers IS NOT NULL;

-- name: hand_over_identifiers
-- Successors take the identifiers over. One in doubt confirms its number after the settle time ($3), and an attempt of it that
-- is in flight ends no doubt: it was claimed before.
UPDATE stockrelay.ledger AS d SET
    identifiers = h.identifiers,
    doubt_at = CASE WHEN h.is_doubted THEN clock_timestamp() ELSE d.doubt_at END,
    doubt_until = CASE WHEN h.is_doubted THEN greatest(d.doubt_until, clock_timestamp() + $3::interval) ELSE d.doubt_until END,
    attempt_settles = CASE WHEN d.attempt_id IS NOT NULL THEN d.attempt_settles AND NOT h.is_doubted END,
    due_at = CASE WHEN h.is_doubted AND d.parked_at IS NULL THEN coalesce(d.due_at, clock_timestamp() + $3::interval)
                  ELSE d.due_at END
FROM (
    SELECT r.sku, min(r.identifiers) AS identifiers, bool_or(r.is_doubted) AS is_doubted
    FROM jsonb_to_recordset($2::jsonb) AS r (sku text, identifiers text[], is_doubted boolean) GROUP BY r.sku
) AS h
WHERE d.channel = $1 AND d.sku = h.sku;

-- name: open_attempts
-- The last step of a claim: the attempts, committed before the first byte is sent. They are written while their slot is ours
-- and the channel is live and not paused, for rows without an attempt that have not changed since they were captured, or are still to
-- be sent under the same identifiers. A change that was marked since stays due: the attempt answers the captured want. Rows
-- that another session is writing are skipped. The array of SKUs makes the planner look rows up one by one, whatever the
-- statistics. $6: for a sync (any other attempt answers the sync, too).
WITH owner AS MATERIALIZED (
    SELECT l.slot, l.epoch,
           CASE WHEN current_setting('synchronous_commit') = 'off' THEN set_config('synchronous_commit', 'on', true) END
    FROM stockrelay.lease AS l
    JOIN unnest($2::smallint[], $3::bigint[]) AS o (slot, epoch) ON o.slot = l.slot AND o.epoch = l.epoch
    WHERE l.channel = $1 AND l.holder = $4 ORDER BY l.slot FOR KEY SHARE OF l
), claimed AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset($5::jsonb) AS c (
        sku text, version text, want_seq bigint, was text[], quantity integer, identifiers text[], is_delisting boolean,
        is_zero boolean)
), free AS MATERIALIZED (
    SELECT d.sku FROM stockrelay.ledger AS d JOIN claimed AS c ON c.sku = d.sku
    WHERE d.channel = $1 AND d.sku = ANY (ARRAY(SELECT k.sku FROM claimed AS k)) AND d.attempt_id IS NULL
    -- Or this claim has written it itself, and has it locked.
    AND (d.xmin::text = c.version OR d.xmin = pg_current_xact_id_if_assigned()::xid
         OR (CASE WHEN $6 THEN d.sync_at IS NOT NULL ELSE d.due_at IS NOT NULL END
             AND d.parked_at IS NULL AND d.held_at IS NULL AND d.identifiers IS NOT DISTINCT FROM c.was))
    AND d.slot = ANY (ARRAY(SELECT o.slot FROM owner AS o))
    AND EXISTS (SELECT FROM stockrelay.live AS v WHERE v.channel = $1)
    AND NOT EXISTS (SELECT FROM stockrelay.pause AS p WHERE p.channel = $1)
    ORDER BY d.sku FOR UPDATE OF d SKIP LOCKED
)
UPDATE stockrelay.ledger AS d SET
    attempt_id = nextval('stockrelay.attempt_id'),
    attempt_epoch = (SELECT o.epoch FROM owner AS o WHERE o.slot = d.slot),
    attempt_seq = CASE WHEN c.is_delisting THEN d.acked_seq ELSE c.want_seq END,
    attempt_quantity = c.quantity,
    attempt_at = clock_timestamp(),
    attempt_settles = coalesce(d.doubt_until <= clock_timestamp(), true),
    acked_quantity = CASE WHEN d.identifiers IS NOT DISTINCT FROM c.identifiers THEN d.acked_quantity END,
    identifiers = c.identifiers,
    -- `successors` relies on these two: a row that was marked while the listing failed has none.
    listed_rows = CASE WHEN c.is_delisting OR d.want_seq > c.want_seq THEN d.listed_rows ELSE 1 END,
    listed_identifiers = CASE WHEN c.is_delisting OR d.want_seq > c.want_seq THEN d.listed_identifiers ELSE c.identifiers END,
    zero_at = CASE WHEN c.is_zero THEN coalesce(d.zero_at, clock_timestamp())
                   WHEN c.is_delisting OR d.want_seq > c.want_seq THEN d.zero_at END,
    held_at = NULL,
    exposed_due = d.due_at,
    -- What is sent may be newer than what was marked, or go to other identifiers: how long it waited is counted as it was.
    counted_until = CASE WHEN d.exposed_at IS NOT NULL AND (c.quantity, c.identifiers) IS DISTINCT FROM (stockrelay.listed_number(d), d.identifiers) THEN clock_timestamp() ELSE d.counted_until END,
    counted_over = CASE WHEN (c.quantity, c.identifiers) IS DISTINCT FROM (stockrelay.listed_number(d), d.identifiers) THEN stockrelay.counted(d.counted_over, stockrelay.units_over(d), d, clock_timestamp())
                        ELSE d.counted_over END,
    counted_lost = CASE WHEN (c.quantity, c.identifiers) IS DISTINCT FROM (stockrelay.listed_number(d), d.identifiers) THEN stockrelay.counted(d.counted_lost, stockrelay.units_lost(d), d, clock_timestamp())
                        ELSE d.counted_lost END,
    first_dirty_at = CASE WHEN d.want_seq > c.want_seq THEN d.first_dirty_at END,
    urgent = d.urgent AND d.want_seq > c.want_seq,
    due_at = CASE WHEN d.want_seq > c.want_seq THEN d.due_at END,
    shadow_quantity = NULL,
    shadow_identifiers = NULL,
    sync_at = CASE WHEN $6 AND NOT c.is_delisting AND d.want_seq = c.want_seq THEN d.sync_at END
FROM claimed AS c
WHERE d.channel = $1 AND d.sku = c.sku AND d.sku = ANY (ARRAY(SELECT f.sku FROM free AS f))
RETURNING d.sku, d.attempt_id;

-- name: shadow
-- The last step of a claim in shadow, for rows that this claim has locked: what would have been sent is kept, and logged as an
-- attempt unless it is what the row says already. The row is due again when its number or its identifiers change.
WITH claimed AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset($5::jsonb) AS c (
        sku text, quantity integer, identifiers text[], rows integer, listed_identifiers text[], listed_quantity integer,
        is_zero boolean)
), owner AS MATERIALIZED (
    SELECT o.slot, o.epoch FROM unnest($2::smallint[], $3::bigint[]) AS o (slot, epoch)
), before AS MATERIALIZED (
    SELECT d.sku, d.want_seq, d.unacked_since, o.epoch, c.quantity, c.identifiers
    FROM claimed AS c JOIN stockrelay.ledger AS d ON d.channel = $1 AND d.sku = c.sku JOIN owner AS o ON o.slot = d.slot
    WHERE d.sku = ANY (ARRAY(SELECT k.sku FROM claimed AS k)) AND d.attempt_id IS NULL
    AND (d.shadow_quantity, d.shadow_identifiers) IS DISTINCT FROM (c.quantity, c.identifiers)
), kept AS (
    UPDATE stockrelay.ledger AS d SET
        shadow_quantity = c.quantity, shadow_identifiers = c.identifiers, due_at = 'infinity', first_dirty_at = NULL,
        urgent = false, held_at = NULL, listed_rows = c.rows, listed_identifiers = c.listed_identifiers,
        listed_quantity = c.listed_quantity, zero_at = CASE WHEN c.is_zero THEN coalesce(d.zero_at, clock_timestamp()) END
    FROM claimed AS c
    WHERE d.channel = $1 AND d.sku = c.sku AND d.sku = ANY (ARRAY(SELECT k.sku FROM claimed AS k)) AND d.attempt_id IS NULL
    RETURNING d.sku
), logged AS (
    SELECT stockrelay.log_attempts($1 || '/' || (SELECT min(l.slot) FROM stockrelay.lease AS l WHERE l.channel = $1 AND l.holder = $4), array_agg(ROW(
        clock_timestamp(), nextval('stockrelay.attempt_id'), $1, b.sku, b.identifiers, b.quantity, b.want_seq, b.epoch, 'shadow',
        'in shadow: nothing was sent', NULL, b.unacked_since)::stockrelay.attempt)) AS attempts
    FROM before AS b
)
SELECT k.sku, b.sku IS NOT NULL AS is_new FROM kept AS k LEFT JOIN before AS b ON b.sku = k.sku CROSS JOIN logged AS l;

-- name: end_shadow
-- A channel that is live again: makes up to $3 of the rows that were claimed in shadow due, in the slots $2; stock-outs first.
-- Returns how many. From now on they count as late.
WITH shadowed AS (
    SELECT d.sku FROM unnest($2::smallint[]) AS s (slot) CROSS JOIN LATERAL (
        SELECT l.sku FROM stockrelay.ledger AS l
        WHERE l.channel = $1 AND l.slot = s.slot AND NOT l.urgent AND l.due_at = 'infinity' AND l.attempt_id IS NULL LIMIT $3) AS d
    WHERE EXISTS (SELECT FROM stockrelay.live AS v WHERE v.channel = $1) LIMIT $3
), due AS (
    SELECT l.sku FROM stockrelay.ledger AS l
    WHERE l.channel = $1 AND l.sku = ANY (ARRAY(SELECT d.sku FROM shadowed AS d)) AND l.due_at = 'infinity'
    ORDER BY l.sku FOR UPDATE SKIP LOCKED
), made AS (
    UPDATE stockrelay.ledger AS d SET
        due_at = n.now, unacked_since = n.now, shadow_quantity = NULL, shadow_identifiers = NULL,
        exposed_at = CASE WHEN d.exposed_at IS NOT NULL THEN n.now END, counted_until = NULL, counted_over = NULL, counted_lost = NULL,
        urgent = stockrelay.is_urgent(d, d.listed_rows, d.listed_quantity, 0)
    FROM (SELECT clock_timestamp() AS now) AS n
    WHERE d.channel = $1 AND d.sku = ANY (ARRAY(SELECT u.sku FROM due AS u)) RETURNING 1
)
SELECT count(*) FROM made;

-- name: close_settled
-- Claimed, but the marketplace holds that number already; so a held one is no longer wrong. It may differ from the number that
-- was marked, and no marking will see that.
WITH before AS MATERIALIZED (
    SELECT d.sku, stockrelay.segment(d, clock_timestamp()) AS segment FROM stockrelay.ledger AS d
    WHERE d.channel = $1 AND d.sku = ANY ($2::text[]) ORDER BY d.sku FOR UPDATE
), exposed AS (
    INSERT INTO stockrelay.exposure_log (channel, segments)
    SELECT $1, array_agg(b.segment) FROM before AS b WHERE stockrelay.has_exposure(b.segment) HAVING count(*) > 0
), settled AS (
    UPDATE stockrelay.ledger AS d SET
        acked_seq = want_seq, first_dirty_at = NULL, unacked_since = NULL, urgent = false, due_at = NULL, sync_at = NULL,
        held_at = NULL, zero_at = CASE WHEN acked_quantity = 0 THEN zero_at END,
        exposed_at = NULL, counted_until = NULL, counted_over = NULL, counted_lost = NULL
    FROM before AS b WHERE d.channel = $1 AND d.sku = b.sku RETURNING d.sku, d.acked_quantity
)
INSERT INTO stockrelay.reading (channel, at, skus, quantities, listed_rows)
SELECT $1, clock_timestamp(), array_agg(s.sku), array_agg(s.acked_quantity), array_agg(1) FROM settled AS s HAVING count(*) > 0;

-- name: settle_into_sum
-- Claimed, and sold as one with another SKU that sends the sum. $3: those whose identifiers no successor has taken over.
WITH before AS MATERIALIZED (
    SELECT d.sku, stockrelay.segment(d, clock_timestamp()) AS segment FROM stockrelay.ledger AS d
    WHERE d.channel = $1 AND d.sku = ANY ($2::text[]) ORDER BY d.sku FOR UPDATE
), exposed AS (
    INSERT INTO stockrelay.exposure_log (channel, segments)
    SELECT $1, array_agg(b.segment) FROM before AS b WHERE stockrelay.has_exposure(b.segment) HAVING count(*) > 0
)
UPDATE stockrelay.ledger AS d SET
    acked_seq = want_seq, first_dirty_at = NULL, unacked_since = NULL, urgent = false, due_at = NULL, sync_at = NULL,
    exposed_at = NULL, counted_until = NULL, counted_over = NULL, counted_lost = NULL, doubt_high = NULL, doubt_low = NULL,
    identifiers = CASE WHEN d.sku = ANY ($3::text[]) THEN identifiers END, acked_quantity = NULL, acked_at = NULL, doubt_at = NULL, doubt_until = NULL, failures = 0,
    retry_at = NULL, zero_at = NULL, held_at = NULL
FROM before AS b WHERE d.channel = $1 AND d.sku = b.sku;

-- name: await_doubt_end
-- In doubt, and to be decided again when no older attempt can land any more: due then.
UPDATE stockrelay.ledger SET first_dirty_at = NULL, urgent = false, due_at = doubt_until
WHERE channel = $1 AND sku = ANY ($2::text[]);

-- name: park
-- Can't be sent: not due until what is wrong changes.
WITH parked AS (
    SELECT * FROM jsonb_to_recordset($2::jsonb)
        AS c (sku text, reason text, rows integer, identifiers text[], quantity integer)
), before AS MATERIALIZED (
    SELECT d.sku, n.now, stockrelay.segment(d, n.now) AS segment
    FROM stockrelay.ledger AS d CROSS JOIN (SELECT clock_timestamp() AS now) AS n
    WHERE d.channel = $1 AND d.sku = ANY (ARRAY(SELECT c.sku FROM parked AS c)) ORDER BY d.sku FOR UPDATE OF d
), exposed AS (
    INSERT INTO stockrelay.exposure_log (channel, segments)
    SELECT $1, array_agg(b.segment) FROM before AS b WHERE stockrelay.has_exposure(b.segment) HAVING count(*) > 0
)
UPDATE stockrelay.ledger AS d SET
    parked_reason = c.reason, parked_at = b.now, first_dirty_at = NULL, urgent = false, due_at = NULL,
    exposed_at = (b.segment).ended_at, counted_until = NULL, counted_over = NULL, counted_lost = NULL,
    sync_at = NULL, listed_rows = c.rows, listed_identifiers = c.identifiers, listed_quantity = c.quantity, held_at = NULL
FROM before AS b JOIN parked AS c ON c.sku = b.sku WHERE d.channel = $1 AND d.sku = b.sku;

-- name: forget
-- Left the listing, and the marketplace no longer offers it.
WITH forgotten AS (
    DELETE FROM stockrelay.ledger AS d WHERE d.channel = $1 AND d.sku = ANY ($2::text[]) AND d.attempt_id IS NULL
    RETURNING stockrelay.segment(d, clock_timestamp()) AS segment
)
INSERT INTO stockrelay.exposure_log (channel, segments)
SELECT $1, array_agg(f.segment) FROM forgotten AS f WHERE stockrelay.has_exposure(f.segment) HAVING count(*) > 0;

-- name: next_due
-- How long until the next row of the slots $2 is due, and until the next is to be sent for a sync. NULL: there is none, the
-- channel is paused, or ($3) its first filling was not found good. `is_live`: the channel may be sent to.
SELECT min(n.due_at) - clock_timestamp() AS change, min(n.sync_at) - clock_timestamp() AS sync,
       EXISTS (SELECT FROM stockrelay.live AS v WHERE v.channel = $1) AS is_live
FROM unnest($2::smallint[]) AS s (slot) CROSS JOIN LATERAL (
    SELECT least(
        (SELECT d.due_at FROM stockrelay.ledger AS d
         WHERE d.channel = $1 AND d.slot = s.slot AND d.urgent AND d.due_at < 'infinity' AND d.attempt_id IS NULL
         ORDER BY d.due_at LIMIT 1),
        (SELECT d.due_at FROM stockrelay.ledger AS d
         WHERE d.channel = $1 AND d.slot = s.slot AND NOT d.urgent AND d.due_at < 'infinity' AND d.attempt_id IS NULL
         ORDER BY d.due_at LIMIT 1)) AS due_at,
        (SELECT d.sync_at FROM stockrelay.ledger AS d
         WHERE d.channel = $1 AND d.slot = s.slot AND d.sync_at IS NOT NULL AND d.due_at IS NULL AND d.attempt_id IS NULL
         AND d.parked_at IS NULL
         ORDER BY d.sync_at LIMIT 1) AS sync_at
) AS n
WHERE NOT EXISTS (SELECT FROM stockrelay.pause AS p WHERE p.channel = $1)
AND (NOT $3 OR EXISTS (SELECT FROM stockrelay.guard AS g WHERE g.channel = $1 AND g.filled_at IS NOT NULL));

-- name: has_acknowledged
-- Whether any number of the channel has been acknowledged under the identifiers that it has now.
SELECT EXISTS (SELECT FROM stockrelay.ledger AS d WHERE d.channel = $1 AND d.acked_quantity IS NOT NULL);

-- name: is_backlog_above
-- Whether more than $3 rows of the slots $2 are due; reads no more rows than that.
SELECT count(*) > $3::bigint FROM (
    SELECT FROM unnest($2::smallint[]) AS s (slot) CROSS JOIN LATERAL (
        (SELECT FROM stockrelay.ledger AS d
         WHERE d.channel = $1 AND d.slot = s.slot AND d.urgent AND d.due_at <= clock_timestamp() AND d.attempt_id IS NULL
         LIMIT $3::bigint + 1)
        UNION ALL
        (SELECT FROM stockrelay.ledger AS d
         WHERE d.channel = $1 AND d.slot = s.slot AND NOT d.urgent AND d.due_at <= clock_timestamp() AND d.attempt_id IS NULL
         LIMIT $3::bigint + 1)
    ) AS d LIMIT $3::bigint + 1
) AS d;

-- name: end_sync
-- Ends the channel's sync when no SKU is queued for it any more. `is_open`: the sync is marked and goes on.
WITH ended AS (
    UPDATE stockrelay.sync_run AS r SET state = 'finished', finished_at = clock_timestamp()
    WHERE r.channel = $1 AND r.state = 'sending'
    AND NOT EXISTS (SELECT FROM stockrelay.ledger AS d WHERE d.channel = $1 AND d.sync_at IS NOT NULL)
    RETURNING r.id
)
SELECT (SELECT e.id FROM ended AS e) AS ended,
       EXISTS (SELECT FROM stockrelay.sync_run AS r WHERE r.channel = $1 AND r.state = 'sending'
               AND NOT EXISTS (SELECT FROM ended)) AS is_open;

-- name: complete
-- Writes outcomes: only of attempts that are still open under the epoch in which this holder ($2) has their slot. $3 is the
-- settle time. `took_s`: how long ago the oldest change that is acknowledged now was read. The attempts go into the log's chain
-- of the holder's lowest slot, so that replicas never wait for each other's chains.
WITH result AS (
    SELECT * FROM jsonb_to_recordset($4::jsonb) AS r (
        sku text, slot smallint, attempt_id bigint, outcome text, reason text, is_parked boolean, wait_s float8, duration_ms real)
), owner AS MATERIALIZED (
    SELECT l.slot, l.epoch FROM stockrelay.lease AS l
    WHERE l.channel = $1 AND l.holder = $2 AND l.slot = ANY (ARRAY(SELECT r.slot FROM result AS r))
    ORDER BY l.slot FOR KEY SHARE
), open AS (
    SELECT d.sku, d.identifiers, d.attempt_id, d.attempt_epoch, d.attempt_seq, d.attempt_quantity, d.attempt_at,
           d.unacked_since, coalesce(d.unacked_since, d.attempt_at) AS since,
           stockrelay.segment(d, n.now) AS segment, r.outcome, r.reason, r.duration_ms, n.now,
           n.now + make_interval(secs => r.wait_s) AS retry_at,
           -- A sync's attempt that no change has overtaken: what is left to do is done in the sync.
           d.sync_at IS NOT NULL AND d.due_at IS NULL AND d.want_seq <= d.attempt_seq AS is_sync,
           -- Something newer is wanted than what this attempt or an earlier one answers.
           d.want_seq > greatest(d.acked_seq, d.attempt_seq) AS is_overtaken,
           r.outcome = 'gone' OR (r.outcome = 'applied' AND d.attempt_settles) AS ends_doubt,
           d.doubt_at IS NOT NULL AND NOT d.attempt_settles AS stays_doubted,
           -- A refusal concerns the identifiers that were sent: others that were marked since are tried.
           r.is_parked AND NOT (d.want_seq > d.attempt_seq AND d.listed_identifiers IS DISTINCT FROM d.identifiers)
               AS is_parked
    FROM result AS r JOIN stockrelay.ledger AS d ON d.sku = r.sku AND d.attempt_id = r.attempt_id
    CROSS JOIN LATERAL (SELECT clock_timestamp() AS now) AS n
    WHERE d.channel = $1 AND d.sku = ANY (ARRAY(SELECT k.sku FROM result AS k))
    AND d.attempt_epoch = (SELECT w.epoch FROM owner AS w WHERE w.slot = d.slot)
    ORDER BY d.sku FOR UPDATE OF d
), ended AS (
    -- The state that the row has after the attempt, by the names of docs/ledger.md; a held row stays held in each.
    SELECT o.*, CASE WHEN o.is_parked THEN 'parked'
                     WHEN o.outcome = 'applied' AND NOT o.is_overtaken AND NOT o.stays_doubted THEN 'clean'
                     WHEN o.is_sync AND o.outcome <> 'gone' THEN 'queued for sync'
                     ELSE 'waiting' END AS state
    FROM open AS o
), done AS (
    UPDATE stockrelay.ledger AS d SET
        attempt_id = NULL, attempt_epoch = NULL, attempt_seq = NULL, attempt_quantity = NULL, attempt_at = NULL,
        attempt_settles = NULL,
        acked_seq = CASE WHEN e.outcome = 'applied' THEN greatest(d.acked_seq, e.attempt_seq) ELSE d.acked_seq END,
        acked_quantity = CASE e.outcome WHEN 'applied' THEN e.attempt_quantity WHEN 'gone' THEN 0
                         ELSE d.acked_quantity END,
        acked_at = CASE WHEN e.outcome IN ('applied', 'gone') THEN e.now ELSE d.acked_at END,
        doubt_at = CASE WHEN e.ends_doubt THEN NULL WHEN e.outcome = 'unknown' THEN e.now ELSE d.doubt_at END,
        doubt_until = CASE WHEN e.ends_doubt THEN NULL
                           WHEN e.outcome = 'unknown' THEN greatest(d.doubt_until, e.attempt_at + $3::interval)
                           ELSE d.doubt_until END,
        failures = CASE e.outcome WHEN 'unknown' THEN d.failures + 1 WHEN 'applied' THEN 0 ELSE d.failures END,
        retry_at = CASE e.outcome WHEN 'unknown' THEN e.retry_at WHEN 'applied' THEN NULL ELSE d.retry_at END,
        parked_reason = CASE e.state WHEN 'parked' THEN e.reason ELSE d.parked_reason END,
        parked_at = CASE e.state WHEN 'parked' THEN e.now ELSE d.parked_at END,
        -- A number that was held meanwhile may be the one that was in flight.
        held_at = CASE WHEN e.outcome <> 'applied'
                            OR (d.want_seq > e.attempt_seq
                                AND CASE d.listed_rows WHEN 0 THEN 0 WHEN 1 THEN d.listed_quantity END
                                    IS DISTINCT FROM e.attempt_quantity)
                       THEN d.held_at END,
        unacked_since = CASE WHEN e.outcome <> 'applied' THEN coalesce(d.unacked_since, e.attempt_at)
                             WHEN e.is_overtaken THEN coalesce(d.first_dirty_at, e.attempt_at)
                             WHEN e.stays_doubted THEN coalesce(d.unacked_since, d.doubt_at) END,
        urgent = CASE e.state WHEN 'parked' THEN false
                              WHEN 'waiting' THEN d.urgent OR (e.attempt_quantity = 0
                                                               AND e.outcome IN ('unknown', 'not_sent', 'trouble'))
                              ELSE d.urgent END,
        sync_at = CASE e.state
            WHEN 'waiting' THEN d.sync_at
            WHEN 'queued for sync' THEN CASE e.outcome WHEN 'unknown' THEN e.retry_at
                                                       WHEN 'applied' THEN d.doubt_until
                                                       ELSE d.sync_at END END,
        due_at = CASE WHEN e.state = 'waiting' THEN CASE
            WHEN e.outcome = 'unknown' THEN greatest(d.due_at, e.retry_at)
            WHEN e.outcome = 'applied' AND NOT e.is_overtaken THEN d.doubt_until
            WHEN e.outcome IN ('applied', 'gone') THEN coalesce(d.due_at, e.now)
            ELSE greatest(coalesce(d.due_at, e.now), d.retry_at) END END,
        -- What was sent is what the listing said when it was claimed: no marking has to have read it.
        listed_quantity = CASE WHEN e.outcome <> 'applied' AND d.listed_rows = 1 AND d.want_seq <= e.attempt_seq
                               THEN e.attempt_quantity ELSE d.listed_quantity END,
        exposed_at = CASE WHEN e.state <> 'clean' THEN e.now END,
        counted_until = NULL, counted_over = NULL, counted_lost = NULL,
        exposed_due = NULL,
        doubt_high = CASE WHEN e.ends_doubt THEN NULL WHEN e.outcome = 'unknown' THEN greatest(d.doubt_high, e.attempt_quantity)
                          ELSE d.doubt_high END,
        doubt_low = CASE WHEN e.ends_doubt THEN NULL WHEN e.outcome = 'unknown' THEN least(d.doubt_low, e.attempt_quantity)
                         ELSE d.doubt_low END
    FROM ended AS e WHERE d.channel = $1 AND d.sku = e.sku
    RETURNING d.due_at IS NOT NULL OR d.sync_at IS NOT NULL AS is_due,
              CASE WHEN e.outcome = 'applied' THEN extract(epoch FROM e.now - e.unacked_since)::float8 END AS took_s
), logged AS (
    SELECT stockrelay.log_attempts($1 || '/' || (SELECT min(l.slot) FROM stockrelay.lease AS l WHERE l.channel = $1 AND l.holder = $2), array_agg(ROW(
        o.attempt_at, o.attempt_id, $1, o.sku, o.identifiers, o.attempt_quantity, o.attempt_seq, o.attempt_epoch, o.outcome,
        o.reason, o.duration_ms, o.since)::stockrelay.attempt)) AS attempts
    FROM open AS o
), exposed AS (
    INSERT INTO stockrelay.exposure_log (channel, segments)
    SELECT $1, array_agg(o.segment) FROM open AS o WHERE stockrelay.has_exposure(o.segment) HAVING count(*) > 0
)
SELECT d.is_due, d.took_s FROM done AS d, logged AS l WHERE l.attempts IS NOT NULL;

-- name: rescue
-- Attempts without a process (their owner died, or their outcome could not be written) may have been applied: they become
-- doubt, and their row is due at once. $2 are the slots with their epochs $3, $4 the holder, $6 the attempts that it still has
-- in flight. Rows of a sync are sent again when the lost attempt can't land any more.
WITH owner AS MATERIALIZED (
    SELECT l.slot FROM stockrelay.lease AS l
    JOIN unnest($2::smallint[], $3::bigint[]) AS o (slot, epoch) ON o.slot = l.slot AND o.epoch = l.epoch
    WHERE l.channel = $1 AND l.holder = $4 ORDER BY l.slot FOR KEY SHARE OF l
), lost AS (
    SELECT d.sku, d.identifiers, d.attempt_id, d.attempt_epoch, d.attempt_seq, d.attempt_quantity, d.attempt_at,
           d.sync_at IS NOT NULL AND d.due_at IS NULL AND d.want_seq <= d.attempt_seq AS is_sync,
           coalesce(d.unacked_since, d.attempt_at) AS since,
           stockrelay.segment(d, clock_timestamp()) AS segment
    FROM stockrelay.ledger AS d
    WHERE d.channel = $1 AND d.slot = ANY (ARRAY(SELECT w.slot FROM owner AS w))
    AND d.attempt_id IS NOT NULL AND d.attempt_id <> ALL ($6::bigint[])
    ORDER BY d.sku FOR UPDATE
), freed AS (
    UPDATE stockrelay.ledger AS d SET
        attempt_id = NULL, attempt_epoch = NULL, attempt_seq = NULL, attempt_quantity = NULL, attempt_at = NULL,
        attempt_settles = NULL,
        doubt_at = clock_timestamp(),
        doubt_until = greatest(d.doubt_until, l.attempt_at + $5::interval),
        listed_quantity = CASE WHEN d.listed_rows = 1 AND d.want_seq <= l.attempt_seq THEN l.attempt_quantity ELSE d.listed_quantity END,
        exposed_at = coalesce((l.segment).ended_at, clock_timestamp()),
        counted_until = NULL, counted_over = NULL, counted_lost = NULL,
        exposed_due = NULL,
        doubt_high = greatest(d.doubt_high, l.attempt_quantity),
        doubt_low = least(d.doubt_low, l.attempt_quantity),
        unacked_since = coalesce(d.unacked_since, l.attempt_at),
        urgent = d.urgent OR (l.attempt_quantity = 0 AND NOT l.is_sync),
        sync_at = CASE WHEN l.is_sync THEN greatest(d.doubt_until, l.attempt_at + $5::interval) ELSE d.sync_at END,
        due_at = CASE WHEN NOT l.is_sync THEN coalesce(least(d.due_at, clock_timestamp()), clock_timestamp()) END
    FROM lost AS l WHERE d.channel = $1 AND d.sku = l.sku
    RETURNING d.sku
), logged AS (
    SELECT stockrelay.log_attempts($1 || '/' || (SELECT min(k.slot) FROM stockrelay.lease AS k WHERE k.channel = $1 AND k.holder = $4), array_agg(ROW(
        l.attempt_at, l.attempt_id, $1, l.sku, l.identifiers, l.attempt_quantity, l.attempt_seq, l.attempt_epoch, 'unknown',
        'no process knows how this attempt ended', NULL, l.since)::stockrelay.attempt)) AS attempts
    FROM lost AS l
), exposed AS (
    INSERT INTO stockrelay.exposure_log (channel, segments)
    SELECT $1, array_agg(l.segment) FROM lost AS l WHERE stockrelay.has_exposure(l.segment) HAVING count(*) > 0
)
SELECT (SELECT count(*) FROM freed) FROM logged AS l WHERE l.attempts IS NOT NULL;

-- name: backlog
-- One channel's rows in numbers: a pass over them. Discarded rows are not counted as parked.
SELECT count(*) AS skus,
       count(*) FILTER (WHERE want_seq > acked_seq AND parked_at IS NULL AND NOT is_held AND NOT is_shadowed) AS backlog,
       count(*) FILTER (WHERE doubt_at IS NOT NULL) AS doubt,
       count(*) FILTER (WHERE parked_at IS NOT NULL AND NOT coalesce(discarded_at >= parked_at, false)) AS parked,
       count(*) FILTER (WHERE is_held AND parked_at IS NULL) AS held,
       count(*) FILTER (WHERE is_shadowed) AS shadowed,
       count(*) FILTER (WHERE attempt_id IS NOT NULL) AS in_flight,
       count(*) FILTER (WHERE acked_quantity > 0) AS on_sale,
       clock_timestamp() - min(unacked_since) FILTER (WHERE parked_at IS NULL AND NOT is_held AND NOT is_shadowed) AS oldest
FROM (
    SELECT l.*, coalesce(l.due_at = 'infinity', false) AS is_shadowed, l.held_at IS NOT NULL
               OR (l.want_seq > l.acked_seq
                   AND EXISTS (SELECT FROM stockrelay.guard AS g WHERE g.channel = $1 AND g.cause = 'first')) AS is_held
    FROM stockrelay.ledger AS l WHERE l.channel = $1
) AS x;
