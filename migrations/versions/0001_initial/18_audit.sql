-- What operators did, from the command line or on the page.

-- Only log_operation and trim_operations, which run as the owner, write it. `ends` is the operation whose end a row tells;
-- one that ends in its own transaction has one row, with its `outcome`.
CREATE TABLE stockrelay.operation (
    id        bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at        timestamptz NOT NULL,
    role      text        NOT NULL,
    operator  text        NOT NULL,
    origin    text        NOT NULL,
    action    text        NOT NULL,
    channel   text,
    skus      text[]      NOT NULL,
    sku_count bigint,
    reason    text        NOT NULL,
    outcome   text,
    ends      bigint
);
CREATE INDEX operation_channel ON stockrelay.operation (channel, id);
CREATE INDEX operation_ends ON stockrelay.operation (ends) WHERE ends IS NOT NULL;

-- Stamped with the server's time and the session's user. Returns the row's id.
CREATE FUNCTION stockrelay.log_operation(
    operator text, origin text, action text, channel text, skus text[], sku_count bigint, reason text, outcome text, ends bigint
) RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO stockrelay.operation (at, role, operator, origin, action, channel, skus, sku_count, reason, outcome, ends)
    VALUES (clock_timestamp(), session_user, operator, origin, action, channel, coalesce(skus, '{}'), sku_count,
            coalesce(reason, ''), outcome, ends)
    RETURNING id
$$;

-- Deletes what is older than `keep`, but nothing of the last 90 days: the right to call this is no right to empty the log.
CREATE FUNCTION stockrelay.trim_operations(keep interval) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH old AS (
        DELETE FROM stockrelay.operation AS o WHERE o.at < clock_timestamp() - greatest(keep, interval '90 days') RETURNING 1
    )
    SELECT count(*) FROM old
$$;
