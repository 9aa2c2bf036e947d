-- The live channels: since when, and who decided it from where. A channel without a row is new to this database and waits in
-- shadow for `stockrelay go-live`: no attempt is opened for it (`open_attempts`).
CREATE TABLE stockrelay.live (
    channel     text        PRIMARY KEY,
    since       timestamptz NOT NULL DEFAULT clock_timestamp(),
    by          text        NOT NULL,
    origin  text        NOT NULL
);
