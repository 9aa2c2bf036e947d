-- Running the operator's listing, as a whole, for some SKUs, or around rows that fail.

-- A listing's quantity, exactly: the server's own cast of a `real` keeps six digits.
CREATE FUNCTION stockrelay.as_numeric(quantity real) RETURNS numeric LANGUAGE sql IMMUTABLE
RETURN quantity::double precision::numeric;
CREATE FUNCTION stockrelay.as_numeric(quantity double precision) RETURNS numeric LANGUAGE sql IMMUTABLE
RETURN quantity::numeric;
CREATE FUNCTION stockrelay.as_numeric(quantity numeric) RETURNS numeric LANGUAGE sql IMMUTABLE
RETURN quantity;
CREATE FUNCTION stockrelay.as_numeric(quantity bigint) RETURNS numeric LANGUAGE sql IMMUTABLE
RETURN quantity::numeric;
CREATE FUNCTION stockrelay.as_numeric(quantity integer) RETURNS numeric LANGUAGE sql IMMUTABLE
RETURN quantity::numeric;
CREATE FUNCTION stockrelay.as_numeric(quantity anyelement) RETURNS numeric
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS 'SELECT quantity::numeric';

-- What a listing says of one SKU. `fault`: why its row can't be read; empty when that was not found out in time.
CREATE TYPE stockrelay.listed_row AS (
    sku text, rows integer, identifiers text[], number numeric, quantity integer, fault text
);

-- Runs a listing for some SKUs. Its tables are locked only while it runs: not already when the statement around it is
-- prepared, after which a stalled client would keep them locked, and no longer than it runs. For the block ends with an
-- error, which gives its locks back, while the rows it has returned stay. So a TRUNCATE in the ERP waits for this reading
-- alone, not for what the statement around it writes. (`concat` copies a value out of storage that a TRUNCATE empties.)
-- VOLATILE: the snapshot is taken when the tables are locked. In an older one, a table that was emptied and filled again
-- while the lock was waited for is empty.
-- `query` has a row's columns without `fault`. The caller's rights and search_path apply. The whole listing has a function
-- of its own, since the planner takes the number of rows from the function.
CREATE FUNCTION stockrelay.listed(query text, wanted text[]) RETURNS SETOF stockrelay.listed_row
LANGUAGE plpgsql VOLATILE ROWS 100 AS $$
DECLARE
    is_read boolean := false;
BEGIN
    RETURN QUERY EXECUTE pg_catalog.concat(
        'SELECT pg_catalog.concat(q.sku), q.rows, q.identifiers, q.number, q.quantity, NULL::pg_catalog.text FROM (', query, ') AS q')
        USING ''::pg_catalog.text, wanted;
    is_read := true;
    RAISE SQLSTATE 'SR002';
EXCEPTION WHEN SQLSTATE 'SR002' THEN
    IF NOT is_read THEN
        RAISE;  -- the query's own
    END IF;
END $$;

CREATE FUNCTION stockrelay.listed_whole(query text) RETURNS SETOF stockrelay.listed_row
LANGUAGE sql VOLATILE ROWS 100000 AS $$SELECT * FROM stockrelay.listed(query, NULL)$$;

-- The same for a query that gives SKUs, such as those of a fan-out's changed rows; `most` at most.
CREATE FUNCTION stockrelay.resolved(query text, changed jsonb, most integer) RETURNS SETOF text
LANGUAGE plpgsql VOLATILE ROWS 100 AS $$
DECLARE
    is_read boolean := false;
BEGIN
    RETURN QUERY EXECUTE query USING changed, most;
    is_read := true;
    RAISE SQLSTATE 'SR002';
EXCEPTION WHEN SQLSTATE 'SR002' THEN
    IF NOT is_read THEN
        RAISE;  -- the query's own
    END IF;
END $$;

-- The SKUs of the ledger and of the watched tables: for a listing that fails even when asked for its SKUs alone. The
-- operator's SKU expressions are looked up on his `path`.
CREATE FUNCTION stockrelay.known_skus(channel text, path text) RETURNS text[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known text[] := ARRAY(SELECT l.sku FROM stockrelay.ledger AS l WHERE l.channel = known_skus.channel);
    watched record;
    named_by text;
    named text[];
BEGIN
    FOR watched IN SELECT w.relation::regclass AS name, w.sku FROM stockrelay.watch AS w LOOP
        BEGIN
            named_by := format('SELECT (%s)::pg_catalog.text AS sku FROM %s', watched.sku, watched.name);
            PERFORM pg_catalog.set_config('search_path', path, true);
            named := ARRAY(SELECT stockrelay.resolved(named_by, NULL, NULL));
            PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
            known := known || named;
        EXCEPTION WHEN OTHERS THEN
            NULL;  -- we may not read it, or it is gone
        END;
    END LOOP;
    RETURN known;
END $$;

-- Whether an error is of a class that the server raises by itself: connections, transactions, rights and syntax,
-- resources, locks, cancelling, the system. All others are made by a row's values.
CREATE FUNCTION stockrelay.is_class_of_server(state text) RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN left(state, 2) = ANY ('{08,25,26,28,40,42,53,55,57,58,XX}');

-- Whether a row of a listing may have raised an error: any RAISE in a function of the ERP's, and of the server's classes
-- those other than cancelling, lock timeouts and lost connections. As in daemon/store/driver_errors.py.
CREATE FUNCTION stockrelay.may_be_of_a_row(state text, origin text) RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN NOT stockrelay.is_class_of_server(state) OR left(state, 2) IN ('40', '42', '53')
       OR (split_part(origin, E'\n', 1) LIKE '%RAISE' AND strpos(split_part(origin, E'\n', 1), 'stockrelay.') = 0);

-- Whether a SKU other than these can be read, which shows that server, query and rights are right.
CREATE FUNCTION stockrelay.is_another_readable(channel text, portion_query text, but text[], path text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    other text;
    is_read boolean;
BEGIN
    FOR other IN SELECT l.sku FROM stockrelay.ledger AS l
                 WHERE l.channel = is_another_readable.channel AND l.listed_identifiers IS NOT NULL AND NOT l.sku = ANY (but)
                 LIMIT 5 LOOP
        BEGIN
            PERFORM pg_catalog.set_config('search_path', path, true);
            is_read := EXISTS (SELECT FROM stockrelay.listed(portion_query, ARRAY[other]));
            PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
            IF is_read THEN
                RETURN true;
            END IF;
        EXCEPTION WHEN OTHERS OR assert_failure THEN
            NULL;  -- it shows nothing
        END;
    END LOOP;
    RETURN false;
END $$;

-- Whether the channel's `only` leaves out a SKU whose row fails, if that can be told without what fails. `chosen_query` gives
-- 0 rows for it then.
CREATE FUNCTION stockrelay.is_left_out(chosen_query text, sku text, path text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    is_left_out boolean;
BEGIN
    PERFORM pg_catalog.set_config('search_path', path, true);
    is_left_out := EXISTS (SELECT FROM stockrelay.listed(chosen_query, ARRAY[sku]) AS q WHERE q.rows = 0);
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    RETURN is_left_out;
EXCEPTION WHEN OTHERS OR assert_failure THEN
    RETURN false;
END $$;

-- Reads a listing of which some rows fail: a portion that fails is halved until the SKU is alone. `portion_query` gives
-- what the listing says of the SKUs $2; `names_query` gives all SKUs, for `wanted` NULL. The listing runs with the
-- caller's rights and on the caller's `path`, all else on the server's own. `chosen_query`: see `is_left_out`; or NULL. Each portion has its own locks and snapshot.
-- After a thousand failures or ten seconds of them, portions that fail are returned as not read: claims, which read few SKUs,
-- find out. A listing that fails for every SKU raises its error, and so does one of which no SKU can be read, if the error
-- may be the server's or the query's, such as a missing right.
CREATE FUNCTION stockrelay.listed_apart(channel text, portion_query text, names_query text, wanted text[], path text, chosen_query text DEFAULT NULL)
RETURNS SETOF stockrelay.listed_row
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    largest integer;
    first_doubt text;
    origin text;
    is_any_read boolean := false;
    names text[] := wanted;
    portion text[];
    part text[];
    listed stockrelay.listed_row[];
    size integer;
    place integer;
    fault text;
    failures integer := 0;
    lost interval := '0';
    began timestamptz;
BEGIN
    IF names IS NULL THEN
        BEGIN
            PERFORM pg_catalog.set_config('search_path', path, true);
            names := ARRAY(SELECT stockrelay.resolved(names_query, NULL, NULL));
            PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
        EXCEPTION WHEN OTHERS OR assert_failure OR query_canceled THEN
            GET STACKED DIAGNOSTICS origin = PG_EXCEPTION_CONTEXT;
            IF NOT stockrelay.may_be_of_a_row(SQLSTATE, origin) THEN
                RAISE;
            END IF;
            PERFORM pg_catalog.set_config('search_path', path, true);
            PERFORM FROM stockrelay.listed(portion_query, ARRAY[]::pg_catalog.text[]);
            PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
            names := stockrelay.known_skus(channel, path);
        END;
    END IF;
    -- Few portions, since each may read a whole table.
    largest := greatest(1000, cardinality(names) / 32);
    size := largest;
    FOR portion IN
        -- Those that failed the last time come last, together: the others are read in large portions.
        SELECT array_agg(n.sku ORDER BY n.place) FROM (
            SELECT u.sku, row_number() OVER (ORDER BY e.sku IS NOT NULL, u.sku) AS place
            FROM (SELECT DISTINCT k.sku FROM unnest(names) AS k (sku) WHERE octet_length(k.sku) <= 1000) AS u
            LEFT JOIN stockrelay.ledger AS e
                ON e.channel = listed_apart.channel AND e.sku = u.sku AND e.listed_rows = 1 AND e.listed_identifiers IS NULL
        ) AS n GROUP BY n.place / largest ORDER BY n.place / largest
    LOOP
        place := 1;
        WHILE place <= cardinality(portion) LOOP
            part := portion[place:place + size - 1];
            fault := NULL;
            began := clock_timestamp();
            BEGIN
                PERFORM pg_catalog.set_config('search_path', path, true);
                listed := ARRAY(SELECT q FROM stockrelay.listed(portion_query, part) AS q);
                PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
                is_any_read := is_any_read OR cardinality(listed) > 0;
            EXCEPTION WHEN OTHERS OR assert_failure OR query_canceled THEN
                GET STACKED DIAGNOSTICS origin = PG_EXCEPTION_CONTEXT;
                IF NOT stockrelay.may_be_of_a_row(SQLSTATE, origin)
                   -- A function that raises an error anew may have waited for a lock.
                   OR (SQLSTATE = '55P03' AND clock_timestamp() - began > '400 ms') THEN
                    RAISE;
                END IF;
                IF first_doubt IS NULL AND stockrelay.is_class_of_server(SQLSTATE) THEN
                    first_doubt := SQLERRM;
                END IF;
                fault := left(CASE WHEN stockrelay.is_readable(SQLERRM) THEN SQLERRM
                                   ELSE encode(convert_to(SQLERRM, getdatabaseencoding()), 'escape') END, 300);
            END;
            IF fault IS NULL THEN
                RETURN QUERY SELECT f.* FROM unnest(listed) AS f;
                place := place + size;
                size := least(2 * size, largest);
                CONTINUE;
            END IF;
            IF failures = 0 THEN
                PERFORM pg_catalog.set_config('search_path', path, true);
                PERFORM FROM stockrelay.listed(portion_query, ARRAY[]::pg_catalog.text[]);
                PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
            END IF;
            failures := failures + 1;
            lost := lost + (clock_timestamp() - began);
            IF cardinality(part) = 1 AND chosen_query IS NOT NULL AND stockrelay.is_left_out(chosen_query, part[1], path) THEN
                RETURN QUERY SELECT part[1], 0, NULL::text[], NULL::numeric, NULL::integer, NULL::text;
                place := place + 1;
            ELSIF cardinality(part) = 1 OR failures > 1000 OR lost > '10 s' THEN
                RETURN QUERY SELECT s.sku, 1, NULL::text[], NULL::numeric, NULL::integer,
                                    CASE WHEN cardinality(part) = 1 THEN fault ELSE '' END
                             FROM unnest(part) AS s (sku);
                place := place + cardinality(part);
            ELSE
                size := cardinality(part) / 2;
            END IF;
        END LOOP;
    END LOOP;
    IF first_doubt IS NOT NULL AND NOT is_any_read
       AND NOT stockrelay.is_another_readable(channel, portion_query, names, path) THEN
        -- With a code of our own: the daemon would take the original for an outage of the server.
        RAISE SQLSTATE 'SR003' USING MESSAGE = first_doubt;
    END IF;
END $$;
