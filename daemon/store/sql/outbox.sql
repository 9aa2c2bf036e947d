-- name: post
-- Posts a notice; no row: its key was posted already.
INSERT INTO stockrelay.notice (kind, key, channel, data) VALUES ($1, $2, $3, $4::text::jsonb)
ON CONFLICT (key) DO NOTHING
RETURNING id;

-- name: take
-- The notices of the next message: one that is due, and with it all waiting ones of its kind that have reached the same
-- receivers. New ones go before retries. A kind waits while another replica is sending it, and for $2 after it was sent;
-- all but the urgent kinds ($4) wait once $3 messages were sent within an hour.
WITH sent AS (
    SELECT count(DISTINCT n.sent_at) AS messages FROM stockrelay.notice AS n
    WHERE n.sent_at > clock_timestamp() - interval '1 hour'
), first AS (
    SELECT n.kind, n.reached FROM stockrelay.notice AS n
    WHERE n.state = 'waiting' AND n.next_try_at <= clock_timestamp()
      AND (n.taken_until IS NULL OR n.taken_until <= clock_timestamp())
      AND (n.kind = ANY ($4::text[]) OR (SELECT s.messages FROM sent AS s) < $3::integer)
      AND NOT EXISTS (
          SELECT FROM stockrelay.notice AS o
          WHERE o.kind = n.kind AND (o.taken_until > clock_timestamp()
             OR (o.sent_at > clock_timestamp() - $2::interval AND n.tries = 0 AND n.kind <> ALL ($4::text[]))))
    ORDER BY n.tries > 0, n.kind <> ALL ($4::text[]), n.id LIMIT 1
), batch AS (
    SELECT n.id FROM stockrelay.notice AS n JOIN first AS f ON n.kind = f.kind AND n.reached = f.reached
    WHERE n.state = 'waiting' ORDER BY n.id LIMIT 50 FOR UPDATE OF n
)
UPDATE stockrelay.notice AS n SET tries = n.tries + 1, taken_until = clock_timestamp() + $1::interval
FROM batch AS b WHERE n.id = b.id
RETURNING n.id, n.kind, n.key, n.channel, n.data::text AS data, n.tries, n.reached, n.created_at,
          clock_timestamp() - n.created_at AS age;

-- name: finish
-- Writes the result: every receiver has it ($5), or the notice is tried again or given up ($7, $8: of each). A notice that
-- another replica has taken over is left alone.
UPDATE stockrelay.notice AS n
SET state = CASE WHEN $5 THEN 'sent' WHEN d.is_over THEN 'failed' ELSE 'waiting' END,
    reached = $3, last_error = $4, taken_until = NULL,
    sent_at = CASE WHEN $6 THEN transaction_timestamp() ELSE n.sent_at END,
    next_try_at = clock_timestamp() + d.pause
FROM unnest($1::bigint[], $2::integer[], $7::interval[], $8::boolean[]) AS d (id, tries, pause, is_over)
WHERE n.id = d.id AND n.tries = d.tries AND n.state = 'waiting'
RETURNING n.id;

-- name: retry_now
-- A receiver works again: notices that wait for another try are due now.
UPDATE stockrelay.notice SET next_try_at = clock_timestamp()
WHERE kind = $1 AND state = 'waiting' AND next_try_at > clock_timestamp();

-- name: skip_waiting
-- There is no receiver: notices that wait are not sent.
UPDATE stockrelay.notice SET state = 'skipped', taken_until = NULL WHERE state = 'waiting'
RETURNING kind, channel, key;

-- name: backlog
-- The outbox, for `status`: what waits, since when, and what was given up within a week.
SELECT count(*) FILTER (WHERE n.state = 'waiting') AS waiting,
       min(n.created_at) FILTER (WHERE n.state = 'waiting') AS oldest,
       (array_agg(n.last_error ORDER BY n.id DESC) FILTER (WHERE n.state = 'waiting' AND n.last_error IS NOT NULL))[1] AS error,
       count(*) FILTER (WHERE n.state = 'failed' AND n.created_at > clock_timestamp() - interval '7 days') AS given_up,
       max(n.sent_at) AS delivered_at
FROM stockrelay.notice AS n;

-- name: forget
-- Notices older than $1, 5,000 at a time.
DELETE FROM stockrelay.notice WHERE id IN (
    SELECT n.id FROM stockrelay.notice AS n WHERE n.created_at < clock_timestamp() - $1::interval
    ORDER BY n.created_at LIMIT 5000);

-- name: post_trouble_notices
-- Trouble that has lasted for $2, once for each kind of trouble between two recoveries. A channel that changes between
-- kinds of trouble has been in trouble since the first of them.
WITH past AS (
    SELECT c.channel,
           coalesce((SELECT max(n.id) FROM stockrelay.notice AS n
                     WHERE n.kind = 'channel_recovered' AND n.channel = c.channel), 0) AS recovered
    FROM stockrelay.channel_state AS c
), posted AS (
    SELECT p.channel, array_remove(array_agg(n.data ->> 'trouble'), NULL) AS troubles
    FROM past AS p LEFT JOIN stockrelay.notice AS n
        ON n.kind = 'channel_trouble' AND n.channel = p.channel AND n.id > p.recovered
    GROUP BY p.channel
)
INSERT INTO stockrelay.notice (kind, key, channel, data)
SELECT 'channel_trouble',
       format('trouble:%s:%s:%s', c.channel, c.trouble,
              to_char(c.troubled_since AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')),
       c.channel,
       jsonb_build_object('trouble', c.trouble, 'reason', c.reason, 'advice', c.advice, 'since', c.troubled_since)
FROM stockrelay.channel_state AS c JOIN posted AS t ON t.channel = c.channel
WHERE c.channel = ANY ($1::text[]) AND c.trouble IS NOT NULL AND c.trouble <> ALL (t.troubles)
  AND CASE WHEN cardinality(t.troubles) = 0 THEN c.troubled_since ELSE c.since END <= clock_timestamp() - $2::interval
ON CONFLICT (key) DO NOTHING;

-- name: post_recovery_notices
-- Recovered channels: their trouble was posted and has been over for $2.
WITH posted AS (
    SELECT DISTINCT ON (n.channel) n.channel, n.data ->> 'trouble' AS trouble, n.data ->> 'since' AS since
    FROM stockrelay.notice AS n
    WHERE n.kind = 'channel_trouble' AND n.id > coalesce(
        (SELECT max(o.id) FROM stockrelay.notice AS o
         WHERE o.kind = 'channel_recovered' AND o.channel = n.channel), 0)
    ORDER BY n.channel, n.id
)
INSERT INTO stockrelay.notice (kind, key, channel, data)
SELECT 'channel_recovered', format('recovered:%s:%s', c.channel, t.since), c.channel,
       jsonb_build_object('trouble', t.trouble, 'since', t.since,
                          'minutes', ceil(extract(epoch FROM c.since - t.since::timestamptz) / 60)::integer)
FROM posted AS t JOIN stockrelay.channel_state AS c ON c.channel = t.channel
WHERE c.channel = ANY ($1::text[]) AND c.trouble IS NULL AND c.since <= clock_timestamp() - $2::interval
ON CONFLICT (key) DO NOTHING;

-- name: post_parked_notices
-- What was parked since the last summary, if the oldest of it is older than $2 and the last summary older than $3. `until`
-- is where the next one begins: a little before now, for outcomes that are being written. What was discarded is known.
WITH last AS (
    SELECT max(n.created_at) AS at, coalesce(max((n.data ->> 'until')::timestamptz), '-infinity') AS until
    FROM stockrelay.notice AS n WHERE n.kind = 'parked_summary' AND n.channel = $1
), here AS (
    SELECT date_trunc('second', clock_timestamp()) - interval '5 seconds' AS until
), fresh AS (
    SELECT d.sku, d.parked_reason, d.parked_at FROM stockrelay.ledger AS d
    WHERE d.channel = $1 AND d.parked_at > (SELECT l.until FROM last AS l) AND d.parked_at <= (SELECT h.until FROM here AS h)
    AND NOT coalesce(d.discarded_at >= d.parked_at, false)
), shown AS (
    SELECT f.* FROM fresh AS f ORDER BY f.parked_at, f.sku LIMIT 50
)
INSERT INTO stockrelay.notice (kind, key, channel, data)
SELECT 'parked_summary',
       format('parked:%s:%s', $1::text, to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24')), $1,
       jsonb_build_object(
           'parked', (SELECT count(*) FROM stockrelay.ledger AS d
                      WHERE d.channel = $1 AND d.parked_at IS NOT NULL AND NOT coalesce(d.discarded_at >= d.parked_at, false)),
           'new', (SELECT jsonb_agg(jsonb_build_object('sku', s.sku, 'reason', s.parked_reason) ORDER BY s.parked_at, s.sku)
                   FROM shown AS s),
           'more', greatest(0, (SELECT count(*) FROM fresh) - 50),
           'until', h.until)
FROM last AS l, here AS h
WHERE (l.at IS NULL OR l.at <= clock_timestamp() - $3::interval)
  AND (SELECT min(f.parked_at) FROM fresh AS f) <= clock_timestamp() - $2::interval
ON CONFLICT (key) DO NOTHING;
