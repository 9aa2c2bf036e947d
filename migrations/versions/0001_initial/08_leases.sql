-- Leases of slots, the channels' accounts, trouble with channels, pauses, and access tokens.

-- The owner of a slot, a sixteenth of a channel's SKUs. One holder at a time; the epoch rises with each.
CREATE TABLE stockrelay.lease (
    channel   text        NOT NULL,
    slot      smallint    NOT NULL CHECK (slot BETWEEN 0 AND 15),
    epoch     bigint      NOT NULL DEFAULT 0,
    holder    text,
    until     timestamptz NOT NULL DEFAULT '-infinity',
    taken_at  timestamptz,
    PRIMARY KEY (channel, slot),
    -- Makes the epoch part of a key: FOR KEY SHARE then holds up a take-over, and lets the holder renew its lease.
    UNIQUE (channel, slot, epoch)
) WITH (fillfactor = 50);

-- The replicas that are alive, and the channels that they serve: slots are shared among them. `sections`: a fingerprint of
-- each section of its configuration; NULL: not published yet.
CREATE TABLE stockrelay.replica (
    holder    text        PRIMARY KEY,
    channels  text[]      NOT NULL,
    until     timestamptz NOT NULL,
    sections  jsonb
) WITH (fillfactor = 50);

-- The shop or account at a marketplace whose stock a channel's rows describe. `account` is a hash; NULL: another channel has
-- the account now.
CREATE TABLE stockrelay.channel_account (
    channel     text        PRIMARY KEY,
    marketplace text        NOT NULL,
    account     text        UNIQUE,
    since       timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- What is wrong with a channel, for `status`: the oldest trouble that a process has with it.
CREATE TABLE stockrelay.channel_state (
    channel   text        PRIMARY KEY,
    trouble   text,
    reason    text,
    advice    text,
    since     timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Since when the channel has been in trouble of any kind; `since` begins anew when one kind follows another.
    troubled_since timestamptz
);

-- What is wrong with a channel in which process: the marketplace may refuse one process alone.
CREATE TABLE stockrelay.holder_trouble (
    channel   text        NOT NULL,
    holder    text        NOT NULL,
    trouble   text        NOT NULL,
    reason    text        NOT NULL,
    advice    text        NOT NULL,
    since     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (channel, holder)
);

-- A marketplace's access token, shared by all replicas. `value` is encrypted when the channel has a token_key.
CREATE TABLE stockrelay.token (
    channel        text        PRIMARY KEY,
    value          text,
    generation     bigint      NOT NULL DEFAULT 0,
    expires_at     timestamptz,
    refresh_until  timestamptz
);

-- Keeps what is wrong with a channel in one process (NULL: nothing), and so what is wrong with the channel: the oldest trouble
-- of its processes. The trouble of a process that owns no slot of it any more is dropped.
CREATE FUNCTION stockrelay.set_trouble(channel text, holder text, trouble text, reason text, advice text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    worst stockrelay.holder_trouble;
BEGIN
    -- One at a time, since each reads the trouble of all of the channel's processes.
    INSERT INTO stockrelay.channel_state AS c (channel) VALUES (set_trouble.channel)
    ON CONFLICT ON CONSTRAINT channel_state_pkey DO UPDATE SET channel = excluded.channel;
    DELETE FROM stockrelay.holder_trouble AS t WHERE t.channel = set_trouble.channel
    AND (CASE WHEN t.holder = set_trouble.holder THEN set_trouble.trouble IS NULL
              ELSE NOT EXISTS (SELECT FROM stockrelay.lease AS l WHERE l.channel = t.channel AND l.holder = t.holder
                               AND l.until >= clock_timestamp()) END);
    IF set_trouble.trouble IS NOT NULL THEN
        INSERT INTO stockrelay.holder_trouble AS t (channel, holder, trouble, reason, advice)
        VALUES (set_trouble.channel, set_trouble.holder, set_trouble.trouble, set_trouble.reason, set_trouble.advice)
        ON CONFLICT ON CONSTRAINT holder_trouble_pkey DO UPDATE SET
            trouble = excluded.trouble, reason = excluded.reason, advice = excluded.advice,
            since = CASE WHEN t.trouble = excluded.trouble THEN t.since ELSE excluded.since END;
    END IF;
    SELECT t.* INTO worst FROM stockrelay.holder_trouble AS t WHERE t.channel = set_trouble.channel ORDER BY t.since LIMIT 1;
    UPDATE stockrelay.channel_state AS c SET
        trouble = worst.trouble, reason = worst.reason, advice = worst.advice,
        troubled_since = CASE WHEN worst.trouble IS NOT NULL THEN coalesce(c.troubled_since, clock_timestamp()) END,
        since = CASE WHEN c.trouble IS NOT DISTINCT FROM worst.trouble THEN c.since ELSE clock_timestamp() END
    WHERE c.channel = set_trouble.channel;
END $$;

-- The channels that are paused: no replica claims anything for them.
CREATE TABLE stockrelay.pause (
    channel    text        PRIMARY KEY,
    paused_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    paused_by  text        NOT NULL,
    reason     text        NOT NULL
);
