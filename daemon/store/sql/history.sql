-- name: note_minute
-- Adds what process $1 has sent in the minute that is over, by channel, and forgets what is too old.
WITH old AS (
    DELETE FROM stockrelay.push_minute WHERE at < clock_timestamp() - interval '2 days'
), old_changes AS (
    DELETE FROM stockrelay.slot_change WHERE at < clock_timestamp() - interval '30 days'
)
INSERT INTO stockrelay.push_minute AS m (at, channel, holder, applied, failed, delivered, latency_s)
SELECT date_trunc('minute', clock_timestamp() - interval '30 seconds'), n.channel, $1, n.applied, n.failed, n.delivered, n.latency_s
FROM unnest($2::text[], $3::integer[], $4::integer[], $5::integer[], $6::float8[])
    AS n (channel, applied, failed, delivered, latency_s)
ON CONFLICT (at, channel, holder) DO UPDATE SET
    applied = m.applied + excluded.applied, failed = m.failed + excluded.failed,
    delivered = m.delivered + excluded.delivered, latency_s = m.latency_s + excluded.latency_s;

-- name: minutes
-- The last hour, minute by minute, of all processes together; a minute that nobody noted has no numbers.
SELECT c.channel, t.at, sum(m.applied)::bigint AS applied, sum(m.failed)::bigint AS failed,
       sum(m.delivered)::bigint AS delivered, sum(m.latency_s) AS latency_s
FROM unnest($1::text[]) AS c (channel)
CROSS JOIN generate_series(date_trunc('minute', clock_timestamp()) - interval '60 minutes',
                           date_trunc('minute', clock_timestamp()) - interval '1 minute', interval '1 minute') AS t (at)
LEFT JOIN stockrelay.push_minute AS m ON m.at = t.at AND m.channel = c.channel
GROUP BY c.channel, t.at ORDER BY c.channel, t.at;

-- name: last_success
-- In which minute of the last two days each channel acknowledged something last.
SELECT m.channel, max(m.at) AS at FROM stockrelay.push_minute AS m WHERE m.applied > 0 GROUP BY m.channel;

-- name: newest_attempts
-- The newest attempts of channels $1, at most $2.
SELECT a.at, a.attempt_id, a.channel, a.sku, coalesce(a.identifiers, '{}') AS identifiers, a.quantity, a.outcome, a.reason,
       a.duration_ms::float8 AS duration_ms
FROM stockrelay.newest_attempts() AS a WHERE a.channel = ANY ($1::text[]) ORDER BY a.at DESC, a.attempt_id DESC LIMIT $2;

-- name: slot_changes
-- The newest changes of a channel's slots that happened at once, with the slots.
SELECT s.at, s.holder, s.previous, array_agg(s.slot ORDER BY s.slot) AS slots
FROM stockrelay.slot_change AS s WHERE s.channel = $1
GROUP BY s.at, s.holder, s.previous ORDER BY s.at DESC, s.holder, s.previous LIMIT $2;

-- name: runs
-- The newest reconcile runs of a channel.
SELECT r.day, r.kind, r.state, r.began_at, r.ended_at, r.checked, r.healed,
       coalesce((r.report->>'would_heal')::integer, 0) AS would_heal, coalesce((r.report->>'is_shadow')::boolean, false) AS is_shadow,
       r.why
FROM stockrelay.reconcile_run AS r WHERE r.channel = $1 AND r.kind <> 'dry' ORDER BY r.run_id DESC LIMIT $2;

-- name: open_differences
-- Open differences of a channel, by SKU, after ($2, $3).
SELECT d.sku, d.class AS kind, d.last_status AS status, d.ours, d.theirs, d.first_seen, d.last_seen, d.times_seen, d.heals
FROM stockrelay.difference AS d
WHERE d.channel = $1 AND d.state = 'open' AND (d.sku, d.class) > ($2::text, $3::text)
ORDER BY d.sku, d.class LIMIT $4;

-- name: held
-- Numbers that the guard holds, the largest first, after ($2, $3). Of a first filling: zeroes.
SELECT x.sku, x.was, x.now FROM (
    SELECT l.sku, coalesce(l.acked_quantity, -1) AS size, l.acked_quantity AS was,
           CASE WHEN l.listed_rows > 0 THEN l.listed_quantity END AS now
    FROM stockrelay.ledger AS l
    WHERE l.channel = $1 AND l.parked_at IS NULL
    AND (l.held_at IS NOT NULL
         OR (l.listed_quantity = 0 AND EXISTS (SELECT FROM stockrelay.guard AS g WHERE g.channel = $1 AND g.cause = 'first')))
) AS x
WHERE $2::integer IS NULL OR x.size < $2 OR (x.size = $2 AND x.sku > $3)
ORDER BY x.size DESC, x.sku LIMIT $4;

-- name: parked
-- Parked SKUs of a channel that were not discarded, the newest first, after ($2, $3).
SELECT d.sku, d.parked_reason AS reason, d.parked_at AS since, d.listed_quantity AS quantity
FROM stockrelay.ledger AS d
WHERE d.channel = $1 AND d.parked_at IS NOT NULL AND NOT coalesce(d.discarded_at >= d.parked_at, false)
AND ($2::timestamptz IS NULL OR (d.parked_at <= $2 AND (d.parked_at < $2 OR d.sku > $3)))
ORDER BY d.parked_at DESC, d.sku LIMIT $4;
