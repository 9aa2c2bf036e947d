-- name: begin
-- The channel may be sent to from now on, and its owners in all processes are notified; no row: it was already.
WITH begun AS (
    INSERT INTO stockrelay.live (channel, by, from_where) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING
    RETURNING channel, since, by, from_where
), notified AS (
    SELECT pg_notify('stockrelay', 'marked ' || b.channel) AS done FROM begun AS b
)
SELECT b.channel, b.since, b.by, b.from_where FROM begun AS b, notified AS n;

-- name: all
-- The channels that may be sent to.
SELECT channel, since, by, from_where FROM stockrelay.live ORDER BY channel;

-- name: first_day
-- What the ledger knows of a channel's listing: a pass over its rows.
SELECT (SELECT p.resynced_at FROM stockrelay.read_position AS p WHERE p.channel = $1) AS compared_at,
       count(*) FILTER (WHERE d.listed_rows > 0) AS listed,
       count(*) FILTER (WHERE d.listed_rows = 1 AND d.listed_quantity = 0) AS zeroes,
       count(*) FILTER (WHERE d.parked_at IS NOT NULL) AS parked,
       count(*) FILTER (WHERE d.listed_rows > 0 AND d.twins IS NOT NULL) AS sharing,
       count(*) FILTER (WHERE d.held_at IS NOT NULL) AS held,
       count(*) FILTER (WHERE d.due_at = 'infinity') AS shadowed
FROM stockrelay.ledger AS d WHERE d.channel = $1;

-- name: largest
-- The SKUs with the largest numbers, at most $2.
SELECT d.sku, coalesce(d.listed_identifiers, '{}') AS identifiers, d.listed_quantity AS quantity FROM stockrelay.ledger AS d
WHERE d.channel = $1 AND d.listed_quantity IS NOT NULL ORDER BY d.listed_quantity DESC, d.sku LIMIT $2;

-- name: first
-- The first SKUs by name, at most $2.
SELECT d.sku, coalesce(d.listed_identifiers, '{}') AS identifiers, d.listed_quantity AS quantity FROM stockrelay.ledger AS d
WHERE d.channel = $1 AND d.listed_rows > 0 ORDER BY d.sku LIMIT $2;

-- name: shared
-- The first SKUs by name that share their identifiers, at most $2.
SELECT d.sku, d.twins FROM stockrelay.ledger AS d
WHERE d.channel = $1 AND d.listed_rows > 0 AND d.twins IS NOT NULL ORDER BY d.sku LIMIT $2;
