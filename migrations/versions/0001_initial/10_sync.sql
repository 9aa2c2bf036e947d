-- The sync of a channel: its whole listing is sent, many SKUs a call. One at a time. `total`: the SKUs that were queued, in
-- flight, acknowledged or parked since it was opened; `listed`: the listing's SKUs. `filter`: what chose the SKUs, as JSON;
-- NULL: it is for the whole listing.
CREATE TABLE stockrelay.sync_run (
    id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    channel      text        NOT NULL,
    state        text        NOT NULL DEFAULT 'marking' CHECK (state IN ('marking', 'sending', 'finished')),
    started_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at  timestamptz,
    listed       bigint      NOT NULL DEFAULT 0,
    total        bigint      NOT NULL DEFAULT 0,
    filter       text,
    CHECK ((state = 'finished') = (finished_at IS NOT NULL))
);
CREATE UNIQUE INDEX sync_run_open ON stockrelay.sync_run (channel) WHERE state <> 'finished';

-- The SKUs that a sync with a filter is for.
CREATE TABLE stockrelay.sync_sku (
    run_id  bigint  NOT NULL REFERENCES stockrelay.sync_run (id) ON DELETE CASCADE,
    sku     text    NOT NULL,
    PRIMARY KEY (run_id, sku)
);

-- The rows of these slots that may be sent for the sync now, one slot after the other, each read no further than wanted.
CREATE FUNCTION stockrelay.due_sync(channel text, slots smallint[], most integer)
RETURNS TABLE (version xid, entry stockrelay.ledger)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off AS $$
BEGIN
    RETURN QUERY SELECT b.version, b.entry FROM unnest(slots) AS s (slot) CROSS JOIN LATERAL (
        SELECT l.xmin AS version, l AS entry FROM stockrelay.ledger AS l
        WHERE l.channel = due_sync.channel AND l.slot = s.slot AND l.sync_at <= statement_timestamp()
        AND l.due_at IS NULL AND l.attempt_id IS NULL AND l.parked_at IS NULL
        ORDER BY l.sync_at LIMIT most) AS b LIMIT most;
END $$;
