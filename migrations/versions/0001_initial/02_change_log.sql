-- Capture: what the ERP's triggers write, and the doorbell.

-- What every capture has to know, in one number. Its lowest bit is the slot of the change log that takes the next row; the
-- number says until when (milliseconds since 1970) an intake polls quickly and no capture rings; from 2^62 on the doorbell is
-- off. A sequence, because an expression reads one without a query, and because it is written in place, where a row would
-- grow a chain of versions. A lost update does no harm: a bell rings in vain, or the slots switch one rotation later.
CREATE SEQUENCE stockrelay.capture_word MINVALUE 0 START 0;
SELECT setval('stockrelay.capture_word', 0);

-- Has captures not ring for this many milliseconds (0: ring again), unless the doorbell is off.
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

-- The change log, in two slots: one is written while the other is emptied by TRUNCATE. `sku` NULL: anything in the watched
-- table `relation` may have changed, or in any of them (NULL). `backend`: the process of the session that wrote.
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
-- `at` is -infinity where a comparison of everything is asked for; by its `xid` a reading finds that without the bell
-- (`is_asked`). The index's condition calls no function, since EXECUTE of one may have been revoked.
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
        -- The intake that wakes reads again after this long, so captures need not ring until then.
        IF pg_sequence_last_value('stockrelay.capture_word') < extract(epoch FROM clock_timestamp()) * 1000 + 10 THEN
            PERFORM stockrelay.stay_awake(10);
        END IF;
    END IF;
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;  -- the ERP's COMMIT would fail; without the bell, polling finds the change
END $$;
CREATE CONSTRAINT TRIGGER stockrelay_ring AFTER INSERT ON stockrelay.bell
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION stockrelay.ring();
ALTER TABLE stockrelay.bell ENABLE ALWAYS TRIGGER stockrelay_ring;

-- Whether a row can be written to the bell; the bell is locked then, and silenced for others that write at this moment: one
-- ring is enough. Where there is none, or it comes late, polling finds what was captured.
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

-- Logs that anything may have changed: after a TRUNCATE, or when a capture could not say what. A slot that is locked, dropped
-- or renamed is skipped; without any slot, the bell asks for a comparison of everything at commit. What can fail is tried in
-- a block that writes nothing, because one that writes uses up a subtransaction id. A trial does everything but write: after
-- one that raised nothing, the call itself raises nothing.
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

-- Does what a capture does, for no SKU: a row in the change log, and the bell at commit. `take_changes` knows the mark, and
-- never returns it. Returns what became of the bell: asked; awake (an intake polls quickly, so it does not ring); off.
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
