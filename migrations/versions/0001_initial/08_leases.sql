-- Who serves which part of a channel, what is wrong with a channel, and access tokens.

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
    since     timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Since when the channel has been in trouble of any kind; `since` begins anew when one kind follows another.
    troubled_since timestamptz
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

-- A row for each channel that is paused: nothing is claimed for it, by any replica, until the row is gone.
CREATE TABLE stockrelay.pause (
    channel    text        PRIMARY KEY,
    paused_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    paused_by  text        NOT NULL,
    reason     text        NOT NULL
);
