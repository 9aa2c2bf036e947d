-- The watched tables, as configured, and the triggers on them. `is_always`: they also fire in replicated sessions.
-- `sku_column` is NULL where the SKU is an expression; `inputs` are the columns that it reads, `types` what they were when the
-- triggers were made.
CREATE TABLE stockrelay.watch (
    relation   oid         PRIMARY KEY,
    name       text        NOT NULL,
    sku        text        NOT NULL,
    -- Of a fan-out: the query for the SKUs of a changed row, the definition and names of the row's columns that it reads, and
    -- the relations that it reads. `sku` makes those columns of the row a text then.
    skus       text,
    changed    text,
    keys       text[],
    reads      oid[],
    function   text        NOT NULL,
    is_always  boolean     NOT NULL,
    sku_column name,
    inputs     name[]      NOT NULL DEFAULT '{}',
    types      oid[]       NOT NULL DEFAULT '{}',
    since      timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- The SHA-256 of the texts of its functions as they were generated (insert, update, delete, truncate), to find changes.
    -- All other functions are compared with the program's own files.
    sources    text[]
);

-- The columns of a table that an SKU expression reads. Raises what is wrong with the expression.
CREATE FUNCTION stockrelay.sku_inputs(relation regclass, sku text) RETURNS name[]
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    inputs name[];
BEGIN
    -- The server knows what a view reads. The row as a whole, under the name it has in check_watch, can't be read here: that
    -- would say nothing of columns.
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

-- The base of a domain, other types as they are: a domain is cast as its base is. A type that is not the server's own (16384
-- and above) becomes a text by a function of its owner, which would run with the caster's rights.
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

-- What a watched table's trigger functions pin, beside the search path: the ERP's session may have set anything. A low
-- jit_above_cost would have each statement compiled. How other than plain types become a text depends on the other settings,
-- which the daemon's sessions have as well (store/pins.py). Each setting costs microseconds.
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
-- It runs with the rights of our schema's owner, and the table's owner may change the table at any time: give a column another
-- type, whose cast to text may run any code, make it virtual, rename or drop it. So a column is cast only while it has the
-- type it had, or a plain one; a type that is not the server's own (16384 and above) is written as it is shown, which only the
-- server's functions do. With any other type, anything may have changed. An expression is computed while all its inputs are
-- of the server's types.
--
-- Nothing may fail the ERP's statement. So everything is read, called and locked in a block whose failure logs that anything
-- may have changed; what is written after it is made of variables alone. The block itself writes nothing, because one that
-- writes uses up a subtransaction id for each of the ERP's statements.
--
-- Every line costs each of the ERP's statements time, and PL/pgSQL prepares each expression anew in every transaction.
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
        -- The right to UPDATE is enough for the lock.
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
        -- More SKUs than this are not read one by one (MANY in store/intake.py), so they are not named.
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
    -- An UPDATE that changes the SKU itself changes two. As a rule the old rows have the same SKUs in the same order.
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

-- What is captured for a fan-out, a watch whose query `skus` finds the SKUs that a changed row (`changed` in it) stands for:
-- the columns that the query reads, as JSON, after a mark (`take_changes`). The intake runs the query, never the ERP's
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
                USING HINT = 'The owner of that type could have code run as the owner of the schema stockrelay. Watch the table '
                             'by another column, or give it a stored generated column of type text.';
        END IF;
    END IF;
    RETURN column_name;
END $$;

-- Sets the triggers of one relation; returns whether they also fire in replicated sessions (ENABLE ALWAYS wants the
-- table's owner, CREATE TRIGGER only the TRIGGER privilege). Correct triggers are not touched, and a locked table is not
-- waited for: the ERP's writers would queue behind us.
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

-- Remembers what the watched tables' functions are now.
CREATE FUNCTION stockrelay.note_sources() RETURNS SETOF stockrelay.watch
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    UPDATE stockrelay.watch AS w SET sources = ARRAY(
        SELECT encode(sha256(convert_to(p.prosrc, 'UTF8')), 'hex')
        FROM unnest('{insert,update,delete,truncate}'::text[]) WITH ORDINALITY AS v (event, place)
        LEFT JOIN pg_proc AS p ON p.pronamespace = 'stockrelay'::regnamespace AND p.proname = w.function || '_' || v.event
        ORDER BY v.place);
    SELECT w.* FROM stockrelay.watch AS w ORDER BY w.name
$$;

-- Makes the triggers what the configuration says: `watches` is [{"table": ..., "sku": ...}, ...], spelled as in SQL.
-- Idempotent; tables that are no longer watched lose their triggers. Returns what is watched now.
-- Only the tables' names are looked up on the caller's search path: a function that somebody has put into a schema of that
-- path would be called with the owner's rights.
CREATE FUNCTION stockrelay.set_watches(watches jsonb) RETURNS SETOF stockrelay.watch
LANGUAGE sql AS $$
    SELECT p.relation FROM stockrelay.put_watches((
        SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
            'relation', w."table"::pg_catalog.regclass::pg_catalog.oid, 'table', w."table", 'sku', w.sku, 'skus', w.skus))
        FROM pg_catalog.jsonb_to_recordset(watches) AS w ("table" pg_catalog.text, sku pg_catalog.text, skus pg_catalog.text)
    )) AS p;
    SELECT n.* FROM stockrelay.note_sources() AS n
$$;
