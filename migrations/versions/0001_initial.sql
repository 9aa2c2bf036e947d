-- Everything Stockrelay keeps in the database. Run by the owner role; what the daemon's role needs is in deploy/roles.sql.

-- Text in another encoding than UTF-8, in which the daemon reads and writes ------------------------------------------

-- Whether the daemon can read this text, and name it so that the database finds it again.
CREATE FUNCTION stockrelay.is_readable(value text) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN convert_from(convert_to(value, 'UTF8'), 'UTF8') = value;
EXCEPTION WHEN character_not_in_repertoire OR untranslatable_character THEN
    RETURN false;
END $$;

-- Which of these characters, given in UTF-8, the database's encoding has.
CREATE FUNCTION stockrelay.can_hold(characters bytea[]) RETURNS boolean[]
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    held boolean[] := '{}';
    each bytea;
BEGIN
    FOREACH each IN ARRAY characters LOOP
        BEGIN
            PERFORM convert_from(each, 'UTF8');
            held := held || true;
        EXCEPTION WHEN character_not_in_repertoire OR untranslatable_character THEN
            held := held || false;
        END;
    END LOOP;
    RETURN held;
END $$;

-- Capture: what the ERP's triggers write ------------------------------------------------------------------------

-- What every capture has to know, in one number. Its lowest bit: which slot of the change log takes the next row. The
-- number itself: until when (milliseconds since 1970) an intake is polling quickly, and nobody needs to ring; from 2^62 on
-- the doorbell is off. A sequence, because an expression can read one without a query; and it is written in place, where
-- a row would grow a chain of versions. Two who write it at once may undo each other: then a bell rings that need not, or
-- the slots change places the next time.
CREATE SEQUENCE stockrelay.capture_word MINVALUE 0 START 0;
SELECT setval('stockrelay.capture_word', 0);

-- Nobody needs to ring for so many milliseconds (0: ring again), unless the doorbell is off.
CREATE FUNCTION stockrelay.stay_awake(how_long_ms float8) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    SELECT setval('stockrelay.capture_word', w.word & 1 | CASE WHEN how_long_ms > 0 THEN
        (extract(epoch FROM clock_timestamp()) * 1000 + how_long_ms)::bigint & ~1::bigint ELSE 0 END)
    FROM (SELECT pg_sequence_last_value('stockrelay.capture_word') AS word) AS w WHERE w.word < 4611686018427387904
$$;

-- Switches the doorbell on or off.
CREATE FUNCTION stockrelay.set_doorbell(has_doorbell boolean) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    SELECT setval('stockrelay.capture_word', w.word & 1 | CASE WHEN has_doorbell THEN 0 ELSE 4611686018427387904 END)
    FROM (SELECT pg_sequence_last_value('stockrelay.capture_word') AS word) AS w
    WHERE (w.word < 4611686018427387904) <> has_doorbell
$$;

-- The change log, in two slots that take turns: one is written while the other is emptied by TRUNCATE.
-- `sku` NULL means that anything in a watched table may have changed; `relation` is the watched table, NULL where anything
-- in any of them may have changed; `backend` is the process of the session that wrote.
CREATE TABLE stockrelay.change_0 (
    xid       xid8        NOT NULL,
    at        timestamptz NOT NULL,
    relation  oid,
    backend   integer,
    sku       text
) WITH (autovacuum_enabled = false);
CREATE INDEX change_0_xid ON stockrelay.change_0 (xid);
CREATE TABLE stockrelay.change_1 (LIKE stockrelay.change_0 INCLUDING ALL) WITH (autovacuum_enabled = false);

CREATE VIEW stockrelay.change AS
    SELECT 0::smallint AS slot, xid, at, relation, backend, sku FROM stockrelay.change_0
    UNION ALL
    SELECT 1::smallint AS slot, xid, at, relation, backend, sku FROM stockrelay.change_1;

-- The doorbell. A row in it rings at commit, and only in the transaction that wins the lock: a NOTIFY makes commits queue
-- for each other. A full notification queue would fail the ERP's COMMIT, so the bell stays silent long before that.
-- `at` is -infinity where a comparison of everything is asked for; by its `xid` a reading finds that without the bell (see
-- `is_asked`). The index's condition calls no function: EXECUTE of one may have been revoked.
CREATE TABLE stockrelay.bell (at timestamptz NOT NULL, xid xid8) WITH (autovacuum_enabled = false);
CREATE INDEX bell_asked ON stockrelay.bell (xid) WHERE xid IS NOT NULL;

CREATE FUNCTION stockrelay.ring() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
    context text;
BEGIN
    -- A transaction that has executed NOTIFY can't be prepared: what it changed is found by polling. After SET CONSTRAINTS
    -- this runs before the end of the transaction, inside another function or in that statement itself: how the
    -- transaction will end is not known then.
    IF current_setting('max_prepared_transactions') <> '0' THEN
        GET DIAGNOSTICS context = PG_CONTEXT;
        IF strpos(context, E'\n') > 0 OR current_query() ~* 'prepare.*transaction|set.*constraints' COLLATE "C" THEN
            RETURN NULL;
        END IF;
    END IF;
    IF (pg_try_advisory_xact_lock(7830361, 1) OR NEW.at = '-infinity') AND pg_notification_queue_usage() < 0.5
       AND (NEW.at > '-infinity' OR pg_sequence_last_value('stockrelay.capture_word') < 4611686018427387904) THEN
        PERFORM pg_notify('stockrelay', CASE NEW.at WHEN '-infinity' THEN 'resync' ELSE '' END);
        -- Whoever wakes looks again after this long, so what is captured meanwhile need not ring.
        IF pg_sequence_last_value('stockrelay.capture_word') < extract(epoch FROM clock_timestamp()) * 1000 + 10 THEN
            PERFORM stockrelay.stay_awake(10);
        END IF;
    END IF;
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    -- The ERP's COMMIT would fail. Without the bell, the change is found by polling.
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER stockrelay_ring AFTER INSERT ON stockrelay.bell
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION stockrelay.ring();
ALTER TABLE stockrelay.bell ENABLE ALWAYS TRIGGER stockrelay_ring;

-- Whether a row can be written to the bell: it is locked then, and the bell rings at commit. If not, what was captured is
-- found by polling. One who asks will do for all who are writing just now; if it does not commit soon, the others are found
-- by polling.
CREATE FUNCTION stockrelay.try_bell() RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    LOCK TABLE stockrelay.bell IN ROW EXCLUSIVE MODE NOWAIT;
    IF NOT has_table_privilege('stockrelay.bell', 'INSERT') THEN
        RETURN false;
    END IF;
    PERFORM stockrelay.stay_awake(3);
    RETURN true;
EXCEPTION WHEN OTHERS THEN
    RETURN false;
END $$;

-- Says that anything may have changed: after a TRUNCATE, or when a capture could not say what. A slot that somebody has
-- locked, dropped or renamed is stepped over; if there is none, a comparison of everything is asked for at commit. What
-- could fail is tried in a block that writes nothing: one that writes would use up a subtransaction id. A trial does all but
-- writing: after a trial that raised nothing, nothing raises.
CREATE FUNCTION stockrelay.capture_everything(is_trial boolean) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    slot smallint;
    word bigint;
    is_asked boolean := false;
    own_xid xid8;
    now timestamptz;
    backend integer;
BEGIN
    FOR candidate IN 0 .. 1 LOOP
        BEGIN
            IF candidate = 0 THEN
                LOCK TABLE stockrelay.change_0 IN ROW EXCLUSIVE MODE NOWAIT;
            ELSE
                LOCK TABLE stockrelay.change_1 IN ROW EXCLUSIVE MODE NOWAIT;
            END IF;
            IF has_table_privilege('stockrelay.change_' || candidate, 'INSERT') THEN
                own_xid := pg_current_xact_id();
                slot := candidate;
                EXIT;
            END IF;
        EXCEPTION WHEN OTHERS THEN
            NULL;
        END;
    END LOOP;
    IF is_trial THEN
        RETURN;
    END IF;
    BEGIN
        backend := pg_backend_pid();
        now := clock_timestamp();
    EXCEPTION WHEN OTHERS THEN
        now := CURRENT_TIMESTAMP;  -- is no function, and needs no right
    END;
    BEGIN
        word := pg_sequence_last_value('stockrelay.capture_word');
        IF slot IS NOT NULL THEN
            is_asked := word < extract(epoch FROM now) * 1000 AND stockrelay.try_bell();
        ELSE
            BEGIN
                own_xid := pg_current_xact_id();
            EXCEPTION WHEN OTHERS THEN
                own_xid := NULL;  -- then the comparison is asked for by the bell alone
            END;
            is_asked := stockrelay.try_bell();
            IF is_asked THEN
                now := '-infinity';
            ELSIF word < 4611686018427387904 AND pg_notification_queue_usage() < 0.5
                  AND current_setting('max_prepared_transactions') = '0' THEN
                PERFORM pg_notify('stockrelay', 'resync');
            END IF;
        END IF;
    EXCEPTION WHEN OTHERS THEN
        NULL;
    END;
    IF slot = 0 THEN
        INSERT INTO stockrelay.change_0 (xid, at, backend) VALUES (own_xid, now, backend);
    ELSIF slot = 1 THEN
        INSERT INTO stockrelay.change_1 (xid, at, backend) VALUES (own_xid, now, backend);
    END IF;
    IF is_asked THEN
        INSERT INTO stockrelay.bell (at, xid) VALUES (now, CASE WHEN slot IS NULL THEN own_xid END);
    END IF;
END $$;

-- Which tables are watched, as configured. `is_always`: the triggers also fire in replicated sessions. `sku_column` is NULL
-- where the SKU is an expression; `inputs` are the columns that it reads, `types` what they were when the triggers were made.
CREATE TABLE stockrelay.watch (
    relation   oid         PRIMARY KEY,
    name       text        NOT NULL,
    sku        text        NOT NULL,
    -- A fan-out: the query for the SKUs that a changed row stands for, over `changed`, which has the columns `keys`, defined
    -- as in `changed`; the relations that the query reads. `sku` makes those columns of the row a text then.
    skus       text,
    changed    text,
    keys       text[],
    reads      oid[],
    function   text        NOT NULL,
    is_always  boolean     NOT NULL,
    sku_column name,
    inputs     name[]      NOT NULL DEFAULT '{}',
    types      oid[]       NOT NULL DEFAULT '{}',
    since      timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The columns of a table that an SKU expression reads. Raises what is wrong with the expression.
CREATE FUNCTION stockrelay.sku_inputs(relation regclass, sku text) RETURNS name[]
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    inputs name[];
BEGIN
    -- The server itself knows what a view reads. The row as a whole has another name here than in check_watch: it is not to
    -- be read, as that says nothing of columns.
    EXECUTE format('CREATE VIEW stockrelay.sku_probe AS SELECT (%s)::text AS sku FROM %s AS old_rows', sku, relation);
    SELECT array_agg(a.attname) INTO inputs
    FROM pg_rewrite AS r
    JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
                       AND d.refclassid = 'pg_class'::regclass AND d.refobjid = relation
    JOIN pg_attribute AS a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid AND a.attnum > 0
    WHERE r.ev_class = 'stockrelay.sku_probe'::regclass;
    DROP VIEW stockrelay.sku_probe;
    RETURN coalesce(inputs, '{}');
END $$;

-- What a domain is made of, other types as they are. Of a type that is not the server's own (16384 and above) its owner says
-- how it becomes a text: that function would run with the rights of whoever casts. Casts of domains are those of the base.
CREATE FUNCTION stockrelay.base_type(type oid) RETURNS oid
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH RECURSIVE base (id, depth) AS (
        SELECT type, 0
        UNION ALL
        SELECT t.typbasetype, b.depth + 1 FROM pg_type AS t JOIN base AS b ON t.oid = b.id WHERE t.typtype = 'd'
    )
    SELECT b.id FROM base AS b ORDER BY b.depth DESC LIMIT 1
$$;

-- Types whose values are the same text whatever a session has set: boolean, "char", name, the integers, text, oid, char,
-- varchar, numeric, uuid.
CREATE FUNCTION stockrelay.is_plain_type(type oid) RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN type = ANY ('{16,18,19,20,21,23,25,26,1042,1043,1700,2950}'::oid[]);

-- What a watched table's trigger functions pin, beside the search path: the ERP's session may have set anything. Without
-- `jit = off`, a low jit_above_cost has each statement compiled; each setting more costs microseconds. How a value becomes a text depends on settings for other than
-- plain types; an expression may make a text of anything. The daemon's sessions have the same (store/database.py).
CREATE FUNCTION stockrelay.capture_settings(relation regclass, sku_column name) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT 'SET jit = off' || CASE
        WHEN stockrelay.is_plain_type((SELECT stockrelay.base_type(a.atttypid) FROM pg_attribute AS a
                                       WHERE a.attrelid = relation AND a.attname = sku_column)) THEN ''
        ELSE ' SET datestyle = ''ISO, MDY'' SET intervalstyle = ''postgres'' SET timezone = ''UTC'' SET extra_float_digits = 1'
             ' SET bytea_output = ''hex'' SET lc_monetary = ''C'' SET quote_all_identifiers = off SET xmloption = ''content'''
             ' SET array_nulls = on SET transform_null_equals = off SET standard_conforming_strings = on'
             ' SET backslash_quote = ''safe_encoding'' SET row_security = off' END
$$;

-- The source of one watched table's trigger function for one event (insert, update, delete, truncate). `sku_column` is
-- the SKU's column, NULL where the SKU is an expression over several.
--
-- It runs with the rights of our schema's owner, and who owns the table may do anything to it at any time: give a column
-- another type with a cast to text that does what he likes, make it a virtual one, rename or drop it. So a column is cast
-- while it is of the type that it had, or of a plain one; a type that is not the server's own (16384 and above) is written as
-- it is shown, which only the server's functions do. Of any other type, anything may have changed. An expression is computed
-- while all that it reads is of the server's types.
--
-- Nothing may fail the ERP's statement. So everything is read, called and locked in a block whose failure makes the capture
-- say that anything may have changed; what is written after it is made of variables alone. The block itself writes nothing:
-- one that writes would use up a subtransaction id for each of the ERP's statements.
--
-- Each of the ERP's statements pays for every line of it, and PL/pgSQL prepares each expression anew in every transaction:
-- there are few.
CREATE FUNCTION stockrelay.capture_source(relation regclass, sku text, sku_column name, event text) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $outer$
DECLARE
    source CONSTANT text := $source$
#variable_conflict use_column
DECLARE
    capture_word bigint;
    capture_skus text[] COLLATE "C";
    capture_old text[] COLLATE "C";
    capture_at timestamptz;
    capture_backend integer;
    capture_xid xid8;
    capture_rings boolean := false;
BEGIN
    BEGIN@read@
        IF capture_skus = '{}' THEN
            RETURN NULL;
        END IF;
        -- A lock is also had by who may UPDATE.
        IF capture_word & 1 = 0 THEN
            LOCK TABLE stockrelay.change_0 IN ROW EXCLUSIVE MODE NOWAIT;
            capture_xid := CASE WHEN has_table_privilege('stockrelay.change_0'::regclass, 'INSERT') THEN pg_current_xact_id() END;
        ELSE
            LOCK TABLE stockrelay.change_1 IN ROW EXCLUSIVE MODE NOWAIT;
            capture_xid := CASE WHEN has_table_privilege('stockrelay.change_1'::regclass, 'INSERT') THEN pg_current_xact_id() END;
        END IF;
        IF capture_skus[2] IS NOT NULL OR capture_word < date_part('epoch', capture_at) * 1000 THEN
            PERFORM unnest('{}'::text[]);
            capture_rings := capture_word < date_part('epoch', capture_at) * 1000 AND stockrelay.try_bell();
        END IF;
    EXCEPTION WHEN OTHERS OR assert_failure THEN
        capture_xid := NULL;
    END;
    IF capture_xid IS NULL OR capture_skus[2] IS NOT NULL OR capture_rings THEN
        -- So many SKUs are not read one by one (MANY in store/intake.py): they are not named.
        IF capture_xid IS NULL OR capture_skus[5001] IS NOT NULL THEN@everything@
        ELSIF capture_word & 1 = 0 THEN
            INSERT INTO stockrelay.change_0 (xid, at, relation, backend, sku)
            SELECT capture_xid, capture_at, @relation@, capture_backend, unnest(capture_skus);
        ELSE
            INSERT INTO stockrelay.change_1 (xid, at, relation, backend, sku)
            SELECT capture_xid, capture_at, @relation@, capture_backend, unnest(capture_skus);
        END IF;
        IF capture_rings THEN
            INSERT INTO stockrelay.bell (at) VALUES (capture_at);
        END IF;
    ELSIF capture_word & 1 = 0 THEN
        INSERT INTO stockrelay.change_0 (xid, at, relation, backend, sku)
        VALUES (capture_xid, capture_at, @relation@, capture_backend, capture_skus[1]);
    ELSE
        INSERT INTO stockrelay.change_1 (xid, at, relation, backend, sku)
        VALUES (capture_xid, capture_at, @relation@, capture_backend, capture_skus[1]);
    END IF;
    RETURN NULL;
END $source$;
    everything CONSTANT text := $everything$
            BEGIN
                PERFORM stockrelay.capture_everything(is_trial => true);
            EXCEPTION WHEN OTHERS THEN
                RETURN NULL;
            END;
            PERFORM stockrelay.capture_everything(is_trial => false);$everything$;
    -- An UPDATE that changes the SKU itself changes two. That is rare: as a rule the old rows have the same, in the same order.
    read_both CONSTANT text := $read$
        SELECT @new@, @old@, pg_sequence_last_value('stockrelay.capture_word'), clock_timestamp(), pg_backend_pid()
        INTO capture_skus, capture_old, capture_word, capture_at, capture_backend;
        IF capture_skus <> capture_old THEN
            capture_skus := ARRAY(SELECT unnest(capture_skus)
                                  UNION ALL (SELECT unnest(capture_old) EXCEPT SELECT unnest(capture_skus)));
        END IF;$read$;
    read_one CONSTANT text := $read$
        SELECT @rows@, pg_sequence_last_value('stockrelay.capture_word'), clock_timestamp(), pg_backend_pid()
        INTO capture_skus, capture_word, capture_at, capture_backend;$read$;
    tables CONSTANT text[] := CASE event WHEN 'insert' THEN '{new_rows}' WHEN 'update' THEN '{new_rows, old_rows}'
                                         WHEN 'delete' THEN '{old_rows}' ELSE '{}' END;
    type oid;
    value text;
    checks text := '';
    named text[];
    body text;
BEGIN
    IF cardinality(tables) = 0 THEN
        RETURN 'BEGIN' || everything || E'\n            RETURN NULL;\nEND';
    END IF;
    IF sku_column IS NULL THEN
        SELECT string_agg(format(
            E'\n        IF NOT (SELECT %s FROM %s LIMIT 1) THEN RAISE EXCEPTION ''another type''; END IF;', is_safe, t), '')
        INTO checks
        FROM unnest(tables) AS t, (
            SELECT string_agg(format('(pg_typeof(%I)::oid < 16384%s)', a.attname, CASE
                WHEN a.atttypid >= 16384 THEN format(' OR pg_typeof(%I)::oid = %s', a.attname, a.atttypid) END), ' AND ') AS is_safe
            FROM pg_attribute AS a
            WHERE a.attrelid = relation AND a.attname = ANY (stockrelay.sku_inputs(relation, sku))) AS i
        WHERE is_safe IS NOT NULL;
        -- OFFSET: computed once for each row.
        value := 'ARRAY(SELECT c.sku FROM (SELECT (@sku@)::text AS sku FROM %s OFFSET 0) AS c WHERE c.sku IS NOT NULL LIMIT 5001)';
    ELSE
        SELECT a.atttypid INTO STRICT type FROM pg_attribute AS a WHERE a.attrelid = relation AND a.attname = sku_column;
        -- DISTINCT FROM: a composite value IS NULL when its fields are. NULL in the change log: anything may have changed.
        value := 'ARRAY(SELECT CASE WHEN pg_typeof(@sku@)::oid = ' || type || ' THEN '
            || CASE WHEN stockrelay.base_type(type) < 16384 THEN '(@sku@)::text' ELSE 'concat(@sku@)' END
            || ' WHEN pg_typeof(@sku@)::oid = ANY (''{16,18,19,20,21,23,25,26,1042,1043,1700,2950}''::oid[]) THEN (@sku@)::text END '
               'FROM %s WHERE @sku@ IS DISTINCT FROM NULL LIMIT 5001)';
    END IF;
    named := ARRAY(SELECT format(value, t) FROM unnest(tables) AS t);
    body := coalesce(checks, '') || CASE event
        WHEN 'update' THEN replace(replace(read_both, '@new@', named[1]), '@old@', named[2])
        ELSE replace(read_one, '@rows@', named[1]) END;
    body := replace(replace(source, '@read@', body), '@everything@', everything);
    RETURN replace(replace(body, '@relation@', relation::oid::text), '@sku@', sku);
END $outer$;

-- What is captured for a fan-out, a watch whose query `skus` says which SKUs a changed row (`changed` in it) stands for: the
-- columns that the query reads, as JSON, under a mark (see `take_changes`). The intake runs the query, never the ERP's
-- transaction. Raises what is wrong with the query.
CREATE FUNCTION stockrelay.fan_out(
    relation regclass, name text, skus text, OUT sku text, OUT changed text, OUT keys text[], OUT reads oid[]
) LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    columns_given integer;
BEGIN
    BEGIN
        EXECUTE format(E'CREATE VIEW stockrelay.skus_probe AS SELECT s.* FROM %s AS changed, LATERAL (\n%s\n) AS s', relation, skus);
    EXCEPTION WHEN insufficient_privilege THEN
        RAISE;
    WHEN OTHERS THEN
        RAISE EXCEPTION 'watch: the query skus of % does not work: %', name, SQLERRM
            USING HINT = 'It is one SELECT of SKUs for one changed row, which is called changed in it; tables and functions '
                         'are written with their schema.';
    END;
    SELECT count(*) INTO columns_given FROM pg_attribute AS a WHERE a.attrelid = 'stockrelay.skus_probe'::regclass AND a.attnum > 0;
    IF columns_given <> 1 THEN
        RAISE EXCEPTION 'watch: the query skus of % has % columns', name, columns_given
            USING HINT = 'It gives one column: the SKU, spelled as in the listings.';
    END IF;
    SELECT array_agg(a.attname::text ORDER BY a.attnum),
           -- -1: a value is not cut to the length of the column.
           string_agg(format('%I %s', a.attname, format_type(stockrelay.base_type(a.atttypid), -1)), ', ' ORDER BY a.attnum),
           format('E''\x02%s '' || json_build_object(%s)::text', relation::oid,
                  string_agg(format('%L, %I', a.attname, a.attname), ', ' ORDER BY a.attnum))
    INTO keys, changed, sku
    FROM (SELECT DISTINCT d.refobjsubid AS attnum FROM pg_rewrite AS r JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass
          AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass AND d.refobjid = relation
          WHERE r.ev_class = 'stockrelay.skus_probe'::regclass) AS u
    JOIN pg_attribute AS a ON a.attrelid = relation AND a.attnum = u.attnum AND a.attnum > 0;
    SELECT array_agg(DISTINCT d.refobjid) INTO reads FROM pg_rewrite AS r JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass
    AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass AND d.refobjid NOT IN (relation, r.ev_class)
    WHERE r.ev_class = 'stockrelay.skus_probe'::regclass;
    -- A query that reads nothing of the row gives the same for any number of rows.
    IF keys IS NULL THEN
        keys := '{}';
        changed := 'nothing text';
        sku := format('E''\x02%s {}''', relation::oid);
    END IF;
    DROP VIEW stockrelay.skus_probe;
END $$;

-- The table itself and everything below it: a statement on a partition fires only the partition's own triggers.
CREATE FUNCTION stockrelay.relation_tree(root oid) RETURNS SETOF oid
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH RECURSIVE tree (id) AS (
        SELECT root UNION SELECT i.inhrelid FROM pg_inherits AS i JOIN tree ON i.inhparent = tree.id
    )
    SELECT id FROM tree
$$;

-- Refuses what can't be watched, in words; returns the SKU's column, NULL where the SKU is another expression.
CREATE FUNCTION stockrelay.check_watch(relation regclass, name text, sku text) RETURNS name
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    plan text;
    foreign_part regclass;
    foreign_column name;
    foreign_type text;
    column_name name;
    inputs name[];
BEGIN
    IF (SELECT c.relkind NOT IN ('r', 'p') FROM pg_class AS c WHERE c.oid = relation) THEN
        RAISE EXCEPTION 'watch: % is not a table', name
            USING HINT = 'Watch the tables below a view: name each of them, and read the view in the listing.';
    END IF;
    SELECT c.oid INTO foreign_part FROM stockrelay.relation_tree(relation) AS t JOIN pg_class AS c ON c.oid = t
    WHERE c.relkind NOT IN ('r', 'p') LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'watch: % has the part %, which is a foreign table', name, foreign_part
            USING HINT = 'A foreign table takes no trigger, and writing through its parent would fail with ours: '
                         'watch the other parts one by one.';
    END IF;
    SELECT a.attname INTO column_name FROM pg_attribute AS a
    WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped
    AND (quote_ident(a.attname) = sku OR a.attname = lower(sku COLLATE "C")) LIMIT 1;
    IF FOUND AND EXISTS (SELECT FROM pg_get_keywords() AS k WHERE k.word = lower(sku COLLATE "C") AND k.catcode IN ('R', 'T')) THEN
        RAISE EXCEPTION 'watch: "%" is a word of SQL and a column of %', sku, name
            USING HINT = format('Write the column in double quotes: %I', column_name);
    END IF;
    BEGIN
        -- As the triggers do it. In WHERE, because an aggregate or a set is not one SKU for each row.
        EXECUTE format('SELECT FROM %s AS new_rows WHERE (%s)::text IS NULL LIMIT 0', relation, sku);
        EXECUTE format('EXPLAIN (FORMAT JSON) SELECT (%s)::text FROM %s AS new_rows', sku, relation) INTO plan;
    EXCEPTION WHEN insufficient_privilege THEN
        RAISE;
    WHEN OTHERS THEN
        RAISE EXCEPTION 'watch: the SKU expression "%" does not work on %: %', sku, name, SQLERRM
            USING HINT = 'It is an SQL expression over one row of the table, its columns without the table''s name; '
                         'functions outside pg_catalog are written with their schema.';
    END;
    IF plan LIKE '%"Subplan Name"%' THEN
        RAISE EXCEPTION 'watch: the SKU expression "%" on % reads another table', sku, name
            USING HINT = 'The ERP''s statements would wait for that table''s locks: watch it too, and join in the listing.';
    END IF;
    inputs := CASE WHEN column_name IS NULL THEN stockrelay.sku_inputs(relation, sku) ELSE ARRAY[column_name] END;
    SELECT a.attname INTO foreign_column FROM pg_attribute AS a
    WHERE a.attrelid = relation AND a.attname = ANY (inputs) AND a.attgenerated = 'v' LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'watch: the SKU "%" on % reads %, a virtual generated column', sku, name, foreign_column
            USING HINT = 'A trigger cannot read one. Write the expression that it is generated from as watch.sku, or make the '
                         'column STORED.';
    END IF;
    IF column_name IS NULL THEN
        SELECT a.attname, format_type(a.atttypid, a.atttypmod) INTO foreign_column, foreign_type FROM pg_attribute AS a
        WHERE a.attrelid = relation AND a.attname = ANY (inputs)
        AND stockrelay.base_type(a.atttypid) >= 16384 LIMIT 1;
        IF FOUND THEN
            RAISE EXCEPTION 'watch: the SKU expression "%" on % reads %, whose type % is not one of the server''s own',
                sku, name, foreign_column, foreign_type
                USING HINT = 'Whoever owns that type could have code run as the owner of the schema stockrelay. Watch the table '
                             'by another column, or give it a stored generated column of type text.';
        END IF;
    END IF;
    RETURN column_name;
END $$;

-- Sets the triggers of one relation; says whether they also fire in replicated sessions (ENABLE ALWAYS wants the
-- table's owner, CREATE TRIGGER only the TRIGGER privilege). What is right already is not touched, and who has the table
-- locked is not waited for: the ERP's writers would queue behind us.
CREATE FUNCTION stockrelay.set_triggers(relation regclass, function text) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '300ms' AS $$
DECLARE
    part record;
    own text;
    is_always boolean := true;
BEGIN
    FOR part IN SELECT * FROM (VALUES
        ('stockrelay_insert', 'INSERT', 4, 'REFERENCING NEW TABLE AS new_rows'),
        ('stockrelay_update', 'UPDATE', 16, 'REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows'),
        ('stockrelay_delete', 'DELETE', 8, 'REFERENCING OLD TABLE AS old_rows'),
        ('stockrelay_truncate', 'TRUNCATE', 32, '')) AS v (name, event, type, tables)
    LOOP
        own := function || '_' || lower(part.event COLLATE "C");
        CONTINUE WHEN EXISTS (
            SELECT FROM pg_trigger AS t WHERE t.tgrelid = relation AND t.tgname = part.name AND t.tgtype = part.type
            AND t.tgfoid = to_regproc(format('stockrelay.%I', own)) AND t.tgenabled = 'A');
        EXECUTE format('CREATE OR REPLACE TRIGGER %I AFTER %s ON %s %s FOR EACH STATEMENT EXECUTE FUNCTION stockrelay.%I()',
                       part.name, part.event, relation, part.tables, own);
        BEGIN
            EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', relation, part.name);
        EXCEPTION WHEN insufficient_privilege THEN
            is_always := false;
        END;
    END LOOP;
    RETURN is_always;
END $$;

-- Takes our triggers off one relation, wherever they came from.
CREATE FUNCTION stockrelay.drop_triggers(relation regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '300ms' AS $$
DECLARE
    name text;
BEGIN
    FOR name IN
        SELECT t.tgname FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = t.tgfoid
        WHERE t.tgrelid = relation AND p.pronamespace = 'stockrelay'::regnamespace AND NOT t.tgisinternal
    LOOP
        BEGIN
            EXECUTE format('DROP TRIGGER %I ON %s', name, relation);
        EXCEPTION WHEN insufficient_privilege THEN
            RAISE EXCEPTION 'watch: % is not watched any more, but this role may not drop its triggers', relation
                USING HINT = format('Run as the owner of the table: DROP TRIGGER %I ON %s;', name, relation);
        END;
    END LOOP;
END $$;

-- Makes the triggers of these tables what the configuration says: [{"relation": oid, "table": name, "sku": ...}, ...], or
-- "skus" for a fan-out.
CREATE FUNCTION stockrelay.put_watches(watches jsonb) RETURNS SETOF stockrelay.watch
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    wanted record;
    relation regclass;
    id oid;
    event text;
    function_name text;
    sku_column name;
    is_always boolean;
    captured record;
    kept oid[] := '{}';
    members oid[] := '{}';
BEGIN
    FOR wanted IN SELECT w.* FROM jsonb_to_recordset(watches) AS w (relation oid, "table" text, sku text, skus text) LOOP
        relation := wanted.relation;
        SELECT f.* INTO captured FROM stockrelay.fan_out(relation, wanted."table", wanted.skus) AS f WHERE wanted.skus IS NOT NULL;
        wanted.sku := coalesce(captured.sku, wanted.sku);
        sku_column := stockrelay.check_watch(relation, wanted."table", wanted.sku);
        IF relation::oid = ANY (members) THEN
            RAISE EXCEPTION 'watch: % is watched already, by itself or as a part of another table', wanted."table"
                USING HINT = 'A table has one SKU expression.';
        END IF;
        function_name := 'capture_' || relation::oid;
        FOREACH event IN ARRAY ARRAY['insert', 'update', 'delete', 'truncate'] LOOP
            EXECUTE format('CREATE OR REPLACE FUNCTION stockrelay.%I() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER '
                           'SET search_path = pg_catalog, pg_temp %s AS %L', function_name || '_' || event,
                           stockrelay.capture_settings(relation, sku_column),
                           stockrelay.capture_source(relation, wanted.sku, sku_column, event));
            EXECUTE format('REVOKE ALL ON FUNCTION stockrelay.%I() FROM PUBLIC', function_name || '_' || event);
        END LOOP;
        is_always := true;
        FOR id IN SELECT stockrelay.relation_tree(relation) LOOP
            IF id = ANY (members) THEN
                RAISE EXCEPTION 'watch: the part % of % is watched already', id::regclass, wanted."table"
                    USING HINT = 'Watch the table above it or its parts, not both.';
            END IF;
            is_always := stockrelay.set_triggers(id, function_name) AND is_always;
            members := members || id;
        END LOOP;
        INSERT INTO stockrelay.watch AS w (relation, name, sku, function, is_always, sku_column, inputs, types)
        SELECT relation, wanted."table", wanted.sku, function_name, is_always, sku_column,
               coalesce(array_agg(a.attname ORDER BY a.attnum), '{}'), coalesce(array_agg(a.atttypid ORDER BY a.attnum), '{}')
        FROM pg_attribute AS a
        WHERE a.attrelid = relation AND a.attname = ANY (
            CASE WHEN sku_column IS NULL THEN stockrelay.sku_inputs(relation, wanted.sku) ELSE ARRAY[sku_column] END)
        ON CONFLICT ON CONSTRAINT watch_pkey DO UPDATE
        SET name = excluded.name, sku = excluded.sku, function = excluded.function, is_always = excluded.is_always,
            sku_column = excluded.sku_column, inputs = excluded.inputs, types = excluded.types;
        UPDATE stockrelay.watch AS w
        SET skus = wanted.skus, changed = captured.changed, keys = captured.keys, reads = captured.reads
        WHERE w.relation = wanted.relation;
        kept := kept || relation::oid;
    END LOOP;
    FOR relation IN
        SELECT DISTINCT t.tgrelid::regclass FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = t.tgfoid
        WHERE p.pronamespace = 'stockrelay'::regnamespace AND p.proname LIKE 'capture\_%' AND NOT t.tgisinternal
        AND t.tgrelid <> ALL (members)
    LOOP
        PERFORM stockrelay.drop_triggers(relation);
    END LOOP;
    FOR function_name IN
        SELECT p.proname FROM pg_proc AS p
        WHERE p.pronamespace = 'stockrelay'::regnamespace AND p.prorettype = 'trigger'::regtype
        AND p.proname LIKE 'capture\_%' AND regexp_replace(p.proname, '_[a-z]+$', '') <> ALL (
            SELECT 'capture_' || k FROM unnest(kept) AS k)
    LOOP
        EXECUTE format('DROP FUNCTION stockrelay.%I()', function_name);
    END LOOP;
    DELETE FROM stockrelay.watch AS w WHERE w.relation <> ALL (kept);
    RETURN QUERY SELECT w.* FROM stockrelay.watch AS w ORDER BY w.name;
END $$;

-- Makes the triggers what the configuration says: `watches` is [{"table": ..., "sku": ...}, ...], spelled as in SQL.
-- Idempotent; tables that are no longer watched lose their triggers. Returns what is watched now.
-- The tables' names are looked up on the caller's search path, and nothing else is: whoever may create things in a schema
-- of that path would have them called with the rights of the owner.
CREATE FUNCTION stockrelay.set_watches(watches jsonb) RETURNS SETOF stockrelay.watch
LANGUAGE sql AS $$
    SELECT p.* FROM stockrelay.put_watches((
        SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
            'relation', w."table"::pg_catalog.regclass::pg_catalog.oid, 'table', w."table", 'sku', w.sku, 'skus', w.skus))
        FROM pg_catalog.jsonb_to_recordset(watches) AS w ("table" pg_catalog.text, sku pg_catalog.text, skus pg_catalog.text)
    )) AS p
$$;

-- Intake: how far the change log has been read --------------------------------------------------------------------

-- The identity says which database this is: a clone or a restored copy has another one, and is not pushed from.
CREATE TABLE stockrelay.intake (
    one                boolean     PRIMARY KEY DEFAULT true CHECK (one),
    system_identifier  bigint      NOT NULL,
    database_oid       oid         NOT NULL,
    timeline           integer     NOT NULL,
    accepted_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- When the change log's slots changed places last.
    switched_at        timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- How far each channel has read the change log. `read_until` is the snapshot of its last reading: what is visible now and
-- was not visible then is new. `resynced_at` is when its whole listing was compared last; NULL: that is still to be done.
-- `seen_at`: a channel that nobody has read for an hour is not configured any more, and its row goes (see `rotate`); should
-- it come back, it begins with a comparison of everything. `refused`: how many SKUs of the listing the ledger can't hold, as
-- of the last comparison that could count them.
CREATE TABLE stockrelay.read_position (
    channel      text        PRIMARY KEY,
    read_until   pg_snapshot NOT NULL DEFAULT pg_current_snapshot(),
    resynced_at  timestamptz,
    seen_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    refused      bigint      NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

CREATE FUNCTION stockrelay.identity(OUT system_identifier bigint, OUT database_oid oid, OUT timeline integer)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    -- The timeline that is written now: the control file names it only after the first checkpoint on it.
    SELECT s.system_identifier, d.oid,
           CASE WHEN pg_is_in_recovery() THEN (SELECT c.timeline_id FROM pg_control_checkpoint() AS c)
                ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer END
    FROM pg_control_system() AS s, pg_database AS d WHERE d.datname = current_database()
$$;
INSERT INTO stockrelay.intake (system_identifier, database_oid, timeline) SELECT * FROM stockrelay.identity();

-- Whether a row of the change log is new to a reader that read until `then_snapshot`: its transaction was running
-- then, or began later. (What the reader's own snapshot does not show, it does not see.) A row that is visible although this
-- server has not completed its transaction was written on another server, and came here by a restore: it is never new.
CREATE FUNCTION stockrelay.unread(then_snapshot pg_snapshot)
RETURNS TABLE (at timestamptz, sku text, xid xid8, backend integer, relation oid)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
    began_later CONSTANT xid8 := pg_snapshot_xmax(then_snapshot);
    was_running CONSTANT xid8[] := ARRAY(SELECT pg_snapshot_xip(then_snapshot));
    now_snapshot CONSTANT pg_snapshot := pg_current_snapshot();
    not_begun CONSTANT xid8 := pg_snapshot_xmax(now_snapshot);
BEGIN
    RETURN QUERY SELECT c.at, c.sku, c.xid, c.backend, c.relation FROM stockrelay.change AS c
                 WHERE c.xid >= began_later AND c.xid < not_begun AND pg_visible_in_snapshot(c.xid, now_snapshot);
    IF cardinality(was_running) > 0 THEN
        RETURN QUERY SELECT c.at, c.sku, c.xid, c.backend, c.relation FROM stockrelay.change AS c
                     WHERE c.xid = ANY (was_running) AND pg_visible_in_snapshot(c.xid, now_snapshot);
    END IF;
END $$;

-- Whether a capture that could lock no slot has asked for a comparison of everything since `then_snapshot`. Its transaction
-- may not have rung: it was prepared, the doorbell is off, or the notification queue was more than half full.
CREATE FUNCTION stockrelay.is_asked(then_snapshot pg_snapshot) RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
BEGIN
    RETURN EXISTS (SELECT FROM stockrelay.bell AS b WHERE b.xid IS NOT NULL
                   AND pg_visible_in_snapshot(b.xid, pg_current_snapshot()) AND NOT pg_visible_in_snapshot(b.xid, then_snapshot));
EXCEPTION WHEN undefined_table THEN
    RETURN false;  -- the doorbell's table was dropped: changes are read without it
END $$;

-- Reads what is new to a channel and remembers how far; at most `max_skus` SKUs are named, beyond that `is_everything` is
-- true, as it is after a TRUNCATE. One reader of a channel at a time. `is_known` is false for a channel without a position
-- (see `begin_reading` in store/sql/intake.sql). The commit need not be durable: what the caller marks in the same
-- transaction would be lost with it, and be read again. Canaries (0007) count as read and are named to nobody. `read_from`:
-- how far it had been read before.
CREATE FUNCTION stockrelay.take_changes(
    channel text, max_skus integer,
    OUT is_known boolean, OUT changes bigint, OUT oldest timestamptz, OUT is_everything boolean, OUT skus text[],
    OUT unreadable text[], OUT read_from pg_snapshot
) LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    mark CONSTANT text := E'\x01stockrelay canary';
    reader stockrelay.read_position;
    now_snapshot pg_snapshot;
    has_rows boolean;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'take_changes wants READ COMMITTED: what is read here is newer than the lock';
    END IF;
    PERFORM set_config('synchronous_commit', 'off', true);
    -- Locked in a statement of its own: the reading below then has a snapshot that is newer than the last reader's.
    SELECT p.* INTO reader FROM stockrelay.read_position AS p WHERE p.channel = take_changes.channel FOR UPDATE;
    is_known := FOUND;
    changes := 0;
    is_everything := false;
    IF NOT is_known THEN
        RETURN;
    END IF;
    IF pg_snapshot_xmax(pg_current_snapshot()) < pg_snapshot_xmax(reader.read_until) THEN
        -- Transaction ids ran backwards: another server's history. Nothing stored says what is new.
        is_everything := true;
        UPDATE stockrelay.read_position AS p SET read_until = pg_current_snapshot(), seen_at = clock_timestamp()
        WHERE p.channel = take_changes.channel;
        RETURN;
    END IF;
    read_from := reader.read_until;
    -- A SKU may be spelled as a canary or a fan-out is. A canary was written for no table, a fan-out for a table with such a
    -- watch; or that watch is another one now, and everything is compared.
    WITH fresh AS MATERIALIZED (
        SELECT u.at, u.sku, u.relation, coalesce(u.sku = mark AND u.relation IS NULL, false) AS is_canary,
               starts_with(u.sku, E'\x02') AND NOT EXISTS (
                   SELECT FROM stockrelay.watch AS w WHERE w.relation = u.relation AND w.skus IS NOT NULL) AS is_odd
        FROM stockrelay.unread(reader.read_until) AS u
    ), dirty AS (
        SELECT DISTINCT CASE WHEN f.is_odd THEN E'\x02=' ELSE '' END || f.sku AS sku FROM fresh AS f
        WHERE f.sku IS NOT NULL AND NOT f.is_canary LIMIT max_skus + 1
    )
    SELECT (SELECT count(*) FROM fresh AS f WHERE NOT f.is_canary), (SELECT min(f.at) FROM fresh AS f WHERE NOT f.is_canary),
           (SELECT EXISTS (SELECT FROM fresh AS f WHERE f.sku IS NULL
                           OR (f.is_odd AND starts_with(f.sku, format(E'\x02%s {', f.relation))))),
           (SELECT array_agg(d.sku) FROM dirty AS d), pg_current_snapshot(), (SELECT EXISTS (SELECT FROM fresh))
    INTO changes, oldest, is_everything, skus, now_snapshot, has_rows;
    IF stockrelay.is_asked(reader.read_until) THEN
        is_everything := true;
        has_rows := true;
    END IF;
    IF getdatabaseencoding() <> 'UTF8' THEN
        SELECT array_agg(s.sku) FILTER (WHERE stockrelay.is_readable(s.sku)),
               array_agg(encode(convert_to(s.sku, getdatabaseencoding()), 'escape'))
                   FILTER (WHERE NOT stockrelay.is_readable(s.sku))
        INTO skus, unreadable FROM unnest(skus) AS s (sku);
    END IF;
    IF has_rows OR reader.seen_at < clock_timestamp() - interval '1 minute' THEN
        UPDATE stockrelay.read_position AS p SET read_until = now_snapshot, seen_at = clock_timestamp()
        WHERE p.channel = take_changes.channel;
    END IF;
    IF cardinality(skus) > max_skus THEN
        is_everything := true;
        skus := NULL;
    END IF;
END $$;

-- One step of the change log's rotation. A slot is emptied only when it has not been written for `min_age`, when
-- nobody has it locked (an uncommitted row holds a lock, and so does a reading under way) and when every channel has read
-- all of it (see `unread`). A switch that lies ahead of this server's clock was made by another clock, and delays nothing.
CREATE FUNCTION stockrelay.rotate(min_age interval) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    intake stockrelay.intake;
    reader stockrelay.read_position;
    word bigint;
    idle bigint;
    has_rows boolean;
    has_unread boolean;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'rotate wants READ COMMITTED: a slot is looked at after it was locked';
    END IF;
    IF EXISTS (SELECT FROM stockrelay.intake AS i WHERE i.switched_at > clock_timestamp() - min_age AND i.switched_at <= clock_timestamp()) THEN
        RETURN 'too early';
    END IF;
    SELECT * INTO intake FROM stockrelay.intake AS i FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN 'busy';
    END IF;
    SELECT last_value INTO STRICT word FROM stockrelay.capture_word;
    idle := 1 - (word & 1);
    EXECUTE format('SELECT EXISTS (SELECT FROM stockrelay.%I)', 'change_' || idle) INTO has_rows;
    IF NOT has_rows THEN
        EXECUTE format('SELECT EXISTS (SELECT FROM stockrelay.%I)', 'change_' || (word & 1)) INTO has_rows;
        IF NOT has_rows THEN
            RETURN 'empty';
        END IF;
        UPDATE stockrelay.intake SET switched_at = clock_timestamp();
        PERFORM setval('stockrelay.capture_word', word # 1);
        BEGIN
            LOCK TABLE stockrelay.bell IN ACCESS EXCLUSIVE MODE NOWAIT;
            IF NOT EXISTS (SELECT FROM stockrelay.read_position AS p WHERE stockrelay.is_asked(p.read_until)) THEN
                TRUNCATE stockrelay.bell;
            END IF;
        EXCEPTION WHEN lock_not_available THEN
            NULL;  -- the next time
        END;
        RETURN 'switched';
    END IF;
    BEGIN
        EXECUTE format('LOCK TABLE stockrelay.%I IN ACCESS EXCLUSIVE MODE NOWAIT', 'change_' || idle);
    EXCEPTION WHEN lock_not_available THEN
        RETURN 'locked';
    END;
    -- A position that is being read is not deleted; it is read by somebody.
    DELETE FROM stockrelay.read_position AS p USING (
        SELECT o.channel FROM stockrelay.read_position AS o WHERE o.seen_at < clock_timestamp() - interval '1 hour'
        FOR UPDATE SKIP LOCKED) AS old
    WHERE p.channel = old.channel;
    FOR reader IN SELECT p.* FROM stockrelay.read_position AS p LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM stockrelay.%I AS c WHERE (c.xid >= pg_snapshot_xmax($1) '
                       'OR c.xid = ANY (ARRAY(SELECT pg_snapshot_xip($1)))) AND pg_visible_in_snapshot(c.xid, $2))',
                       'change_' || idle)
        INTO has_unread USING reader.read_until, pg_current_snapshot();
        IF has_unread THEN
            RETURN 'unread';
        END IF;
    END LOOP;
    EXECUTE format('TRUNCATE stockrelay.%I', 'change_' || idle);
    RETURN 'emptied';
END $$;

-- The delivery ledger: what each partner is to be told, and what it has acknowledged --------------------------------

CREATE SEQUENCE stockrelay.want_seq AS bigint;
CREATE SEQUENCE stockrelay.attempt_id AS bigint;

CREATE TABLE stockrelay.ledger (
    channel              text        NOT NULL,
    sku                  text        NOT NULL,
    -- Who sends it: one of the channel's lanes, counted from 0 (see `division`).
    lane                 smallint    NOT NULL DEFAULT 0,
    -- What the ERP wants. `listed_*` is the listing when the row was marked last; `listed_rows` is 0 for a SKU that
    -- has left the listing and more than 1 for one that is in it twice.
    want_seq             bigint      NOT NULL,
    listed_rows          integer     NOT NULL,
    listed_identifiers   text[],
    listed_quantity      integer,
    first_dirty_at       timestamptz,
    unacked_since        timestamptz,
    urgent               boolean     NOT NULL DEFAULT false,
    -- When to claim it; NULL: nothing to do, in flight, parked, or held.
    due_at               timestamptz,
    -- What the partner has acknowledged, under which identifiers it was last sent.
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
    -- In doubt: an attempt ended unknown at `doubt_at`; it can land until `doubt_until`. Only the acknowledgement of a
    -- push that was claimed after `doubt_until` clears it.
    doubt_at             timestamptz,
    doubt_until          timestamptz,
    failures             integer     NOT NULL DEFAULT 0,
    retry_at             timestamptz,
    parked_reason        text,
    parked_at            timestamptz,
    -- For the guard (0004): since when its number is known to be zero, NULL while the partner was last told more, or
    -- nothing; and since when that zero is held.
    zero_at              timestamptz,
    held_at              timestamptz,
    -- Other listed SKUs with the same identifiers, the first four by name; NULL: there are none. `duplicates` is the
    -- channel's setting of that name as it was when they were noted.
    twins                text[],
    duplicates           text        CHECK (duplicates IN ('park', 'sum')),
    PRIMARY KEY (channel, sku),
    CHECK ((twins IS NULL) = (duplicates IS NULL)),
    CHECK (attempt_id IS NULL OR (attempt_epoch IS NOT NULL AND attempt_seq IS NOT NULL
           AND attempt_quantity IS NOT NULL AND attempt_at IS NOT NULL AND attempt_settles IS NOT NULL)),
    CHECK ((doubt_at IS NULL) = (doubt_until IS NULL))
) WITH (fillfactor = 70);
CREATE INDEX ledger_due ON stockrelay.ledger (channel, lane, urgent, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX ledger_parked ON stockrelay.ledger (channel, parked_at) WHERE parked_at IS NOT NULL;
CREATE INDEX ledger_held ON stockrelay.ledger (channel, held_at) WHERE held_at IS NOT NULL;
-- By a hash, as identifiers may be longer than an index takes.
CREATE INDEX ledger_identifiers ON stockrelay.ledger (channel, hash_array_extended(listed_identifiers, 0)) WHERE listed_rows > 0;

-- A listing's quantity, exactly: the server's own cast of a `real` keeps six digits. Of another type than these it is what
-- that casts to.
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

-- Run a listing, or any query of the operator's, for some SKUs or as a whole. Its tables are locked when it is run, not
-- already when the statement around it is prepared: a client that stands still between the two would keep them locked for
-- as long as it stands. They are unlocked when it has run: the block ends with an error, so its locks are given back, and
-- what it has returned stays. A TRUNCATE in the ERP waits for this reading alone, not for what the statement around it
-- writes. (`concat` copies a value that may be stored in another place, which a TRUNCATE empties.)
-- VOLATILE: the snapshot is taken when the tables are locked. In the snapshot of the statement around it, a table that was
-- emptied and filled again while the lock was waited for is empty.
-- `query` has a row's columns without `fault`. The caller's rights and search_path apply. The whole listing and the fan-outs
-- have functions of their own below: the planner takes how many rows to expect from the function.
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
LANGUAGE plpgsql VOLATILE ROWS 100000 AS $$
DECLARE
    is_read boolean := false;
BEGIN
    RETURN QUERY EXECUTE pg_catalog.concat(
        'SELECT pg_catalog.concat(q.sku), q.rows, q.identifiers, q.number, q.quantity, NULL::pg_catalog.text FROM (', query, ') AS q');
    is_read := true;
    RAISE SQLSTATE 'SR002';
EXCEPTION WHEN SQLSTATE 'SR002' THEN
    IF NOT is_read THEN
        RAISE;  -- the query's own
    END IF;
END $$;

-- The same for a query that gives SKUs: of a fan-out, those that changed rows stand for, `most` at most.
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

-- SKUs to read a listing by that can't even name its own: those of the ledger and of the watched tables.
-- An SKU expression is the operator's, and is looked up on his `path`.
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
            NULL;  -- not ours to read, or gone
        END;
    END LOOP;
    RETURN known;
END $$;

-- Whether an error is of a class that the server raises by itself: connections, transactions, rights and syntax,
-- resources, locks, cancelling, the system. All others are made by a row's values.
CREATE FUNCTION stockrelay.is_class_of_server(state text) RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN left(state, 2) = ANY ('{08,25,26,28,40,42,53,55,57,58,XX}');

-- Whether a row of a listing may have raised an error: any that a RAISE in the ERP's function made, and of the server's
-- classes those that are no cancelling, lock timeout or lost connection. As in daemon/store/row_errors.py.
CREATE FUNCTION stockrelay.may_be_of_a_row(state text, origin text) RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN NOT stockrelay.is_class_of_server(state) OR left(state, 2) IN ('40', '42', '53')
       OR (split_part(origin, E'\n', 1) LIKE '%RAISE' AND strpos(split_part(origin, E'\n', 1), 'stockrelay.') = 0);

-- Whether a SKU other than these can be read: then the server works, the query and the rights too.
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
            NULL;  -- it is no witness
        END;
    END LOOP;
    RETURN false;
END $$;

-- Reads a listing of which some rows fail: a portion that fails is halved until the SKU is alone. `portion_query` gives
-- what the listing says of the SKUs $2; `names_query` gives all SKUs, for `wanted` NULL. The listing runs with the
-- caller's rights and on the caller's `path`, all else on the server's own. Each portion has its own locks and snapshot.
-- The cost is bounded: after a thousand failures or ten seconds of them, what fails is given out as not read; a claim, which
-- reads few, finds out. A listing that fails whatever SKU is asked for raises its error. So does one of which no SKU can be
-- read, if the error may be the server's or the query's: a missing right, say.
CREATE FUNCTION stockrelay.listed_apart(channel text, portion_query text, names_query text, wanted text[], path text)
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
    -- Few portions, as each may read a whole table.
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
                   -- A function that repeats an error in its own words may have waited for a lock.
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
            IF cardinality(part) = 1 OR failures > 1000 OR lost > '10 s' THEN
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
        -- With a code of our own: the daemon would take the first one's for an outage of the server.
        RAISE SQLSTATE 'SR003' USING MESSAGE = first_doubt;
    END IF;
END $$;

-- Whether a new number goes ahead of the others: it falls to zero or below the channel's `urgent_below`, measured
-- against the highest number the partner may hold. Leaving the listing is falling to zero.
CREATE FUNCTION stockrelay.is_urgent(d stockrelay.ledger, rows integer, quantity integer, urgent_below integer)
RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN (rows = 0 OR coalesce(quantity = 0 OR quantity < urgent_below, false))
       AND coalesce(quantity, 0) < CASE WHEN d.doubt_at IS NULL THEN greatest(d.acked_quantity, d.attempt_quantity, 0)
                                        ELSE 2147483647 END;

-- The due rows of one lane that nobody is sending: urgent ones first, then so many others, each kind in the order in which
-- it became due. Read in the index's order and no further than wanted, whatever the statistics of a new or quickly growing
-- table say: any other plan reads the whole backlog for every claim. Nothing is locked; `version` changes with every write
-- of the row (what is STABLE reads the caller's snapshot).
CREATE FUNCTION stockrelay.due(channel text, lane integer, most integer, most_patient integer)
RETURNS TABLE (version xid, entry stockrelay.ledger)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off AS $$
DECLARE
    urgent_ones integer;
BEGIN
    RETURN QUERY SELECT l.xmin, l FROM stockrelay.ledger AS l
                 WHERE l.channel = due.channel AND l.lane = due.lane AND l.urgent AND l.due_at <= statement_timestamp()
                 AND l.attempt_id IS NULL
                 ORDER BY l.due_at LIMIT most;
    GET DIAGNOSTICS urgent_ones = ROW_COUNT;
    RETURN QUERY SELECT l.xmin, l FROM stockrelay.ledger AS l
                 WHERE l.channel = due.channel AND l.lane = due.lane AND NOT l.urgent AND l.due_at <= statement_timestamp()
                 AND l.attempt_id IS NULL
                 ORDER BY l.due_at LIMIT least(most_patient, most - urgent_ones);
END $$;

-- A parked row waits for a change of what was wrong with it, not for another number.
CREATE FUNCTION stockrelay.stays_parked(d stockrelay.ledger, wanted stockrelay.ledger)
RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN d.parked_at IS NOT NULL
       AND (d.listed_rows, d.listed_identifiers, d.listed_quantity IS NULL)
           IS NOT DISTINCT FROM (wanted.listed_rows, wanted.listed_identifiers, wanted.listed_quantity IS NULL);

-- Whether a row's SKU is listed, or is not, as before, and under the same identifiers.
CREATE FUNCTION stockrelay.is_named_alike(d stockrelay.ledger, wanted stockrelay.ledger)
RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN (d.listed_rows > 0) = (wanted.listed_rows > 0) AND d.listed_identifiers IS NOT DISTINCT FROM wanted.listed_identifiers;

-- Listed SKUs of a channel with the same identifiers are noted as each other's twins. `names`: the identifiers to look at, a
-- JSON array of arrays; NULL: all of the channel. A row whose twins are other ones than before is due, and no longer parked:
-- its claim decides anew. One that has its identifiers for itself again is sent whatever was acknowledged, as another SKU may
-- have been sent under them since. Identifiers of which one is missing are nobody's. Returns how many rows it changed.
-- Named ones are looked up one by one, whatever the statistics of a new table say.
CREATE FUNCTION stockrelay.note_twins(channel text, names jsonb, duplicates text, quiet interval) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_custom_plan
SET enable_seqscan = on SET enable_hashjoin = on SET enable_mergejoin = on
SET enable_indexscan = on SET enable_sort = on AS $$
DECLARE
    now CONSTANT timestamptz := clock_timestamp();
    noted bigint;
BEGIN
    -- (Settings that are changed here are so until the function ends.)
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
        SELECT l.sku, w.twins, w.duplicates
        FROM wanted AS w JOIN stockrelay.ledger AS l ON l.channel = note_twins.channel AND l.sku = w.sku
        WHERE (l.twins, l.duplicates) IS DISTINCT FROM (w.twins, w.duplicates)
        ORDER BY l.sku FOR UPDATE OF l
    )
    UPDATE stockrelay.ledger AS l SET
        twins = c.twins,
        duplicates = c.duplicates,
        want_seq = nextval('stockrelay.want_seq'),
        first_dirty_at = coalesce(l.first_dirty_at, now),
        unacked_since = coalesce(l.unacked_since, now),
        parked_at = NULL,
        parked_reason = NULL,
        doubt_at = CASE WHEN c.twins IS NULL AND l.identifiers IS NOT NULL THEN now ELSE l.doubt_at END,
        doubt_until = CASE WHEN c.twins IS NULL AND l.identifiers IS NOT NULL THEN greatest(l.doubt_until, now)
                           ELSE l.doubt_until END,
        attempt_settles = CASE WHEN l.attempt_id IS NOT NULL THEN l.attempt_settles AND c.twins IS NOT NULL END,
        due_at = CASE WHEN l.held_at IS NULL THEN greatest(l.retry_at, least(l.due_at, now + note_twins.quiet)) END
    FROM changed AS c WHERE l.channel = note_twins.channel AND l.sku = c.sku;
    GET DIAGNOSTICS noted = ROW_COUNT;
    RETURN noted;
END $$;

-- One line per attempt, appended when its outcome is known; a partition a day (UTC).
CREATE TABLE stockrelay.attempt (
    at           timestamptz NOT NULL,
    attempt_id   bigint      NOT NULL,
    channel      text        NOT NULL,
    sku          text        NOT NULL,
    identifiers  text[],
    quantity     integer     NOT NULL,
    seq          bigint      NOT NULL,
    epoch        bigint      NOT NULL,
    outcome      text        NOT NULL,
    reason       text        NOT NULL,
    duration_ms  real,
    -- The oldest change that it answers: what changed on a day is found by it.
    since        timestamptz
) PARTITION BY RANGE (at);
CREATE INDEX attempt_sku ON stockrelay.attempt (channel, sku, at);
CREATE TABLE stockrelay.attempt_rest PARTITION OF stockrelay.attempt DEFAULT;
-- Old rows are deleted from it, which a publication of all tables refuses of a table without a replica identity. Tables with
-- a primary key have one; from the others nothing is deleted.
ALTER TABLE stockrelay.attempt_rest REPLICA IDENTITY FULL;

-- The attempt log's proof. A call of log_attempts appends a batch; the batches of a lane on one day (UTC, of the attempts)
-- are a chain, each of them hashed together with the one before. Whoever changes the log later breaks the chain, or has
-- to rewrite it from there on to its head; and heads are logged every day, where the database's owner cannot reach.
CREATE TABLE stockrelay.attempt_chain (
    day         date   NOT NULL,
    chain       text   NOT NULL,
    number      bigint NOT NULL,
    hash        bytea  NOT NULL,
    -- The head of the same lane's latest earlier day, when this chain was begun.
    origin      bytea  NOT NULL,
    origin_day  date,
    PRIMARY KEY (day, chain)
) WITH (fillfactor = 50);

CREATE TABLE stockrelay.attempt_batch (
    day        date        NOT NULL,
    chain      text        NOT NULL,
    number     bigint      NOT NULL,
    hash       bytea       NOT NULL,
    logged_at  timestamptz NOT NULL,
    logged_by  text        NOT NULL,
    attempts   bigint[]    NOT NULL,
    -- 16 bytes of each attempt, in the order of `attempts`.
    digests    bytea       NOT NULL,
    PRIMARY KEY (day, chain, number)
);
-- Hashes do not compress.
ALTER TABLE stockrelay.attempt_batch ALTER COLUMN digests SET STORAGE EXTERNAL;

-- Nothing here depends on a session's settings: the same row gives the same bytes in every session and on every server.
CREATE FUNCTION stockrelay.attempt_digest(a stockrelay.attempt) RETURNS bytea LANGUAGE sql STABLE
RETURN substr(sha256(
    timestamptz_send(a.at) || coalesce(timestamptz_send(a.since), '') || coalesce(float4send(a.duration_ms), '')
    || convert_to(ROW(a.since IS NULL, a.duration_ms IS NULL, a.attempt_id, a.channel, a.sku, a.identifiers, a.quantity, a.seq,
                      a.epoch, a.outcome, a.reason)::text, getdatabaseencoding())), 1, 16);

CREATE FUNCTION stockrelay.batch_hash(
    previous bytea, day date, chain text, number bigint, logged_at timestamptz, logged_by text, attempts bigint[], digests bytea
) RETURNS bytea LANGUAGE sql STABLE
RETURN sha256(previous || convert_to(ROW(
    day - date '2000-01-01', chain, number, extract(epoch FROM logged_at), logged_by, attempts)::text, getdatabaseencoding())
    || digests);

-- Appends attempts to the log: the only way to write there, so that nobody but the log's owner can change what stands in
-- it, and each row is stamped with the server's time and the session's user. Returns how many rows it wrote.
CREATE FUNCTION stockrelay.log_attempts(chain text, entries stockrelay.attempt[]) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    stamped_at CONSTANT timestamptz := clock_timestamp();
    batch record;
    head record;
BEGIN
    FOR batch IN
        SELECT (e.at AT TIME ZONE 'UTC')::date AS day, array_agg(e.attempt_id ORDER BY e.attempt_id) AS attempts,
               string_agg(stockrelay.attempt_digest(e), '' ORDER BY e.attempt_id) AS digests
        FROM unnest(entries) AS e GROUP BY 1 ORDER BY 1
    LOOP
        LOOP
            UPDATE stockrelay.attempt_chain AS c SET number = c.number + 1, hash = stockrelay.batch_hash(
                c.hash, c.day, c.chain, c.number + 1, stamped_at, session_user::text, batch.attempts, batch.digests)
            WHERE c.day = batch.day AND c.chain = log_attempts.chain
            RETURNING c.number, c.hash INTO head;
            EXIT WHEN FOUND;
            INSERT INTO stockrelay.attempt_chain (day, chain, number, hash, origin, origin_day)
            SELECT batch.day, log_attempts.chain, 0, coalesce(o.hash, ''), coalesce(o.hash, ''), o.day
            FROM (SELECT) AS always LEFT JOIN (
                SELECT b.hash, b.day FROM stockrelay.attempt_chain AS b
                WHERE b.chain = log_attempts.chain AND b.day < batch.day ORDER BY b.day DESC LIMIT 1) AS o ON true
            ON CONFLICT ON CONSTRAINT attempt_chain_pkey DO NOTHING;
        END LOOP;
        INSERT INTO stockrelay.attempt_batch (day, chain, number, hash, logged_at, logged_by, attempts, digests)
        VALUES (batch.day, log_attempts.chain, head.number, head.hash, stamped_at, session_user, batch.attempts, batch.digests);
    END LOOP;
    INSERT INTO stockrelay.attempt SELECT e.* FROM unnest(entries) AS e;
    RETURN coalesce(cardinality(entries), 0);
END $$;

-- Locks of our own, by a row each: an advisory lock could be taken by everybody who may connect.
CREATE TABLE stockrelay.mutex (
    name  text PRIMARY KEY
);
INSERT INTO stockrelay.mutex (name) VALUES ('attempt_log'), ('notices');

-- Makes the partitions of today and the next days, and drops those older than `keep`, which is a week at least: who may
-- only call this cannot empty the log. Returns how many it dropped.
-- A partition that can't be had now (somebody reads the log: making one locks all of it, and outcomes would queue behind
-- us) is made the next time; until then `attempt_rest` takes the rows.
CREATE FUNCTION stockrelay.roll_attempts(days_ahead integer, keep interval) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '200ms' AS $$
DECLARE
    today CONSTANT date := (clock_timestamp() AT TIME ZONE 'UTC')::date;
    oldest CONSTANT date := least((today - keep)::date, today - 7);
    day date;
    past date;
    partition text;
    dropped integer := 0;
BEGIN
    -- One at a time: another replica is doing the same, and is done at once.
    PERFORM FROM stockrelay.mutex AS m WHERE m.name = 'attempt_log' FOR UPDATE;
    FOR day IN SELECT today + n FROM generate_series(0, least(days_ahead, 31)) AS n LOOP
        partition := 'attempt_' || to_char(day, 'YYYYMMDD');
        IF to_regclass(format('stockrelay.%I', partition)) IS NULL THEN
            BEGIN
                EXECUTE format('CREATE TABLE stockrelay.%I PARTITION OF stockrelay.attempt FOR VALUES FROM (%L) TO (%L)',
                               partition, day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC');
            EXCEPTION
                WHEN lock_not_available THEN RETURN dropped;
                WHEN check_violation THEN NULL;  -- `attempt_rest` has rows of that day already: it keeps the day
            END;
        END IF;
    END LOOP;
    FOR partition, past IN
        SELECT c.relname, to_date(right(c.relname, 8), 'YYYYMMDD')
        FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'stockrelay.attempt'::regclass AND c.relname ~ '^attempt_[0-9]{8}$'
        AND to_date(right(c.relname, 8), 'YYYYMMDD') < oldest
    LOOP
        BEGIN
            EXECUTE format('DROP TABLE stockrelay.%I', partition);
            DELETE FROM stockrelay.attempt_batch AS b WHERE b.day = past;
            DELETE FROM stockrelay.attempt_chain AS c WHERE c.day = past;
            dropped := dropped + 1;
        EXCEPTION WHEN lock_not_available THEN
            RETURN dropped;
        END;
    END LOOP;
    DELETE FROM stockrelay.attempt_rest AS r WHERE r.at < oldest::timestamp AT TIME ZONE 'UTC';
    DELETE FROM stockrelay.attempt_batch AS b WHERE b.day < oldest;
    DELETE FROM stockrelay.attempt_chain AS c WHERE c.day < oldest;
    RETURN dropped;
END $$;
SELECT stockrelay.roll_attempts(3, interval '1000 years');

-- Lanes, channels, tokens ---------------------------------------------------------------------------------------------

-- Into how many lanes a channel's SKUs are divided, and into how many they are to be.
CREATE TABLE stockrelay.division (
    channel   text     PRIMARY KEY,
    lanes     integer  NOT NULL DEFAULT 1 CHECK (lanes BETWEEN 1 AND 64),
    wanted    integer  NOT NULL DEFAULT 1 CHECK (wanted BETWEEN 1 AND 64)
);

-- Who owns a lane. One owner at a time; the epoch rises with each.
CREATE TABLE stockrelay.lease (
    lane      text        PRIMARY KEY,
    channel   text        NOT NULL,
    number    integer     NOT NULL,
    epoch     bigint      NOT NULL DEFAULT 0,
    holder    text,
    until     timestamptz NOT NULL DEFAULT '-infinity',
    taken_at  timestamptz,
    UNIQUE (channel, number),
    -- Makes the epoch part of a key: FOR KEY SHARE then holds up a take-over, and lets the owner renew its lease.
    UNIQUE (lane, epoch)
) WITH (fillfactor = 50);

-- The replicas that are alive, and what they serve: lanes are shared among them.
-- `sections`: a fingerprint of each section of its configuration; NULL: it has not said it yet.
CREATE TABLE stockrelay.replica (
    holder    text        PRIMARY KEY,
    channels  text[]      NOT NULL,
    until     timestamptz NOT NULL,
    sections  jsonb
) WITH (fillfactor = 50);

-- The lane of a SKU. That the hash is another one on another server does no harm: the ledger keeps what it came to.
CREATE FUNCTION stockrelay.lane_of(sku text, lanes integer) RETURNS integer LANGUAGE sql IMMUTABLE
RETURN CASE WHEN coalesce(lanes, 1) = 1 THEN 0 ELSE ((hashtextextended(sku, 0) % lanes + lanes) % lanes)::integer END;

-- Says into how many lanes a channel is to be divided, and makes its first one.
CREATE FUNCTION stockrelay.want_lanes(channel text, lanes integer) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO stockrelay.division AS d (channel) VALUES (want_lanes.channel) ON CONFLICT DO NOTHING;
    IF FOUND THEN
        INSERT INTO stockrelay.lease AS l (lane, channel, number) VALUES (want_lanes.channel, want_lanes.channel, 0);
    END IF;
    UPDATE stockrelay.division AS d SET wanted = want_lanes.lanes
    WHERE d.channel = want_lanes.channel AND d.wanted <> want_lanes.lanes;
END $$;

-- Divides a channel's SKUs anew, once nobody owns a lane of it any more. Returns into how many lanes; NULL: not yet, or it
-- is done already. What reads `division` to write the ledger holds the ledger's lock: it sees the old lanes or the new.
CREATE FUNCTION stockrelay.divide(channel text) RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    new_lanes integer;
    last_epoch bigint;
BEGIN
    SELECT d.wanted INTO new_lanes FROM stockrelay.division AS d
    WHERE d.channel = divide.channel AND d.wanted <> d.lanes FOR UPDATE SKIP LOCKED;
    IF new_lanes IS NULL THEN
        RETURN NULL;
    END IF;
    PERFORM FROM stockrelay.lease AS l WHERE l.channel = divide.channel ORDER BY l.lane FOR UPDATE;
    IF EXISTS (SELECT FROM stockrelay.lease AS l
               WHERE l.channel = divide.channel AND l.holder IS NOT NULL AND l.until >= clock_timestamp()) THEN
        RETURN NULL;
    END IF;
    LOCK TABLE stockrelay.ledger IN SHARE ROW EXCLUSIVE MODE;
    SELECT max(l.epoch) INTO last_epoch FROM stockrelay.lease AS l WHERE l.channel = divide.channel;
    DELETE FROM stockrelay.lease AS l WHERE l.channel = divide.channel;
    INSERT INTO stockrelay.lease (lane, channel, number, epoch)
    SELECT divide.channel || CASE WHEN new_lanes = 1 THEN '' ELSE '/' || n + 1 END, divide.channel, n, last_epoch
    FROM generate_series(0, new_lanes - 1) AS n;
    UPDATE stockrelay.ledger AS d SET lane = stockrelay.lane_of(d.sku, new_lanes)
    WHERE d.channel = divide.channel AND d.lane <> stockrelay.lane_of(d.sku, new_lanes);
    DELETE FROM stockrelay.lane_trouble AS t WHERE t.channel = divide.channel;
    UPDATE stockrelay.division AS d SET lanes = new_lanes WHERE d.channel = divide.channel;
    RETURN new_lanes;
END $$;

-- What is wrong with a channel, for `status`: the oldest trouble of its lanes.
CREATE TABLE stockrelay.channel_state (
    channel   text        PRIMARY KEY,
    trouble   text,
    reason    text,
    advice    text,
    since     timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- What is wrong in which lane: its replica may be the only one that the partner does not let in.
CREATE TABLE stockrelay.lane_trouble (
    lane      text        PRIMARY KEY,
    channel   text        NOT NULL,
    trouble   text        NOT NULL,
    reason    text        NOT NULL,
    advice    text        NOT NULL,
    since     timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- A partner's access token, shared by all replicas. `value` is encrypted when the channel has a token_key.
CREATE TABLE stockrelay.token (
    channel        text        PRIMARY KEY,
    value          text,
    generation     bigint      NOT NULL DEFAULT 0,
    expires_at     timestamptz,
    refresh_until  timestamptz
);

-- What runs as its owner is for those it was granted to (deploy/roles.sql).
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA stockrelay FROM PUBLIC;
