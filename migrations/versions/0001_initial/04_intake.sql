-- How far the change log has been read, and its rotation.

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
-- was not visible then is new. `resynced_at` is when its whole listing was compared last; NULL: that is still due. `seen_at`:
-- the row of a channel that has not read for an hour is deleted (see `rotate`); should the channel come back, it compares
-- everything first. `refused`: SKUs of the listing that the ledger can't hold, as counted by the last comparison that could.
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

-- The rows of the change log that are new to a reader that read until `then_snapshot`: their transactions were running then,
-- or began later. A row that is visible although this server has not completed its transaction was written on another server
-- and came here by a restore: it is never new.
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
-- does not ring if it was prepared, the doorbell is off, or the notification queue is half full.
CREATE FUNCTION stockrelay.is_asked(then_snapshot pg_snapshot) RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
BEGIN
    RETURN EXISTS (SELECT FROM stockrelay.bell AS b WHERE b.xid IS NOT NULL
                   AND pg_visible_in_snapshot(b.xid, pg_current_snapshot()) AND NOT pg_visible_in_snapshot(b.xid, then_snapshot));
EXCEPTION WHEN undefined_table THEN
    RETURN false;  -- the doorbell's table was dropped: changes are read without it
END $$;

-- Reads what is new to a channel and remembers how far; beyond `max_skus` SKUs, `is_everything` is true, as it is after a
-- TRUNCATE. One reader of a channel at a time. `is_known` is false for a channel without a position (`begin_reading` in
-- store/sql/intake.sql). The commit need not be durable: what the caller marks in the same transaction would be lost with it,
-- and be read again. Canaries are never returned. `read_from`: how far it had been read before. `times`: when each of the
-- `skus` changed first.
CREATE FUNCTION stockrelay.take_changes(
    channel text, max_skus integer,
    OUT is_known boolean, OUT changes bigint, OUT oldest timestamptz, OUT is_everything boolean, OUT skus text[],
    OUT unreadable text[], OUT read_from pg_snapshot, OUT times timestamptz[]
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
    -- Locked in a statement of its own, so that the reading below has a newer snapshot than the last reader.
    SELECT p.* INTO reader FROM stockrelay.read_position AS p WHERE p.channel = take_changes.channel FOR UPDATE;
    is_known := FOUND;
    changes := 0;
    is_everything := false;
    IF NOT is_known THEN
        RETURN;
    END IF;
    IF pg_snapshot_xmax(pg_current_snapshot()) < pg_snapshot_xmax(reader.read_until) THEN
        -- Transaction ids ran backwards: this is another server's history, and nothing says what is new.
        is_everything := true;
        UPDATE stockrelay.read_position AS p SET read_until = pg_current_snapshot(), seen_at = clock_timestamp()
        WHERE p.channel = take_changes.channel;
        RETURN;
    END IF;
    read_from := reader.read_until;
    -- A SKU may be spelled like a canary or a fan-out. A canary has no table; the table of a fan-out has such a watch, or had
    -- one: then everything is compared.
    WITH fresh AS MATERIALIZED (
        SELECT u.at, u.sku, u.relation, coalesce(u.sku = mark AND u.relation IS NULL, false) AS is_canary,
               starts_with(u.sku, E'\x02') AND NOT EXISTS (
                   SELECT FROM stockrelay.watch AS w WHERE w.relation = u.relation AND w.skus IS NOT NULL) AS is_odd
        FROM stockrelay.unread(reader.read_until) AS u
    ), dirty AS (
        SELECT CASE WHEN f.is_odd THEN E'\x02=' ELSE '' END || f.sku AS sku, min(f.at) AS at FROM fresh AS f
        WHERE f.sku IS NOT NULL AND NOT f.is_canary GROUP BY 1 LIMIT max_skus + 1
    ), named AS (
        SELECT array_agg(d.sku) AS skus, array_agg(d.at) AS times FROM dirty AS d
    )
    SELECT (SELECT count(*) FROM fresh AS f WHERE NOT f.is_canary), (SELECT min(f.at) FROM fresh AS f WHERE NOT f.is_canary),
           (SELECT EXISTS (SELECT FROM fresh AS f WHERE f.sku IS NULL
                           OR (f.is_odd AND starts_with(f.sku, format(E'\x02%s {', f.relation))))),
           (SELECT n.skus FROM named AS n), (SELECT n.times FROM named AS n), pg_current_snapshot(),
           (SELECT EXISTS (SELECT FROM fresh))
    INTO changes, oldest, is_everything, skus, times, now_snapshot, has_rows;
    IF stockrelay.is_asked(reader.read_until) THEN
        is_everything := true;
        has_rows := true;
    END IF;
    IF getdatabaseencoding() <> 'UTF8' THEN
        SELECT array_agg(s.sku) FILTER (WHERE stockrelay.is_readable(s.sku)),
               array_agg(s.at) FILTER (WHERE stockrelay.is_readable(s.sku)),
               array_agg(encode(convert_to(s.sku, getdatabaseencoding()), 'escape'))
                   FILTER (WHERE NOT stockrelay.is_readable(s.sku))
        INTO skus, times, unreadable FROM unnest(skus, times) AS s (sku, at);
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

-- One step of the change log's rotation. A slot is emptied when it has not been written for `min_age`, is not locked (an
-- uncommitted row and a reading under way hold locks) and every channel has read all of it. A switch that lies ahead of this
-- server's clock was made by another clock, and delays nothing.
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
    -- A position that a reader has locked is in use, and stays.
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
