-- The attempt log and its proof, and what was read of the ERP.

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

-- Rows are deleted from it, which a publication of all tables refuses without a replica identity (or a primary key).
ALTER TABLE stockrelay.attempt_rest REPLICA IDENTITY FULL;

-- The attempt log's proof. Each call of log_attempts appends a batch, hashed together with the batch before it in its chain
-- and day (UTC, of the attempts). A chain is named after the channel and the lowest slot of the writing process. A change of
-- the log breaks the chain, unless the chain is rewritten to its head; and heads are logged every day, out of the reach of
-- the database's owner.
CREATE TABLE stockrelay.attempt_chain (
    day         date   NOT NULL,
    chain       text   NOT NULL,
    number      bigint NOT NULL,
    hash        bytea  NOT NULL,
    -- The head of the same chain's latest earlier day, when this chain was begun.
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

-- Appends attempts to the log, and is the only way to: none but the log's owner can change its rows, and each batch is
-- stamped with the server's time and the session's user. Returns how many rows it wrote.
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

-- One row for each marking, or several for a large one, and one for the rows of a claim that found their numbers sent already:
-- element n of each array is of the n-th SKU. A row per SKU would cost the marking many times as much. `quantities` are what
-- may be sent, NULL where the listing had none; `listed_rows` is 0 for a SKU that had left the listing. A number is as old as
-- the statement that read it; `at` is when that had read. Deleted with the attempts of its day.
CREATE TABLE stockrelay.reading (
    channel      text        NOT NULL,
    at           timestamptz NOT NULL,
    skus         text[]      NOT NULL,
    quantities   integer[]   NOT NULL,
    listed_rows  integer[]   NOT NULL
);
CREATE INDEX reading_at ON stockrelay.reading (channel, at);

-- Rows are deleted from it, which a publication of all tables refuses without a replica identity (or a primary key).
ALTER TABLE stockrelay.reading REPLICA IDENTITY FULL;

-- Locks of our own, a row each: an advisory lock could be taken by any role that may connect.
CREATE TABLE stockrelay.mutex (
    name  text PRIMARY KEY
);
INSERT INTO stockrelay.mutex (name) VALUES ('attempt_log'), ('notices');

-- Makes the partitions of today and the next days, and drops those older than `keep`, but none of the last week: the right
-- to call this is no right to empty the log. Returns how many it dropped. Making one locks the whole log, and outcomes would
-- queue behind us: while others have it locked, `attempt_rest` takes the rows until the next call.
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
    -- One replica at a time.
    PERFORM FROM stockrelay.mutex AS m WHERE m.name = 'attempt_log' FOR UPDATE;
    FOR day IN SELECT today + n FROM generate_series(0, least(days_ahead, 31)) AS n LOOP
        partition := 'attempt_' || to_char(day, 'YYYYMMDD');
        IF to_regclass(format('stockrelay.%I', partition)) IS NULL THEN
            BEGIN
                EXECUTE format('CREATE TABLE stockrelay.%I PARTITION OF stockrelay.attempt FOR VALUES FROM (%L) TO (%L)',
                               partition, day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC');
            EXCEPTION
                WHEN lock_not_available THEN RETURN dropped;
                WHEN check_violation THEN NULL;  -- `attempt_rest` has rows of that day, and keeps it
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
    DELETE FROM stockrelay.reading AS r WHERE r.at < oldest::timestamp AT TIME ZONE 'UTC';
    DELETE FROM stockrelay.attempt_chain AS c WHERE c.day < oldest;
    RETURN dropped;
END $$;
SELECT stockrelay.roll_attempts(3, interval '1000 years');
