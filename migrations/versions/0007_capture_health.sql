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

-- Another server: what a restored copy brings that holds on the server it came from alone -----------------------------

-- Raises a sequence above what the tables hold (`used`) and what it has given, and by `ahead` more. A logical copy has
-- sequences that begin anew; a restored one has those of the time of the dump.
CREATE FUNCTION stockrelay.raise_sequence(sequence regclass, used bigint, ahead bigint) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    SELECT setval(sequence, greatest(pg_sequence_last_value(sequence), used) + ahead)
$$;
REVOKE ALL ON FUNCTION stockrelay.raise_sequence(regclass, bigint, bigint) FROM PUBLIC;

-- Puts right what holds on one server alone, after a copy was adopted: times by another server's clock that would keep
-- everybody waiting, replicas and owners that are not here, and numbers that the old server may have given since.
CREATE FUNCTION stockrelay.leave_old_server() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    now CONSTANT timestamptz := clock_timestamp();
    many CONSTANT bigint := 1000000000;  -- more than anybody gives between a dump and its restore
BEGIN
    UPDATE stockrelay.intake SET switched_at = now;
    UPDATE stockrelay.lease SET holder = NULL, until = '-infinity';
    DELETE FROM stockrelay.replica;
    UPDATE stockrelay.ledger SET retry_at = NULL WHERE retry_at IS NOT NULL;
    UPDATE stockrelay.guard SET pass_until = '-infinity' WHERE pass_until > now;
    UPDATE stockrelay.notice SET taken_until = NULL, next_try_at = now WHERE state = 'waiting';
    UPDATE stockrelay.reconcile_run SET holder = NULL, until = '-infinity', retry_at = least(retry_at, now)
    WHERE state = 'running';
    UPDATE stockrelay.capture_health SET checked_at = '-infinity';
    UPDATE stockrelay.capture_finding SET seen_at = now WHERE seen_at > now;
    -- Which slot is written and whether the doorbell is on are kept; until when nobody rings is not.
    PERFORM setval('stockrelay.capture_word', w.last_value & 4611686018427387905) FROM stockrelay.capture_word AS w;
    PERFORM stockrelay.raise_sequence('stockrelay.want_seq', (
        SELECT coalesce(max(greatest(d.want_seq, d.acked_seq, d.attempt_seq)), 0) FROM stockrelay.ledger AS d), many);
    PERFORM stockrelay.raise_sequence('stockrelay.attempt_id', (
        SELECT coalesce(max(a.id), 0) FROM (SELECT max(t.attempt_id) AS id FROM stockrelay.attempt AS t
                                            UNION ALL SELECT max(d.attempt_id) FROM stockrelay.ledger AS d) AS a), many);
    PERFORM stockrelay.raise_sequence('stockrelay.notice_id_seq', (SELECT max(n.id) FROM stockrelay.notice AS n), 0);
    PERFORM stockrelay.raise_sequence('stockrelay.sync_run_id_seq', (SELECT max(s.id) FROM stockrelay.sync_run AS s), 0);
    PERFORM stockrelay.raise_sequence('stockrelay.reconcile_run_run_id_seq', (
        SELECT max(r.run_id) FROM stockrelay.reconcile_run AS r), 0);
END $$;
REVOKE ALL ON FUNCTION stockrelay.leave_old_server() FROM PUBLIC;

-- Makes this database the one that is pushed from; returns its system identifier. What its change log holds was another
-- server's, or is covered by the comparison of everything that each channel makes first. What the partners hold is not known,
-- so that comparison is judged as a first filling. Refused while a subscription writes our tables.
CREATE FUNCTION stockrelay.adopt() RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    here record;
    is_other boolean;
    subscription name;
BEGIN
    SELECT s.subname INTO subscription FROM pg_subscription AS s JOIN pg_subscription_rel AS r ON r.srsubid = s.oid
    JOIN pg_class AS c ON c.oid = r.srrelid WHERE c.relnamespace = 'stockrelay'::regnamespace LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'the subscription % writes the tables of the schema stockrelay', subscription
            USING ERRCODE = 'object_in_use', HINT = format(
                'What the old server''s daemon writes would overwrite ours: stop it, and DROP SUBSCRIPTION %I.', subscription);
    END IF;
    SELECT n.* INTO STRICT here FROM stockrelay.identity() AS n;
    SELECT (i.system_identifier, i.database_oid) <> (here.system_identifier, here.database_oid) INTO STRICT is_other
    FROM stockrelay.intake AS i FOR UPDATE;
    IF is_other THEN
        PERFORM stockrelay.leave_old_server();
    END IF;
    UPDATE stockrelay.read_position
    SET read_until = pg_current_snapshot(), resynced_at = NULL, seen_at = clock_timestamp();
    UPDATE stockrelay.guard SET filled_at = NULL WHERE filled_at IS NOT NULL;
    UPDATE stockrelay.intake SET system_identifier = here.system_identifier, database_oid = here.database_oid,
        timeline = here.timeline, accepted_at = clock_timestamp();
    RETURN here.system_identifier;
END $$;
REVOKE ALL ON FUNCTION stockrelay.adopt() FROM PUBLIC;
