-- The delivery ledger: what each marketplace is to be sent, and what it has acknowledged.

CREATE SEQUENCE stockrelay.want_seq AS bigint;
CREATE SEQUENCE stockrelay.attempt_id AS bigint;

CREATE TABLE stockrelay.ledger (
    channel              text        NOT NULL,
    sku                  text        NOT NULL,
    -- The channel's slot (see `lease`) that it belongs to, computed when the row is inserted. Another server may hash
    -- differently, which does no harm: only this column says where a SKU belongs.
    slot                 smallint    NOT NULL GENERATED ALWAYS AS ((hashtextextended(sku, 0) & 15)::smallint) STORED,
    -- What the ERP wants. `listed_*`: the listing as it was marked last; `listed_rows` is 0 for a SKU that has left it.
    want_seq             bigint      NOT NULL,
    listed_rows          integer     NOT NULL,
    listed_identifiers   text[],
    listed_quantity      integer,
    first_dirty_at       timestamptz,
    unacked_since        timestamptz,
    urgent               boolean     NOT NULL DEFAULT false,
    -- When to claim it for a change; NULL: nothing to do, queued for a sync alone, in flight, parked, or held. Infinity: it was
    -- claimed in shadow, and `shadow_*` are the number and the identifiers that would have been sent.
    due_at               timestamptz,
    shadow_quantity      integer,
    shadow_identifiers   text[],
    -- What the marketplace has acknowledged, and the identifiers under which it was last sent. A number without `acked_at` was
    -- never sent: it was read from the marketplace when the channel went live.
    acked_seq            bigint      NOT NULL DEFAULT 0,
    acked_quantity       integer,
    acked_at             timestamptz,
    identifiers          text[],
    -- The open attempt: written and committed before the first byte is sent.
    attempt_id           bigint,
    attempt_epoch        bigint,
    attempt_seq          bigint,
    attempt_quantity     integer,
    attempt_at           timestamptz,
    attempt_settles      boolean,
    -- In doubt: an attempt ended unknown at `doubt_at` and may land until `doubt_until`. What clears it: the acknowledgement
    -- of an attempt that was claimed after `doubt_until`, a refused delisting (`gone`), and joining a sum.
    doubt_at             timestamptz,
    doubt_until          timestamptz,
    failures             integer     NOT NULL DEFAULT 0,
    retry_at             timestamptz,
    parked_reason        text,
    parked_at            timestamptz,
    -- When an operator discarded a parked SKU; parked again later, it is reported again.
    discarded_at         timestamptz,
    -- From when on it may be sent for a sync (NULL: not queued for one), behind all that is due and whatever was acknowledged.
    -- An attempt of a row that is due answers the sync, too. While an attempt is open, this is set only if it is the sync's.
    sync_at              timestamptz,
    -- For the guard: since when its number is known to be zero. NULL: it is not zero, or neither marking nor claim has noted it.
    zero_at              timestamptz,
    -- Since when the guard holds its number; NULL: it does not.
    held_at              timestamptz,
    -- The first four, by name, of the other listed SKUs with the same identifiers; NULL: none. `duplicates`: the channel's
    -- setting when they were noted.
    twins                text[],
    duplicates           text        CHECK (duplicates IN ('park', 'sum')),
    -- The exposure clock (19_exposure.sql): since when the two numbers differ, or the last segment ended; NULL: they agree.
    -- `counted_*`: the unit-seconds from then until the number changed last, while the row waited; NULL: it did not change.
    -- `exposed_due`: when the row in flight was due. `doubt_high`, `doubt_low`: of the attempts that may still land.
    exposed_at           timestamptz,
    counted_until        timestamptz,
    counted_over         float8,
    counted_lost         float8,
    exposed_due          timestamptz,
    doubt_high           integer,
    doubt_low            integer,
    PRIMARY KEY (channel, sku),
    CHECK ((twins IS NULL) = (duplicates IS NULL)),
    CHECK (attempt_id IS NULL OR (attempt_epoch IS NOT NULL AND attempt_seq IS NOT NULL
           AND attempt_quantity IS NOT NULL AND attempt_at IS NOT NULL AND attempt_settles IS NOT NULL)),
    CHECK ((doubt_at IS NULL) = (doubt_until IS NULL)),
    CHECK (due_at <> 'infinity' OR shadow_quantity IS NOT NULL)
) WITH (fillfactor = 70);
CREATE INDEX ledger_due ON stockrelay.ledger (channel, slot, urgent, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX ledger_parked ON stockrelay.ledger (channel, parked_at) WHERE parked_at IS NOT NULL;
CREATE INDEX ledger_held ON stockrelay.ledger (channel, held_at) WHERE held_at IS NOT NULL;
CREATE INDEX ledger_sync ON stockrelay.ledger (channel, slot, sync_at) WHERE sync_at IS NOT NULL;

-- By a hash, as identifiers may be longer than an index takes.
CREATE INDEX ledger_identifiers ON stockrelay.ledger (channel, hash_array_extended(listed_identifiers, 0)) WHERE listed_rows > 0;

-- The debounce: when a row that changes now is due. Each change defers it to `quiet` after it, but not beyond `max_wait`
-- after the first change that has not been sent.
CREATE FUNCTION stockrelay.debounced(first_dirty_at timestamptz, now timestamptz, quiet interval, max_wait interval)
RETURNS timestamptz LANGUAGE sql STABLE
RETURN least(now + quiet, first_dirty_at + max_wait);

-- Whether a new number goes ahead of the others: it falls to zero or below the channel's `urgent_below`, measured
-- against the highest number that the marketplace may hold. Leaving the listing is falling to zero.
CREATE FUNCTION stockrelay.is_urgent(d stockrelay.ledger, rows integer, quantity integer, urgent_below integer)
RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN (rows = 0 OR coalesce(quantity = 0 OR quantity < urgent_below, false))
       AND coalesce(quantity, 0) < CASE WHEN d.doubt_at IS NULL THEN greatest(d.acked_quantity, d.attempt_quantity, 0)
                                        ELSE 2147483647 END;

-- The due rows of one slot without an attempt, in the order in which they became due; none unless `is_wanted`. (It is inlined
-- into `due`.)
CREATE FUNCTION stockrelay.due_in_slot(channel text, slot integer, is_wanted boolean, is_urgent boolean, most integer)
RETURNS TABLE (due_at timestamptz, version xid, entry stockrelay.ledger) LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT l.due_at, l.xmin, l FROM stockrelay.ledger AS l
    WHERE is_wanted AND l.channel = due_in_slot.channel AND l.slot = due_in_slot.slot AND l.urgent = is_urgent
    AND l.due_at <= statement_timestamp() AND l.attempt_id IS NULL ORDER BY l.due_at LIMIT most;
END;

-- The due rows of these slots without an attempt: urgent ones first, then up to `most_patient` others, each kind in the order
-- in which it became due. Each slot has its own part of the index, and the sixteen parts are merged as they are read: nothing
-- of other slots, and no further than wanted, whatever the statistics of a new or quickly growing table say. Any other plan
-- reads the whole backlog for every claim. Nothing is locked; `version` changes with every write of the row.
CREATE FUNCTION stockrelay.due(channel text, slots smallint[], most integer, most_patient integer)
RETURNS TABLE (version xid, entry stockrelay.ledger)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off AS $$
DECLARE
    is_urgent boolean;
    wanted integer := most;
    found_rows integer;
BEGIN
    FOREACH is_urgent IN ARRAY '{t,f}'::boolean[] LOOP
        RETURN QUERY SELECT b.version, b.entry FROM (
            SELECT s.* FROM stockrelay.due_in_slot(channel, 0, 0 = ANY (slots), is_urgent, wanted) AS s UNION ALL
            SELECT s.* FROM stockrelay.due_in_slot(channel, 1, 1 = ANY (slots), is_urgent, wanted) AS s UNION ALL
            SELECT s.* FROM stockrelay.due_in_slot(channel, 2, 2 = ANY (slots), is_urgent, wanted) AS s UNION ALL
            SELECT s.* FROM stockrelay.due_in_slot(channel, 3, 3 = ANY (slots), is_urgent, wanted) AS s UNION ALL
            SELECT s.* FROM stockrelay.due_in_slot(channel, 4, 4 = ANY (slots), is_urgent, wanted) AS s UNION ALL
            SELECT s.* FROM stockrelay.due_in_slot(channel, 5, 5 = ANY (slots), is_urgent, wanted) AS s UNION ALL
            SELECT s.* FROM stockrelay.due_in_slot(channel, 6, 6 = ANY (slots), is_urgent, wanted) AS s UNION ALL
            SELECT s.* FROM stockrelay.due_in_slot(channel, 7, 7 = ANY (slots), is_urgent, wanted) AS s UNION ALL
            SELECT s.* FROM stockrelay.due_in_slot(channel, 8, 8 = ANY (slots), is_urgent, wanted) AS s UNION ALL
            SELECT s.* FROM stockrelay.due_in_slot(channel, 9, 9 = ANY (slots), is_urgent, wanted) AS s UNION ALL
            SELECT s.* FROM stockrelay.due_in_slot(channel, 10, 10 = ANY (slots), is_urgent, wanted) AS s UNION ALL
            SELECT s.* FROM stockrelay.due_in_slot(channel, 11, 11 = ANY (slots), is_urgent, wanted) AS s UNION ALL
            SELECT s.* FROM stockrelay.due_in_slot(channel, 12, 12 = ANY (slots), is_urgent, wanted) AS s UNION ALL
            SELECT s.* FROM stockrelay.due_in_slot(channel, 13, 13 = ANY (slots), is_urgent, wanted) AS s UNION ALL
            SELECT s.* FROM stockrelay.due_in_slot(channel, 14, 14 = ANY (slots), is_urgent, wanted) AS s UNION ALL
            SELECT s.* FROM stockrelay.due_in_slot(channel, 15, 15 = ANY (slots), is_urgent, wanted) AS s
        ) AS b ORDER BY b.due_at LIMIT wanted;
        GET DIAGNOSTICS found_rows = ROW_COUNT;
        wanted := least(most_patient, most - found_rows);
        EXIT WHEN wanted = 0;
    END LOOP;
END $$;

-- Whether a row stays parked: it waits for a change of what was wrong with it, and another number is none.
CREATE FUNCTION stockrelay.stays_parked(d stockrelay.ledger, wanted stockrelay.ledger)
RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN d.parked_at IS NOT NULL
       AND (d.listed_rows, d.listed_identifiers, d.listed_quantity IS NULL)
           IS NOT DISTINCT FROM (wanted.listed_rows, wanted.listed_identifiers, wanted.listed_quantity IS NULL);

-- Whether a row's SKU is listed under the same identifiers as before, or is unlisted as before.
CREATE FUNCTION stockrelay.is_named_alike(d stockrelay.ledger, wanted stockrelay.ledger)
RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN (d.listed_rows > 0) = (wanted.listed_rows > 0) AND d.listed_identifiers IS NOT DISTINCT FROM wanted.listed_identifiers;

-- Notes which listed SKUs of a channel have the same identifiers, its twins. `names` are the identifiers to look at, a JSON
-- array of arrays; NULL: all of the channel's. Those with a missing part are not compared. A row whose twins have changed
-- becomes due and is no longer parked: its claim decides again. A row that has its identifiers for itself again is sent
-- whatever was acknowledged, because another SKU may have been sent under them since. Returns how many rows it changed. Named
-- identifiers are looked up one by one, whatever the statistics of a new table say.
CREATE FUNCTION stockrelay.note_twins(channel text, names jsonb, duplicates text, quiet interval) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_custom_plan
SET enable_seqscan = on SET enable_hashjoin = on SET enable_mergejoin = on
SET enable_indexscan = on SET enable_sort = on AS $$
DECLARE
    now CONSTANT timestamptz := clock_timestamp();
    noted bigint;
BEGIN
    -- (These settings last until the function ends.)
    IF names IS NULL THEN
        PERFORM set_config('enable_indexscan', 'off', true), set_config('enable_sort', 'off', true);
        SELECT jsonb_agg(DISTINCT l.listed_identifiers) INTO names FROM stockrelay.ledger AS l
        WHERE l.channel = note_twins.channel AND l.listed_rows > 0 AND hash_array_extended(l.listed_identifiers, 0) = ANY (ARRAY(
            SELECT hash_array_extended(k.listed_identifiers, 0) FROM stockrelay.ledger AS k
            WHERE k.channel = note_twins.channel AND k.listed_rows > 0
            GROUP BY 1 HAVING count(*) > 1 OR bool_or(k.twins IS NOT NULL)));
    END IF;
    IF names IS NULL THEN
        RETURN 0;
    END IF;
    PERFORM set_config('enable_indexscan', 'on', true), set_config('enable_sort', 'on', true),
            set_config('enable_seqscan', 'off', true),
            set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true);
    WITH asked AS MATERIALIZED (
        SELECT DISTINCT ARRAY(SELECT e.part FROM jsonb_array_elements_text(n.identifiers) WITH ORDINALITY AS e (part, place)
                              ORDER BY e.place) AS identifiers
        FROM jsonb_array_elements(note_twins.names) AS n (identifiers)
        WHERE jsonb_typeof(n.identifiers) = 'array'
    ), found AS (
        SELECT array_agg(l.sku) AS skus, (array_agg(l.sku ORDER BY l.sku COLLATE "C"))[1:5] AS first
        FROM asked AS a JOIN stockrelay.ledger AS l
            ON l.channel = note_twins.channel AND l.listed_rows > 0 AND l.listed_identifiers = a.identifiers
            AND hash_array_extended(l.listed_identifiers, 0) = hash_array_extended(a.identifiers, 0)
        WHERE array_position(a.identifiers, NULL) IS NULL AND array_position(a.identifiers, '') IS NULL
        GROUP BY a.identifiers HAVING count(*) > 1 OR bool_or(l.twins IS NOT NULL)
    ), wanted AS MATERIALIZED (
        SELECT u.sku, n.twins, CASE WHEN n.twins IS NOT NULL THEN note_twins.duplicates END AS duplicates
        FROM found AS f CROSS JOIN LATERAL unnest(f.skus) AS u (sku)
        CROSS JOIN LATERAL (SELECT nullif((array_remove(f.first, u.sku))[1:4], '{}') AS twins) AS n
    ), changed AS MATERIALIZED (
        SELECT l.sku, w.twins, w.duplicates, l.parked_at IS NOT NULL AS was_parked, stockrelay.segment(l, now) AS segment
        FROM wanted AS w JOIN stockrelay.ledger AS l ON l.channel = note_twins.channel AND l.sku = w.sku
        WHERE (l.twins, l.duplicates) IS DISTINCT FROM (w.twins, w.duplicates)
        ORDER BY l.sku FOR UPDATE OF l
    ), exposed AS (
        INSERT INTO stockrelay.exposure_log (channel, segments)
        SELECT note_twins.channel, array_agg(c.segment) FROM changed AS c
        WHERE c.was_parked AND stockrelay.has_exposure(c.segment) HAVING count(*) > 0
    )
    UPDATE stockrelay.ledger AS l SET
        twins = c.twins,
        duplicates = c.duplicates,
        want_seq = nextval('stockrelay.want_seq'),
        first_dirty_at = coalesce(l.first_dirty_at, now),
        unacked_since = coalesce(l.unacked_since, now),
        parked_at = NULL,
        parked_reason = NULL,
        exposed_at = CASE WHEN c.was_parked THEN (c.segment).ended_at ELSE l.exposed_at END,
        counted_until = CASE WHEN NOT c.was_parked THEN l.counted_until END,
        counted_over = CASE WHEN NOT c.was_parked THEN l.counted_over END,
        counted_lost = CASE WHEN NOT c.was_parked THEN l.counted_lost END,
        doubt_at = CASE WHEN c.twins IS NULL AND l.identifiers IS NOT NULL THEN now ELSE l.doubt_at END,
        doubt_until = CASE WHEN c.twins IS NULL AND l.identifiers IS NOT NULL THEN greatest(l.doubt_until, now)
                           ELSE l.doubt_until END,
        attempt_settles = CASE WHEN l.attempt_id IS NOT NULL THEN l.attempt_settles AND c.twins IS NOT NULL END,
        due_at = CASE WHEN l.held_at IS NULL THEN greatest(l.retry_at, least(l.due_at, now + note_twins.quiet)) END
    FROM changed AS c WHERE l.channel = note_twins.channel AND l.sku = c.sku;
    GET DIAGNOSTICS noted = ROW_COUNT;
    RETURN noted;
END $$;
