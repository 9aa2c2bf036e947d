-- Notices to the people in charge: written in the transaction that finds the reason, and sent later by any replica.
--   waiting  to be sent at next_try_at; until taken_until, a replica is sending it (the one that knows its `tries`)
--   sent     every receiver has it
--   failed   given up: some receiver never took it (reached: those that did)
--   skipped  there was no receiver
CREATE TABLE stockrelay.notice (
    id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind         text        NOT NULL,
    key          text        NOT NULL UNIQUE,
    channel      text,
    data         jsonb       NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    state        text        NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'sent', 'failed', 'skipped')),
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
