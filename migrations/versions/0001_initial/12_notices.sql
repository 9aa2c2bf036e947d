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
