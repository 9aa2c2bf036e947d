-- What the person in charge is to be told.

-- One row for each thing to tell; it is written in the transaction that finds it out, and told later by any replica.
--   waiting  to be told at next_try_at; while taken_until has not passed, a replica is telling it (its `tries` is the proof)
--   sent     told through every address
--   failed   given up: some address never took it (reached: those that did)
--   untold   there was no address to tell it to
CREATE TABLE stockrelay.notice (
    id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind         text        NOT NULL,
    key          text        NOT NULL UNIQUE,
    channel      text,
    data         jsonb       NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    state        text        NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'sent', 'failed', 'untold')),
    tries        integer     NOT NULL DEFAULT 0,
    next_try_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    taken_until  timestamptz,
    reached      text[]      NOT NULL DEFAULT '{}',
    sent_at      timestamptz,
    last_error   text
);
CREATE INDEX notice_waiting ON stockrelay.notice (next_try_at) WHERE state = 'waiting';
CREATE INDEX notice_latest ON stockrelay.notice (kind, channel, id);
CREATE INDEX notice_age ON stockrelay.notice (created_at);

-- Since when a channel has been in trouble of any kind; `since` begins anew when one kind follows another.
ALTER TABLE stockrelay.channel_state ADD COLUMN troubled_since timestamptz;
UPDATE stockrelay.channel_state SET troubled_since = since WHERE trouble IS NOT NULL;

-- Says what is wrong in a lane (NULL: nothing is), and so with its channel: what it was told first, as long as a lane has it.
CREATE FUNCTION stockrelay.set_trouble(lane text, channel text, trouble text, reason text, advice text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    worst stockrelay.lane_trouble;
BEGIN
    -- One at a time: both look at all lanes.
    INSERT INTO stockrelay.channel_state AS c (channel) VALUES (set_trouble.channel)
    ON CONFLICT ON CONSTRAINT channel_state_pkey DO UPDATE SET channel = excluded.channel;
    IF set_trouble.trouble IS NULL THEN
        DELETE FROM stockrelay.lane_trouble AS t WHERE t.lane = set_trouble.lane;
    ELSE
        INSERT INTO stockrelay.lane_trouble AS t (lane, channel, trouble, reason, advice)
        VALUES (set_trouble.lane, set_trouble.channel, set_trouble.trouble, set_trouble.reason, set_trouble.advice)
        ON CONFLICT ON CONSTRAINT lane_trouble_pkey DO UPDATE SET
            trouble = excluded.trouble, reason = excluded.reason, advice = excluded.advice,
            since = CASE WHEN t.trouble = excluded.trouble THEN t.since ELSE excluded.since END;
    END IF;
    SELECT t.* INTO worst FROM stockrelay.lane_trouble AS t WHERE t.channel = set_trouble.channel ORDER BY t.since LIMIT 1;
    UPDATE stockrelay.channel_state AS c SET
        trouble = worst.trouble, reason = worst.reason, advice = worst.advice,
        troubled_since = CASE WHEN worst.trouble IS NOT NULL THEN coalesce(c.troubled_since, clock_timestamp()) END,
        since = CASE WHEN c.trouble IS NOT DISTINCT FROM worst.trouble THEN c.since ELSE clock_timestamp() END
    WHERE c.channel = set_trouble.channel;
END $$;
REVOKE ALL ON FUNCTION stockrelay.set_trouble(text, text, text, text, text) FROM PUBLIC;
