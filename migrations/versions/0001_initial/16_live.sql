-- The channels that may be sent to, since when, by whose word and from where. No row: the channel is new to this database, and
-- waits in shadow for `stockrelay go-live`. No attempt is opened without it (`open_attempts`).
CREATE TABLE stockrelay.live (
    channel     text        PRIMARY KEY,
    since       timestamptz NOT NULL DEFAULT clock_timestamp(),
    by          text        NOT NULL,
    from_where  text        NOT NULL
);
