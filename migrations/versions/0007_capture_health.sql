-- Capture health: what was found wrong with capturing, and a canary that goes the way of a change.

-- When somebody looked last (one replica looks for all), and how the triggers stood then: whoever switches one off and on
-- again between two looks leaves it in the state it was in, but not the same row version.
CREATE TABLE stockrelay.capture_health (
    one         boolean     PRIMARY KEY DEFAULT true CHECK (one),
    checked_at  timestamptz NOT NULL DEFAULT '-infinity',
    triggers    text
);
INSERT INTO stockrelay.capture_health DEFAULT VALUES;

-- What is wrong now. `reporter` is the replica whose own listener it is about; '' for what is the same for all of them.
CREATE TABLE stockrelay.capture_finding (
    reporter  text        NOT NULL,
    kind      text        NOT NULL,
    subject   text        NOT NULL,
    is_error  boolean     NOT NULL,
    is_lossy  boolean     NOT NULL,
    found     text        NOT NULL,
    advice    text        NOT NULL,
    since     timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (reporter, kind, subject)
);

-- Does what a capture does, for no SKU: a row in the change log, and the bell at commit. The mark is known to
-- `take_changes`, which counts it as read and names it to nobody. Returns what became of the bell: asked; awake (an intake
-- polls quickly, nobody rings); off.
CREATE FUNCTION stockrelay.canary() RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET lock_timeout = '1s' AS $$
DECLARE
    mark CONSTANT text := E'\x01stockrelay canary';
    word CONSTANT bigint := pg_sequence_last_value('stockrelay.capture_word');
BEGIN
    IF word & 1 = 0 THEN
        INSERT INTO stockrelay.change_0 (xid, at, backend, sku)
        VALUES (pg_current_xact_id(), clock_timestamp(), pg_backend_pid(), mark);
    ELSE
        INSERT INTO stockrelay.change_1 (xid, at, backend, sku)
        VALUES (pg_current_xact_id(), clock_timestamp(), pg_backend_pid(), mark);
    END IF;
    IF word < extract(epoch FROM clock_timestamp()) * 1000 THEN
        IF stockrelay.try_bell() THEN
            INSERT INTO stockrelay.bell (at) VALUES (clock_timestamp());
        END IF;
        RETURN 'asked';
    END IF;
    RETURN CASE WHEN word < 4611686018427387904 THEN 'awake' ELSE 'off' END;
END $$;
REVOKE ALL ON FUNCTION stockrelay.canary() FROM PUBLIC;

-- What `migrate` generated for a watched table, to be compared with what stands there later: the SHA-256 of its functions'
-- texts, for insert, update, delete and truncate. All other functions are compared with the program's own files.
ALTER TABLE stockrelay.watch ADD COLUMN sources text[];

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
REVOKE ALL ON FUNCTION stockrelay.note_sources() FROM PUBLIC;

-- As in 0001, and then remembers what it made. The tables' names are looked up on the caller's path, and nothing else is.
CREATE OR REPLACE FUNCTION stockrelay.set_watches(watches jsonb) RETURNS SETOF stockrelay.watch
LANGUAGE sql AS $$
    SELECT p.relation FROM stockrelay.put_watches((
        SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
            'relation', w."table"::pg_catalog.regclass::pg_catalog.oid, 'table', w."table", 'sku', w.sku, 'skus', w.skus))
        FROM pg_catalog.jsonb_to_recordset(watches) AS w ("table" pg_catalog.text, sku pg_catalog.text, skus pg_catalog.text)
    )) AS p;
    SELECT n.* FROM stockrelay.note_sources() AS n
$$;
