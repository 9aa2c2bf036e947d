-- What an operator has switched: paused channels, and parked SKUs that are known and left as they are.

-- A row for each channel that is paused: nothing is claimed for it, by any replica, until the row is gone.
CREATE TABLE stockrelay.pause (
    channel    text        PRIMARY KEY,
    paused_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    paused_by  text        NOT NULL,
    reason     text        NOT NULL
);

-- When somebody said of a parked SKU that it is known. It holds for that parking: parked again later, it is news again.
ALTER TABLE stockrelay.ledger ADD COLUMN discarded_at timestamptz;
