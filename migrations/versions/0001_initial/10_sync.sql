-- One-time initialisation of a channel: the whole listing is asserted, in calls of many SKUs.

-- One sync of a channel at a time. `total`: the SKUs that had a turn; `listed`: those that the listing had.
CREATE TABLE stockrelay.sync_run (
    id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    channel      text        NOT NULL,
    state        text        NOT NULL DEFAULT 'marking' CHECK (state IN ('marking', 'sending', 'finished')),
    started_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at  timestamptz,
    listed       bigint      NOT NULL DEFAULT 0,
    total        bigint      NOT NULL DEFAULT 0,
    CHECK ((state = 'finished') = (finished_at IS NOT NULL))
);
CREATE UNIQUE INDEX sync_run_open ON stockrelay.sync_run (channel) WHERE state <> 'finished';

-- The rows whose turn it is and that nobody is sending, as `due` has them.
CREATE FUNCTION stockrelay.due_sync(channel text, lane integer, most integer)
RETURNS TABLE (version xid, entry stockrelay.ledger)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off AS $$
BEGIN
    RETURN QUERY SELECT l.xmin, l FROM stockrelay.ledger AS l
                 WHERE l.channel = due_sync.channel AND l.lane = due_sync.lane AND l.sync_at <= statement_timestamp()
                 AND l.due_at IS NULL AND l.attempt_id IS NULL AND l.parked_at IS NULL
                 ORDER BY l.sync_at LIMIT most;
END $$;
