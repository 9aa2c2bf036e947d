-- What the operators' page shows of the past: pushes by the minute, which process owned which slot, the last attempts.

-- What one process has sent of a channel in a minute. `latency_s`: the sum for `delivered` numbers. Kept for two days.
CREATE TABLE stockrelay.push_minute (
    at         timestamptz      NOT NULL,
    channel    text             NOT NULL,
    holder     text             NOT NULL,
    applied    integer          NOT NULL,
    failed     integer          NOT NULL,
    delivered  integer          NOT NULL,
    latency_s  double precision NOT NULL,
    PRIMARY KEY (at, channel, holder)
);

-- A slot that got another holder, or none. `previous` is the holder before, whose lease had expired if it was not given up.
-- Kept for 30 days.
CREATE TABLE stockrelay.slot_change (
    at        timestamptz NOT NULL,
    channel   text        NOT NULL,
    slot      smallint    NOT NULL,
    epoch     bigint      NOT NULL,
    holder    text,
    previous  text,
    PRIMARY KEY (channel, at, slot, epoch)
);

CREATE FUNCTION stockrelay.note_slot_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
BEGIN
    INSERT INTO stockrelay.slot_change (at, channel, slot, epoch, holder, previous)
    VALUES (now(), NEW.channel, NEW.slot, NEW.epoch, NEW.holder, OLD.holder)
    ON CONFLICT ON CONSTRAINT slot_change_pkey DO UPDATE SET holder = excluded.holder;
    RETURN NULL;
END $$;

-- A renewal sets neither column, and pays nothing.
CREATE TRIGGER slot_change AFTER UPDATE OF holder, epoch ON stockrelay.lease FOR EACH ROW
WHEN (OLD.holder IS DISTINCT FROM NEW.holder) EXECUTE FUNCTION stockrelay.note_slot_change();
-- Also where the daemon's role has session_replication_role = replica.
ALTER TABLE stockrelay.lease ENABLE ALWAYS TRIGGER slot_change;

-- The newest part of the attempt log. No index is in the order of time, and none is needed: rows are only appended, so the
-- last few pages of the last two days' partitions have the newest rows. Runs as the owner: the daemon may read the log, and
-- has no right on a partition that is named by itself.
CREATE FUNCTION stockrelay.newest_attempts() RETURNS SETOF stockrelay.attempt
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    today CONSTANT date := (clock_timestamp() AT TIME ZONE 'UTC')::date;
    partition regclass;
    pages bigint;
BEGIN
    FOREACH partition IN ARRAY ARRAY[
        to_regclass('stockrelay.attempt_' || to_char(today, 'YYYYMMDD')),
        to_regclass('stockrelay.attempt_' || to_char(today - 1, 'YYYYMMDD')),
        to_regclass('stockrelay.attempt_rest')]
    LOOP
        CONTINUE WHEN partition IS NULL;
        pages := pg_relation_size(partition) / current_setting('block_size')::bigint;
        RETURN QUERY EXECUTE format('SELECT * FROM %s WHERE ctid >= %L::tid', partition,
                                    format('(%s,0)', greatest(0, pages - 8)));
    END LOOP;
END $$;
