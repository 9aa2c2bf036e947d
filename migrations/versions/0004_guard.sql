-- Zeroes that are held until a person or the data lets them go.

-- What has fallen to zero of late, also what was sent since or is forgotten. Rows older than the window mean nothing.
CREATE TABLE stockrelay.fall (
    channel  text        NOT NULL,
    sku      text        NOT NULL,
    at       timestamptz NOT NULL,
    is_gone  boolean     NOT NULL,
    PRIMARY KEY (channel, sku)
) WITH (fillfactor = 80);
CREATE INDEX fall_at ON stockrelay.fall (channel, at);

-- One channel's guard. Held since `held_since` are the zeroes that were first known between `held_from` and `held_to`;
-- the numbers beside it are those of that moment. Until `pass_until` a release is valid: the rest of the same import does
-- not ask again, and what fell before it is never counted again. `on_sale` and `listed` are counted every so often.
CREATE TABLE stockrelay.guard (
    channel         text        PRIMARY KEY,
    held_since      timestamptz,
    held_from       timestamptz,
    held_to         timestamptz,
    cause           text        CHECK (cause IN ('zeroes', 'rows')),
    zeroes          bigint,
    skus            bigint,
    rows_before     bigint,
    rows_now        bigint,
    asked_at        timestamptz,
    pass_until      timestamptz NOT NULL DEFAULT '-infinity',
    released_at     timestamptz,
    released_by     text        CHECK (released_by IN ('command', 'recovery')),
    released        bigint,
    is_told         boolean     NOT NULL DEFAULT true,
    on_sale         bigint,
    listed          bigint,
    counted_at      timestamptz,
    CHECK ((held_since IS NULL) = (held_from IS NULL) AND (held_since IS NULL) = (held_to IS NULL))
);

-- Whether there is nothing left of a SKU: it has left the listing, or its one row says zero.
CREATE FUNCTION stockrelay.is_zero(rows integer, quantity integer) RETURNS boolean
LANGUAGE sql IMMUTABLE RETURN rows = 0 OR (rows = 1 AND coalesce(quantity = 0, false));

-- Whether a zero would be news: the partner was last told more, and no zero of it is known yet.
CREATE FUNCTION stockrelay.falls(d stockrelay.ledger) RETURNS boolean
LANGUAGE sql IMMUTABLE
RETURN d.identifiers IS NOT NULL AND d.zero_at IS NULL
       AND (coalesce(d.acked_quantity, 1) > 0 OR coalesce(d.attempt_quantity, 0) > 0);

-- A channel's guard, locked until the end of the transaction: who counts after that sees what others have counted.
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

-- The slow look, taken only when the quick one finds too many: takes out of the falls what is none any more (the number
-- is back, or another SKU was given the identifiers), counts what was on sale, and holds what has not been sent yet.
-- Whoever is claiming a row just now may send it: it is not waited for. Returns how many it held.
-- Without nested loops: the server knows nothing of how many falls there are, and would read the ledger once for each.
CREATE FUNCTION stockrelay.hold_bulk(
    state stockrelay.guard, since timestamptz, zero_share float8, zero_count integer, row_share float8, is_whole boolean
) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET enable_nestloop = off AS $$
DECLARE
    now CONSTANT timestamptz := clock_timestamp();
    fallen bigint;
    missing bigint;
    base bigint;
    rows_left bigint;
    rows_once bigint;
    why text;
    newly_held bigint;
BEGIN
    DELETE FROM stockrelay.fall AS f USING stockrelay.ledger AS l
    WHERE f.channel = state.channel AND l.channel = f.channel AND l.sku = f.sku AND l.zero_at IS NULL;
    DELETE FROM stockrelay.fall AS f USING stockrelay.ledger AS l, stockrelay.ledger AS h
    WHERE f.channel = state.channel AND f.is_gone AND l.channel = f.channel AND l.sku = f.sku
    AND h.channel = f.channel AND h.listed_identifiers = l.identifiers AND h.sku <> l.sku AND h.listed_rows > 0
    AND (h.identifiers = l.identifiers OR (h.identifiers IS NULL AND h.parked_at IS NULL));
    -- On sale were those the partner still shows, and those it was told of within the window.
    SELECT count(*), count(*) FILTER (WHERE f.is_gone),
           count(*) FILTER (WHERE NOT coalesce(greatest(l.acked_quantity, l.attempt_quantity) > 0, false))
    INTO fallen, missing, base
    FROM stockrelay.fall AS f LEFT JOIN stockrelay.ledger AS l ON l.channel = f.channel AND l.sku = f.sku
    WHERE f.channel = state.channel AND f.at > since;
    SELECT base + count(*) FILTER (WHERE greatest(l.acked_quantity, l.attempt_quantity) > 0),
           count(*) FILTER (WHERE l.listed_rows > 0)
    INTO base, rows_left
    FROM stockrelay.ledger AS l WHERE l.channel = state.channel;
    rows_once := greatest(rows_left + missing, CASE WHEN is_whole THEN state.listed END);
    why := CASE WHEN fallen > zero_count AND fallen > zero_share * base THEN 'zeroes'
                -- A handful of SKUs that leave together is a person's doing.
                WHEN missing > 0 AND rows_once - rows_left >= 10 AND rows_once - rows_left > row_share * rows_once THEN 'rows'
           END;
    UPDATE stockrelay.guard AS g SET on_sale = base, listed = rows_once, counted_at = now WHERE g.channel = state.channel;
    IF why IS NULL THEN
        RETURN 0;
    END IF;
    WITH unsent AS (
        SELECT l.sku FROM stockrelay.fall AS f JOIN stockrelay.ledger AS l ON l.channel = f.channel AND l.sku = f.sku
        WHERE f.channel = state.channel AND f.at > since AND l.zero_at IS NOT NULL AND l.held_at IS NULL
        AND l.parked_at IS NULL AND l.due_at IS NOT NULL AND coalesce(l.acked_quantity, 1) > 0
        AND (l.attempt_id IS NULL OR l.attempt_quantity > 0)
        FOR UPDATE OF l SKIP LOCKED
    )
    UPDATE stockrelay.ledger AS l SET held_at = now, first_dirty_at = NULL, urgent = false, due_at = NULL
    FROM unsent AS u WHERE l.channel = state.channel AND l.sku = u.sku;
    GET DIAGNOSTICS newly_held = ROW_COUNT;
    IF newly_held > 0 OR state.held_since IS NOT NULL THEN
        UPDATE stockrelay.guard AS g SET
            held_since = coalesce(g.held_since, now), held_from = coalesce(g.held_from, since),
            held_to = clock_timestamp(), cause = coalesce(g.cause, why), zeroes = fallen, skus = base,
            rows_before = greatest(g.rows_before, rows_once), rows_now = rows_left
        WHERE g.channel = state.channel;
    END IF;
    RETURN newly_held;
END $$;

-- After a marking in which something fell to zero, in the same transaction. Returns how many zeroes it held.
CREATE FUNCTION stockrelay.hold_zeroes(
    channel text, zero_share float8, zero_count integer, row_share float8, spell interval, is_whole boolean
) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    state CONSTANT stockrelay.guard := stockrelay.locked_guard(hold_zeroes.channel);
    now CONSTANT timestamptz := clock_timestamp();
    since timestamptz;
    zeroes bigint;
    gone bigint;
BEGIN
    IF now < state.pass_until THEN
        RETURN 0;
    END IF;
    since := greatest(now - spell, state.pass_until);
    SELECT count(*), count(*) FILTER (WHERE f.is_gone) INTO zeroes, gone
    FROM stockrelay.fall AS f WHERE f.channel = hold_zeroes.channel AND f.at > since;
    -- What is counted every so often is near enough to say that it is nothing; that it is too much is counted anew.
    IF (zeroes > zero_count AND coalesce(zeroes > zero_share * state.on_sale, true))
       OR (gone > 0 AND is_whole) OR (gone >= 10 AND coalesce(gone > row_share * state.listed, true)) THEN
        RETURN stockrelay.hold_bulk(state, since, zero_share, zero_count, row_share, is_whole);
    END IF;
    RETURN 0;
END $$;

-- Zeroes that a claim has found and no marking has counted. A few are noted and may go at once; what goes beyond
-- `zero_count` in the window waits for the marking, which decides.
CREATE FUNCTION stockrelay.pass_zeroes(channel text, zero_count integer, spell interval, skus text[], are_gone boolean[])
RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    now CONSTANT timestamptz := clock_timestamp();
    pass_until CONSTANT timestamptz :=
        (SELECT g.pass_until FROM stockrelay.guard AS g WHERE g.channel = pass_zeroes.channel);
    zeroes bigint;
BEGIN
    IF now < pass_until THEN
        RETURN true;
    END IF;
    SELECT count(*) INTO zeroes FROM (
        SELECT FROM stockrelay.fall AS f
        WHERE f.channel = pass_zeroes.channel AND f.at > greatest(now - spell, pass_until) AND f.sku <> ALL (skus)
        LIMIT zero_count
    ) AS few;
    IF zeroes + cardinality(skus) > zero_count THEN
        RETURN false;
    END IF;
    INSERT INTO stockrelay.fall AS f (channel, sku, at, is_gone)
    SELECT pass_zeroes.channel, u.sku, now, u.is_gone FROM unnest(skus, are_gone) AS u (sku, is_gone)
    ON CONFLICT (channel, sku) DO UPDATE SET at = excluded.at, is_gone = excluded.is_gone;
    RETURN true;
END $$;

REVOKE ALL ON FUNCTION stockrelay.is_zero, stockrelay.falls, stockrelay.locked_guard, stockrelay.hold_bulk,
    stockrelay.hold_zeroes, stockrelay.pass_zeroes FROM PUBLIC;
