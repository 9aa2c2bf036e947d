-- The nightly reconcile: its runs, their chunks and findings, and the differences over all runs.

-- Since when a channel is reconciled: no day before that needs a run.
CREATE TABLE stockrelay.reconcile_since (
    channel  text        PRIMARY KEY,
    since    timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- One run over one business day. Its holder carries it out until `until`, which each write extends; after that another
-- resumes it, under a higher epoch. `retry_at`: the marketplace gave no answer, and the run is resumed then.
CREATE TABLE stockrelay.reconcile_run (
    run_id     bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    channel    text        NOT NULL,
    day        date        NOT NULL,
    kind       text        NOT NULL CHECK (kind IN ('scheduled', 'manual', 'dry')),
    method     text        CHECK (method IN ('compare', 'read_back', 'assert')),
    state      text        NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'finished', 'incomplete', 'superseded')),
    holder     text,
    epoch       bigint      NOT NULL DEFAULT 0,
    until      timestamptz NOT NULL DEFAULT '-infinity',
    tries      integer     NOT NULL DEFAULT 0,
    retry_at   timestamptz,
    planned_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    began_at   timestamptz,
    ended_at   timestamptz,
    -- 0: the first look; 1: what differed then is looked at once more; 2: what differs is known, and is being kept.
    stage      smallint    NOT NULL DEFAULT 0,
    checked    integer     NOT NULL DEFAULT 0,
    unsettled  integer     NOT NULL DEFAULT 0,
    parked     integer     NOT NULL DEFAULT 0,
    healed     integer     NOT NULL DEFAULT 0,
    -- Reading back: how many products the marketplace says it has, and whether that changed while they were read.
    total      integer,
    is_shifted boolean     NOT NULL DEFAULT false,
    why        text,
    report     jsonb,
    CHECK ((state = 'running') = (ended_at IS NULL))
);
CREATE UNIQUE INDEX reconcile_run_day ON stockrelay.reconcile_run (channel, day) WHERE kind = 'scheduled';
CREATE INDEX reconcile_run_open ON stockrelay.reconcile_run (channel, day) WHERE state = 'running';
CREATE INDEX reconcile_run_ended ON stockrelay.reconcile_run (channel, ended_at);

-- What one request of a run covered and what the marketplace answered: a range of SKUs compared or asserted, or a page read.
-- `suspects`: SKUs of a range that differs, named by the marketplace or not, to be looked at once more.
CREATE TABLE stockrelay.reconcile_chunk (
    run_id     bigint      NOT NULL REFERENCES stockrelay.reconcile_run ON DELETE CASCADE,
    look       smallint    NOT NULL,
    chunk      integer     NOT NULL,
    first_sku  text,
    last_sku   text,
    asked      integer     NOT NULL,
    unsettled  integer     NOT NULL DEFAULT 0,
    parked     integer     NOT NULL DEFAULT 0,
    state      text        NOT NULL CHECK (state IN ('agreed', 'differs', 'unnamed', 'read', 'asserted')),
    suspects   text[]      NOT NULL DEFAULT '{}',
    words      text        NOT NULL DEFAULT '',
    -- Comparing: requests that bisected the range. Reading: the page's products, those without a SKU, and malformed products
    -- and SKUs (`words`: what is wrong with the first).
    calls      integer     NOT NULL DEFAULT 0,
    products   integer     NOT NULL DEFAULT 0,
    empty      integer     NOT NULL DEFAULT 0,
    set_aside  integer     NOT NULL DEFAULT 0,
    -- When the marketplace was asked.
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (run_id, look, chunk)
);

-- Numbers read back, until the run is over. What a crash of the server takes is read again.
CREATE UNLOGGED TABLE stockrelay.reconcile_read (
    run_id      bigint      NOT NULL,
    page        integer     NOT NULL,
    product_id  text        NOT NULL,
    identifier  text,
    quantity    integer,
    is_used     boolean     NOT NULL
);
CREATE INDEX reconcile_read_page ON stockrelay.reconcile_read (run_id, page);

-- What each look of a run found, until the run is over: what differs, and which open differences agree now.
CREATE TABLE stockrelay.reconcile_finding (
    run_id   bigint   NOT NULL REFERENCES stockrelay.reconcile_run ON DELETE CASCADE,
    look     smallint NOT NULL,
    class    text     NOT NULL,
    sku      text     NOT NULL,
    differs  boolean  NOT NULL,
    ours     integer,
    theirs   integer,
    page     integer,
    PRIMARY KEY (run_id, look, class, sku)
);

-- A difference, over all runs. `sku` is the marketplace's identifier where the listing has none. `last_status` is what the
-- run `last_run` made of it.
CREATE TABLE stockrelay.difference (
    channel     text        NOT NULL,
    class       text        NOT NULL CHECK (class IN ('marketplace_differs', 'unknown_at_marketplace', 'missing_in_listing', 'duplicated_id')),
    sku         text        NOT NULL,
    state       text        NOT NULL CHECK (state IN ('open', 'resolved', 'aged')),
    ours        integer,
    theirs      integer,
    first_seen  timestamptz NOT NULL,
    last_seen   timestamptz NOT NULL,
    times_seen  integer     NOT NULL,
    heals       integer     NOT NULL,
    last_run    bigint      NOT NULL,
    last_status   text        NOT NULL CHECK (last_status IN ('opened', 'still_open', 'contested', 'resolved')),
    PRIMARY KEY (channel, sku, class)
);
CREATE INDEX difference_open ON stockrelay.difference (channel, sku) WHERE state = 'open';
CREATE INDEX difference_run ON stockrelay.difference (last_run, last_status);
