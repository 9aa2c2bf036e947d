-- name: note_conditions
-- These channels are being served now; they may be paused or in trouble, too. A row that was extended within the last $2 is
-- extended, and otherwise a new one begins.
WITH now AS MATERIALIZED (
    SELECT clock_timestamp() AS at
), found AS (
    SELECT c.channel, w.what FROM unnest($1::text[]) AS c (channel) CROSS JOIN LATERAL (
        SELECT 'alive' AS what
        UNION ALL SELECT 'paused' FROM stockrelay.pause AS p WHERE p.channel = c.channel
        UNION ALL SELECT 'trouble' FROM stockrelay.channel_state AS s WHERE s.channel = c.channel AND s.trouble IS NOT NULL
    ) AS w
), extended AS (
    UPDATE stockrelay.exposure_condition AS e SET until = n.at FROM found AS f, now AS n
    WHERE e.channel = f.channel AND e.what = f.what AND e.until >= n.at - $2::interval RETURNING e.channel, e.what
)
INSERT INTO stockrelay.exposure_condition (channel, what, began_at, until)
SELECT f.channel, f.what, n.at, n.at FROM found AS f, now AS n
WHERE NOT EXISTS (SELECT FROM extended AS e WHERE e.channel = f.channel AND e.what = f.what)
ON CONFLICT DO NOTHING;

-- name: conditions
-- When a channel was served, paused and in trouble, from $2 on, and when it was served before that.
SELECT e.what, e.began_at, e.until FROM stockrelay.exposure_condition AS e
WHERE e.channel = $1 AND (e.until >= $2 OR (e.what = 'alive' AND e.until = (
    SELECT max(x.until) FROM stockrelay.exposure_condition AS x WHERE x.channel = $1 AND x.what = 'alive' AND x.until < $2)))
ORDER BY e.began_at;

-- name: take_segments
-- Takes some segments that have ended: of one channel, those of at most $2 statements. Others that take at the same time take
-- other ones.
DELETE FROM stockrelay.exposure_log AS e USING (
    SELECT x.ctid FROM stockrelay.exposure_log AS x WHERE x.channel = $1 LIMIT $2 FOR UPDATE SKIP LOCKED
) AS few WHERE e.ctid = few.ctid RETURNING e.segments;

-- name: add
-- Adds sums to those of their days: $2 by SKU, $3 of all SKUs.
WITH days AS (
    INSERT INTO stockrelay.exposure_day AS e (channel, day, over, lost)
    SELECT $1, s.day, s.over, s.lost FROM jsonb_to_recordset($3::text::jsonb) AS s (day date, over float8[], lost float8[])
    ORDER BY s.day
    ON CONFLICT (channel, day) DO UPDATE SET
        over = stockrelay.added(e.over, excluded.over), lost = stockrelay.added(e.lost, excluded.lost)
)
INSERT INTO stockrelay.exposure AS e (day, channel, sku, over, lost)
SELECT s.day, $1, s.sku, s.over, s.lost
FROM jsonb_to_recordset($2::text::jsonb) AS s (day date, sku text, over float8[], lost float8[])
ORDER BY s.day, s.sku
ON CONFLICT (day, channel, sku) DO UPDATE SET
    over = stockrelay.added(e.over, excluded.over), lost = stockrelay.added(e.lost, excluded.lost);

-- name: since
-- The sums of a channel's SKUs (of $4 alone, if it is not NULL) from one day to another, and the segments that are not added
-- up yet: those that have ended, and those of rows that are exposed now. One statement, so that nothing is read twice.
WITH pending AS (
    SELECT s FROM stockrelay.exposure_log AS e CROSS JOIN LATERAL unnest(e.segments) AS s WHERE e.channel = $1
    UNION ALL
    SELECT s FROM stockrelay.ledger AS d CROSS JOIN LATERAL stockrelay.segment(d, clock_timestamp()) AS s
    WHERE d.channel = $1 AND d.exposed_at IS NOT NULL AND stockrelay.has_exposure(s)
)
SELECT e.day, e.sku, e.over, e.lost, NULL::stockrelay.exposure_segment AS segment FROM stockrelay.exposure AS e
WHERE e.channel = $1 AND e.day >= $2 AND e.day <= $3 AND ($4::text IS NULL OR e.sku = $4)
UNION ALL
SELECT NULL, NULL, NULL, NULL, p.s FROM pending AS p WHERE $4::text IS NULL OR (p.s).sku = $4;

-- name: by_day
-- The sums of all SKUs of a channel by day, in arrays, and the segments that are not added up yet.
WITH pending AS (
    SELECT s FROM stockrelay.exposure_log AS e CROSS JOIN LATERAL unnest(e.segments) AS s WHERE e.channel = $1
    UNION ALL
    SELECT s FROM stockrelay.ledger AS d CROSS JOIN LATERAL stockrelay.segment(d, clock_timestamp()) AS s
    WHERE d.channel = $1 AND d.exposed_at IS NOT NULL AND stockrelay.has_exposure(s)
)
SELECT e.day, e.over, e.lost, NULL::stockrelay.exposure_segment AS segment FROM stockrelay.exposure_day AS e
WHERE e.channel = $1 AND e.day >= $2
UNION ALL
SELECT NULL, NULL, NULL, p.s FROM pending AS p;

-- name: drop_old
-- Deletes what is older than the day $1; some of it, so that no transaction gets long.
WITH old AS (
    DELETE FROM stockrelay.exposure_condition WHERE until < $1::date
), old_days AS (
    DELETE FROM stockrelay.exposure_day WHERE day < $1
)
DELETE FROM stockrelay.exposure AS e USING (
    SELECT x.ctid FROM stockrelay.exposure AS x WHERE x.day < $1 LIMIT 10000
) AS few WHERE e.ctid = few.ctid;
