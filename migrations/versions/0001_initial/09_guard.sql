-- Numbers that have become wrong in bulk: held until a person releases them or the data recovers.

-- Numbers that have fallen to zero or moved far of late, also those that were sent since or whose SKU is forgotten. Rows
-- older than the longest window mean nothing.
CREATE TABLE stockrelay.anomaly (
    channel   text        NOT NULL,
    sku       text        NOT NULL,
    at        timestamptz NOT NULL,
    -- gone: it left the listing; zero: it fell to 0; new: it was never sent, and is 0; moved: it is far from the last
    -- number; risen: the last number was 0. Numbers rise every day with goods that come in, so risen ones are held only with
    -- a bulk they belong to.
    kind      text        NOT NULL CHECK (kind IN ('gone', 'zero', 'new', 'moved', 'risen')),
    -- The number that was sent last, if it is known.
    was       integer,
    -- The ERP's transaction, session and table that wrote it; without a session, the transaction of the comparison that found
    -- it; without a transaction, a claim found it.
    xid       xid8,
    backend   integer,
    relation  oid,
    PRIMARY KEY (channel, sku)
) WITH (fillfactor = 80);
CREATE INDEX anomaly_at ON stockrelay.anomaly (channel, at);

-- One channel's guard. Until `filled_at` nothing is sent: the channel's first filling has been neither found good nor
-- released. Numbers are held since `held_since`; anomalies after `held_from` belong to the hold, and `held_to` is when it grew
-- last, with the counts of that moment. Until `pass_until` a release is valid: the rest of the same import passes, and what
-- came before is never counted again. `on_sale` and `listed` are counted every minute.
CREATE TABLE stockrelay.guard (
    channel         text        PRIMARY KEY,
    filled_at       timestamptz,
    held_since      timestamptz,
    held_from       timestamptz,
    held_to         timestamptz,
    cause           text        CHECK (cause IN ('first', 'rows', 'zeroes', 'new', 'moves')),
    zeroes          bigint,
    gone            bigint,
    moved           bigint,
    risen           bigint,
    -- How many would not have been held (`most`), of how many on sale (`skus`).
    most            bigint,
    skus            bigint,
    rows_before     bigint,
    rows_now        bigint,
    asked_at        timestamptz,
    pass_until      timestamptz NOT NULL DEFAULT '-infinity',
    released_at     timestamptz,
    released_by     text        CHECK (released_by IN ('command', 'recovery')),
    released        bigint,
    is_release_logged         boolean     NOT NULL DEFAULT true,
    on_sale         bigint,
    listed          bigint,
    -- Too much has fallen in the longer window, though never too much at once.
    is_dripping     boolean     NOT NULL DEFAULT false,
    counted_at      timestamptz,
    CHECK ((held_since IS NULL) = (held_from IS NULL) AND (held_since IS NULL) = (held_to IS NULL))
);

-- Whether there is nothing left of a SKU: it has left the listing, or its one row says zero.
CREATE FUNCTION stockrelay.is_zero(rows integer, quantity integer) RETURNS boolean
LANGUAGE sql IMMUTABLE RETURN rows = 0 OR (rows = 1 AND coalesce(quantity = 0, false));

-- Whether a zero would be new: more, or nothing, was sent last, and no zero of it is known yet.
CREATE FUNCTION stockrelay.falls(d stockrelay.ledger) RETURNS boolean
LANGUAGE sql IMMUTABLE
RETURN d.zero_at IS NULL AND (d.identifiers IS NULL OR coalesce(d.acked_quantity, 1) > 0 OR coalesce(d.attempt_quantity, 0) > 0);

-- Whether one number is at least `factor` times the other. Zeroes are no such moves.
CREATE FUNCTION stockrelay.is_far(before integer, after integer, factor float8) RETURNS boolean
LANGUAGE sql IMMUTABLE
RETURN coalesce(before > 0 AND after > 0 AND (after >= factor * before OR before >= factor * after), false);

-- Whether a number comes after a zero.
CREATE FUNCTION stockrelay.is_risen(before integer, after integer) RETURNS boolean
LANGUAGE sql IMMUTABLE RETURN coalesce(before = 0 AND after > 0, false);

-- Whether what is on sale under one name is listed under another one: the old name falls to zero.
CREATE FUNCTION stockrelay.is_renamed(d stockrelay.ledger, rows integer, identifiers text[]) RETURNS boolean
LANGUAGE sql IMMUTABLE
RETURN coalesce(rows = 1 AND d.identifiers <> identifiers AND greatest(d.acked_quantity, d.attempt_quantity) > 0, false);

-- The number that was sent last.
CREATE FUNCTION stockrelay.last_sent(d stockrelay.ledger) RETURNS integer
LANGUAGE sql IMMUTABLE RETURN coalesce(d.attempt_quantity, d.acked_quantity);

-- Whether a held row stays held with this number: because it is zero, far from what was sent last, above a zero that was sent
-- last, or under other identifiers.
CREATE FUNCTION stockrelay.stays_held(d stockrelay.ledger, rows integer, quantity integer, identifiers text[], factor float8)
RETURNS boolean
LANGUAGE sql IMMUTABLE
RETURN d.held_at IS NOT NULL
       AND CASE WHEN stockrelay.is_zero(rows, quantity) THEN d.zero_at IS NOT NULL
                ELSE d.zero_at IS NULL AND rows = 1
                     AND (stockrelay.is_far(stockrelay.last_sent(d), quantity, factor)
                          OR stockrelay.is_risen(stockrelay.last_sent(d), quantity)
                          OR stockrelay.is_renamed(d, rows, identifiers)) END;

-- A channel's guard, locked until the end of the transaction, so that each count sees what others have noted.
CREATE FUNCTION stockrelay.locked_guard(channel text) RETURNS stockrelay.guard
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found_one stockrelay.guard;
BEGIN
    LOOP
        SELECT g.* INTO found_one FROM stockrelay.guard AS g WHERE g.channel = locked_guard.channel FOR UPDATE;
        EXIT WHEN FOUND;
        INSERT INTO stockrelay.guard (channel) VALUES (locked_guard.channel) ON CONFLICT DO NOTHING;
    END LOOP;
    RETURN found_one;
END $$;

-- The causes of a hold, the worst first.
CREATE FUNCTION stockrelay.worse_cause(one text, other text) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN (ARRAY['first', 'rows', 'zeroes', 'new', 'moves'])[
    least(array_position(ARRAY['first', 'rows', 'zeroes', 'new', 'moves'], one),
          array_position(ARRAY['first', 'rows', 'zeroes', 'new', 'moves'], other))];

-- How many SKUs a group may have and still be a clerk's work or a customer's order, while a bulk of more than `bulk` is held.
CREATE FUNCTION stockrelay.few(bulk float8) RETURNS float8
LANGUAGE sql IMMUTABLE RETURN greatest(3, least(bulk / 3, 50));

-- Which anomalies since then belong to a bulk, where more than `most` are too many.
-- A transaction with more than a few of them is a bulk. So are more than a few in the window that one session has written to
-- one table: an import that commits each row. A sale goes from a small number to zero, so those are not counted to such an
-- import. The rest comes from many sessions, few at a time: if even that is too much, all of it is a bulk, but for the sales,
-- unless more than `most_sales` of those fell. `has_shrunk`: the listing has lost more than the row share, also rows of SKUs
-- that were not on sale: all SKUs that left it belong together. Risen numbers make no bulk; they belong to one in the same
-- transaction, and to an import that moves numbers. What rises again after zeroes that were sent is sent.
CREATE FUNCTION stockrelay.in_bulk(channel text, since timestamptz, most float8, most_sales float8, has_shrunk boolean)
RETURNS TABLE (sku text, kind text, was integer)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH in_transaction AS (
        SELECT a.sku, a.kind, a.was, a.backend, a.relation, coalesce(a.was <= 5, false) AND a.kind IN ('zero', 'gone') AS is_sale,
               a.xid IS NOT NULL AND count(*) FILTER (WHERE a.kind <> 'risen') OVER (PARTITION BY a.xid)
                                     > stockrelay.few(in_bulk.most) AS is_bulk
        FROM stockrelay.anomaly AS a WHERE a.channel = in_bulk.channel AND a.at > in_bulk.since
    ), in_session AS (
        SELECT t.sku, t.kind, t.was, t.is_sale,
               t.is_bulk OR (t.backend IS NOT NULL AND NOT t.is_sale
                             AND CASE t.kind WHEN 'risen' THEN count(*) FILTER (WHERE NOT t.is_bulk AND t.kind = 'moved') OVER import
                                             ELSE count(*) FILTER (WHERE NOT t.is_bulk AND t.kind <> 'risen') OVER import END
                                 > stockrelay.few(in_bulk.most)) AS is_bulk
        FROM in_transaction AS t
        WINDOW import AS (PARTITION BY t.backend, t.relation)
    ), counted AS (
        SELECT s.*, count(*) FILTER (WHERE NOT s.is_bulk AND s.kind <> 'risen') OVER () AS scattered,
               count(*) FILTER (WHERE NOT s.is_bulk AND s.kind = 'moved') OVER () AS moves,
               count(*) FILTER (WHERE NOT s.is_bulk AND s.is_sale) OVER () AS sales
        FROM in_session AS s
    )
    SELECT c.sku, c.kind, c.was FROM counted AS c
    WHERE c.is_bulk OR (in_bulk.has_shrunk AND c.kind = 'gone')
          OR (c.scattered > in_bulk.most AND (NOT c.is_sale OR c.sales > in_bulk.most_sales)
              AND (c.kind <> 'risen' OR c.moves > in_bulk.most))
$$;

-- The exact count, made only when the quick one finds too many: deletes anomalies that are none any more (the number is back,
-- or another SKU has the identifiers), counts what was on sale, and holds what belongs to the bulk and has not been sent yet.
-- It does not wait for a row that is being claimed: that one is sent. Returns how many it held. Without nested loops: the
-- server cannot know how many anomalies there are, and would read the ledger once for each.
CREATE FUNCTION stockrelay.hold_bulk(
    state stockrelay.guard, since timestamptz, zero_share float8, zero_count integer, row_share float8, move_factor float8,
    move_share float8, is_whole boolean
) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET enable_nestloop = off AS $$
DECLARE
    now CONSTANT timestamptz := clock_timestamp();
    seen record;
    sale record;
    rows_once bigint;
    has_shrunk boolean;
    most_zeroes float8;
    most_moves float8;
    why text;
    kinds text[] := '{}';
    newly_held bigint;
    newly_risen bigint;
BEGIN
    DELETE FROM stockrelay.anomaly AS a USING stockrelay.ledger AS l
    WHERE a.channel = state.channel AND l.channel = a.channel AND l.sku = a.sku AND l.zero_at IS NULL
    AND NOT (a.kind = 'moved' AND (stockrelay.is_far(a.was, l.listed_quantity, move_factor)
                                   OR stockrelay.is_renamed(l, l.listed_rows, l.listed_identifiers)))
    AND NOT (a.kind = 'risen' AND stockrelay.is_risen(a.was, l.listed_quantity));
    DELETE FROM stockrelay.anomaly AS a USING stockrelay.ledger AS l, stockrelay.ledger AS h
    WHERE a.channel = state.channel AND a.kind = 'gone' AND l.channel = a.channel AND l.sku = a.sku
    AND h.channel = a.channel AND h.listed_identifiers = l.identifiers AND h.sku <> l.sku AND h.listed_rows > 0
    AND (h.identifiers = l.identifiers OR (h.identifiers IS NULL AND h.parked_at IS NULL));
    SELECT count(*) FILTER (WHERE a.kind IN ('gone', 'zero')) AS zeroes, count(*) FILTER (WHERE a.kind = 'gone') AS gone,
           count(*) FILTER (WHERE a.kind = 'new') AS new, count(*) FILTER (WHERE a.kind = 'moved') AS moved,
           count(*) FILTER (WHERE a.kind IN ('gone', 'zero') AND x.is_over) AS sold_out,
           count(*) FILTER (WHERE a.kind IN ('gone', 'zero') AND x.is_over AND a.was <= 5) AS few_sold_out
    INTO seen
    FROM stockrelay.anomaly AS a
    LEFT JOIN stockrelay.ledger AS l ON l.channel = a.channel AND l.sku = a.sku
    CROSS JOIN LATERAL (
        SELECT NOT coalesce(greatest(l.acked_quantity, l.attempt_quantity) > 0, false) AS is_over
    ) AS x
    WHERE a.channel = state.channel AND a.at > since;
    -- On sale were those that the marketplace still shows, and those that fell within the window.
    SELECT seen.sold_out + count(*) FILTER (WHERE x.shown > 0) AS skus,
           seen.few_sold_out + count(*) FILTER (WHERE x.shown BETWEEN 1 AND 5) AS few,
           count(*) FILTER (WHERE l.listed_rows > 0) AS rows_now
    INTO sale
    FROM stockrelay.ledger AS l
    CROSS JOIN LATERAL (SELECT greatest(l.acked_quantity, l.attempt_quantity) AS shown) AS x
    WHERE l.channel = state.channel;
    rows_once := greatest(sale.rows_now + seen.gone, CASE WHEN is_whole THEN state.listed END);
    most_zeroes := greatest(zero_count, zero_share * sale.skus);
    most_moves := greatest(zero_count, 5, move_share * sale.skus);
    UPDATE stockrelay.guard AS g SET on_sale = sale.skus, listed = rows_once, counted_at = now WHERE g.channel = state.channel;
    -- A wrong unit makes zeroes of small numbers; a single moved number beside an import of zeroes is no wrong unit.
    IF seen.moved > greatest(zero_count, 5) AND seen.moved + seen.zeroes > most_moves THEN
        why := 'moves';
        kinds := ARRAY['moved', 'gone', 'zero'];
    END IF;
    -- New SKUs without stock are an everyday event, unless they are a large part of all.
    IF seen.new > greatest(10, zero_count, zero_share * sale.rows_now) THEN
        why := 'new';
        kinds := kinds || ARRAY['new'];
    END IF;
    -- A handful of SKUs that leave together is a person's doing.
    has_shrunk := seen.gone > 0 AND rows_once - sale.rows_now >= 10 AND rows_once - sale.rows_now > row_share * rows_once;
    IF has_shrunk THEN
        why := 'rows';
        kinds := kinds || ARRAY['gone', 'zero'];
    ELSIF seen.zeroes > most_zeroes THEN
        why := CASE WHEN seen.gone * 2 > seen.zeroes THEN 'rows' ELSE 'zeroes' END;
        kinds := kinds || ARRAY['gone', 'zero'];
    END IF;
    IF why IS NULL THEN
        RETURN 0;
    END IF;
    IF 'zero' = ANY (kinds) THEN
        kinds := kinds || ARRAY['risen'];
    END IF;
    WITH unsent AS (
        SELECT l.sku, b.kind
        FROM stockrelay.in_bulk(state.channel, since, most_zeroes, greatest(zero_count, zero_share * sale.few),
                                has_shrunk) AS b
        JOIN stockrelay.ledger AS l ON l.channel = state.channel AND l.sku = b.sku
        WHERE b.kind = ANY (kinds) AND l.held_at IS NULL AND l.parked_at IS NULL
        AND (l.due_at IS NOT NULL OR l.attempt_id IS NOT NULL)
        AND CASE b.kind WHEN 'moved' THEN l.zero_at IS NULL AND (stockrelay.is_far(b.was, l.listed_quantity, move_factor)
                                                                 OR stockrelay.is_renamed(l, l.listed_rows, l.listed_identifiers))
                        WHEN 'risen' THEN l.zero_at IS NULL AND stockrelay.is_risen(b.was, l.listed_quantity)
                        ELSE l.zero_at IS NOT NULL AND coalesce(l.acked_quantity, 1) > 0 END
        FOR UPDATE OF l SKIP LOCKED
    ), held AS (
        UPDATE stockrelay.ledger AS l SET held_at = now, first_dirty_at = NULL, urgent = false, due_at = NULL
        FROM unsent AS u WHERE l.channel = state.channel AND l.sku = u.sku RETURNING u.kind
    )
    SELECT count(*), count(*) FILTER (WHERE h.kind = 'risen') INTO newly_held, newly_risen FROM held AS h;
    IF newly_held > 0 THEN
        why := stockrelay.worse_cause(state.cause, why);
        UPDATE stockrelay.guard AS g SET
            held_since = coalesce(g.held_since, now), held_from = coalesce(g.held_from, since),
            held_to = clock_timestamp(), cause = why, zeroes = seen.zeroes + seen.new, gone = seen.gone, moved = seen.moved,
            risen = coalesce(g.risen, 0) + newly_risen,
            most = CASE WHEN why = 'moves' THEN most_moves ELSE most_zeroes END, skus = sale.skus,
            rows_before = greatest(g.rows_before, rows_once), rows_now = sale.rows_now,
            -- A person who was asked about less is asked again.
            asked_at = CASE WHEN why = g.cause THEN g.asked_at END
        WHERE g.channel = state.channel;
    END IF;
    RETURN newly_held;
END $$;

-- After a marking with anomalies, in the same transaction. Returns how many numbers it held.
CREATE FUNCTION stockrelay.hold_anomalies(
    channel text, zero_share float8, zero_count integer, row_share float8, move_factor float8, move_share float8,
    spell interval, drip_share float8, drip_spell interval, is_whole boolean, read_from pg_snapshot
) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    state CONSTANT stockrelay.guard := stockrelay.locked_guard(hold_anomalies.channel);
    now CONSTANT timestamptz := clock_timestamp();
    since timestamptz;
    seen record;
    newly_held bigint := 0;
BEGIN
    -- The writers of what this marking has found are looked up only now, since nearly all markings find nothing.
    IF read_from IS NOT NULL THEN
        UPDATE stockrelay.anomaly AS a SET xid = u.xid, backend = u.backend, relation = u.relation
        FROM (
            SELECT DISTINCT ON (c.sku) c.sku, c.xid, c.backend, c.relation FROM stockrelay.unread(read_from) AS c
            WHERE c.sku IN (SELECT n.sku FROM stockrelay.anomaly AS n
                            WHERE n.channel = hold_anomalies.channel AND n.at > now - interval '1 h'
                            AND n.xid = pg_current_xact_id())
            ORDER BY c.sku, c.at DESC
        ) AS u
        WHERE a.channel = hold_anomalies.channel AND a.sku = u.sku;
    END IF;
    -- (Nothing at all is sent before the first filling is found good.)
    IF now < state.pass_until OR state.filled_at IS NULL THEN
        RETURN 0;
    END IF;
    since := greatest(now - spell, state.pass_until);
    SELECT count(*) FILTER (WHERE a.kind IN ('gone', 'zero')) AS zeroes, count(*) FILTER (WHERE a.kind = 'gone') AS gone,
           count(*) FILTER (WHERE a.kind = 'new') AS new, count(*) FILTER (WHERE a.kind = 'moved') AS moved
    INTO seen
    FROM stockrelay.anomaly AS a WHERE a.channel = hold_anomalies.channel AND a.at > since;
    -- The last counts are good enough to say that it is nothing; that it is too much is counted exactly.
    IF (seen.zeroes > zero_count AND coalesce(seen.zeroes > zero_share * state.on_sale, true))
       OR (seen.gone > 0 AND is_whole) OR (seen.gone >= 10 AND coalesce(seen.gone > row_share * state.listed, true))
       OR (seen.new > 10 AND coalesce(seen.new > zero_share * state.listed, true))
       OR (seen.moved > 5
           AND coalesce(seen.moved + seen.zeroes > move_share * state.on_sale, true)) THEN
        newly_held := stockrelay.hold_bulk(state, since, zero_share, zero_count, row_share, move_factor, move_share, is_whole);
    END IF;
    IF state.is_dripping AND newly_held = 0 THEN
        newly_held := stockrelay.hold_bulk(state, greatest(now - drip_spell, state.pass_until), drip_share, 10, row_share,
                                           move_factor, drip_share, false);
    END IF;
    RETURN newly_held;
END $$;

-- Whether anomalies that a claim has found, and no marking has counted, may be sent: a few in the window are noted and may;
-- more wait for a marking, which decides.
CREATE FUNCTION stockrelay.pass_anomalies(
    channel text, zero_share float8, zero_count integer, spell interval, skus text[], kinds text[], numbers integer[]
) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    -- Locked, so that the next marking counts what is noted here.
    state CONSTANT stockrelay.guard := stockrelay.locked_guard(pass_anomalies.channel);
    now CONSTANT timestamptz := clock_timestamp();
    noted bigint;
    claimed bigint;
BEGIN
    IF now < state.pass_until THEN
        RETURN true;
    END IF;
    SELECT count(*), count(*) FILTER (WHERE a.xid IS NULL) INTO noted, claimed FROM stockrelay.anomaly AS a
    WHERE a.channel = pass_anomalies.channel AND a.at > greatest(now - spell, state.pass_until) AND a.sku <> ALL (skus)
    AND a.kind <> 'risen';
    IF noted + cardinality(skus) > greatest(zero_count, zero_share * coalesce(state.on_sale, 0))
       OR claimed + cardinality(skus) > greatest(zero_count, 50) THEN
        RETURN false;
    END IF;
    INSERT INTO stockrelay.anomaly AS a (channel, sku, at, kind, was)
    SELECT pass_anomalies.channel, u.sku, now, u.kind, u.was FROM unnest(skus, kinds, numbers) AS u (sku, kind, was)
    ON CONFLICT (channel, sku) DO UPDATE SET
        at = excluded.at, kind = excluded.kind, was = excluded.was, xid = NULL, backend = NULL, relation = NULL;
    RETURN true;
END $$;

-- Whether a channel's first filling is held because too many of its rows are zero; nothing of it is sent then. Otherwise
-- the channel is filled from now on.
CREATE FUNCTION stockrelay.hold_filling(channel text, listed bigint, zeroes bigint, zero_share float8, zero_count integer)
RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    state CONSTANT stockrelay.guard := stockrelay.locked_guard(hold_filling.channel);
    now CONSTANT timestamptz := clock_timestamp();
BEGIN
    IF now < state.pass_until OR zeroes <= greatest(zero_count, zero_share * listed) THEN
        UPDATE stockrelay.guard AS g SET filled_at = coalesce(g.filled_at, now) WHERE g.channel = state.channel;
        -- Counted as a whole here.
        DELETE FROM stockrelay.anomaly AS a WHERE a.channel = state.channel AND a.kind = 'new';
        RETURN false;
    END IF;
    UPDATE stockrelay.guard AS g SET
        filled_at = NULL, held_since = coalesce(g.held_since, now), held_from = coalesce(g.held_from, now), held_to = now,
        cause = 'first', zeroes = hold_filling.zeroes, gone = 0, moved = 0, risen = 0, skus = hold_filling.listed,
        rows_before = hold_filling.listed, rows_now = hold_filling.listed
    WHERE g.channel = state.channel;
    RETURN true;
END $$;
