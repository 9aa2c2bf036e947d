-- What was found wrong with capturing.

-- When a replica checked last, for all of them, and the triggers' row versions then: a trigger that is switched off and on
-- again between two checks has its state back, but not its row version.
CREATE TABLE stockrelay.capture_health (
    one         boolean     PRIMARY KEY DEFAULT true CHECK (one),
    checked_at  timestamptz NOT NULL DEFAULT '-infinity',
    triggers    text
);
INSERT INTO stockrelay.capture_health DEFAULT VALUES;

-- What is wrong now. `reporter`: the replica whose own listener it concerns; '' for what is the same for all of them.
CREATE TABLE stockrelay.capture_finding (
    reporter  text        NOT NULL,
    kind      text        NOT NULL,
    subject   text        NOT NULL,
    is_error  boolean     NOT NULL,
    is_lossy  boolean     NOT NULL,
    found     text        NOT NULL,
    advice    text        NOT NULL,
    since     timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (reporter, kind, subject)
);
