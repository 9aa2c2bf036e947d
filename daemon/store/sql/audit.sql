-- name: days
-- The days that the attempt log has anything of.
SELECT c.day FROM stockrelay.attempt_chain AS c
UNION SELECT b.day FROM stockrelay.attempt_batch AS b
UNION SELECT (a.at AT TIME ZONE 'UTC')::date FROM stockrelay.attempt AS a
ORDER BY 1;

-- name: counts
-- How much of a day there is to verify.
SELECT (SELECT count(*) FROM stockrelay.attempt_batch AS b WHERE b.day = $1::date) AS batches,
       (SELECT count(*) FROM stockrelay.attempt AS a
        WHERE a.at >= $1::date::timestamp AT TIME ZONE 'UTC' AND a.at < ($1::date + 1)::timestamp AT TIME ZONE 'UTC')
           AS attempts;

-- name: broken_rows
-- Attempts of a day that are not what was logged: changed, gone, or in no batch. A copy of a row is in no batch either.
SELECT coalesce(l.attempt_id, a.attempt_id) AS attempt_id, a.channel, a.sku, a.at, l.chain, l.number,
       CASE WHEN a.attempt_id IS NULL THEN 'removed' WHEN l.attempt_id IS NULL THEN 'added' ELSE 'altered' END AS what
FROM (
    SELECT b.chain, b.number, u.attempt_id, 1 AS copy, substr(b.digests, (16 * u.place - 15)::integer, 16) AS digest
    FROM stockrelay.attempt_batch AS b, unnest(b.attempts) WITH ORDINALITY AS u (attempt_id, place)
    WHERE b.day = $1::date
) AS l FULL JOIN (
    SELECT r.attempt_id, r.channel, r.sku, r.at, stockrelay.attempt_digest(r) AS digest,
           row_number() OVER (PARTITION BY r.attempt_id) AS copy
    FROM stockrelay.attempt AS r
    WHERE r.at >= $1::date::timestamp AT TIME ZONE 'UTC' AND r.at < ($1::date + 1)::timestamp AT TIME ZONE 'UTC'
) AS a ON a.attempt_id = l.attempt_id AND a.copy = l.copy
WHERE l.digest IS DISTINCT FROM a.digest
ORDER BY 1 LIMIT $2;

-- name: broken_links
-- Batches of a day whose hash is not that of what they hold and of the batch before, gaps in their numbers, heads that the
-- last batch is not, and origins that no earlier day has.
WITH linked AS (
    SELECT b.*, c.number AS head_number, c.hash AS head_hash, c.origin_day, c.origin,
           lag(b.number, 1, 0::bigint) OVER w AS previous_number, lag(b.hash, 1, c.origin) OVER w AS previous,
           lead(b.number) OVER w IS NULL AS is_last
    FROM stockrelay.attempt_batch AS b LEFT JOIN stockrelay.attempt_chain AS c ON c.day = b.day AND c.chain = b.chain
    WHERE b.day = $1::date
    WINDOW w AS (PARTITION BY b.chain ORDER BY b.number)
), broken (chain, number, logged_at, what) AS (
    SELECT l.chain, l.previous_number + 1, l.logged_at, 'batch removed' FROM linked AS l
    WHERE l.number <> l.previous_number + 1
    UNION ALL
    SELECT l.chain, l.number, l.logged_at, 'batch altered' FROM linked AS l
    WHERE l.number = l.previous_number + 1 AND l.hash IS DISTINCT FROM stockrelay.batch_hash(
        l.previous, l.day, l.chain, l.number, l.logged_at, l.logged_by, l.attempts, l.digests)
    UNION ALL
    SELECT l.chain, l.number, l.logged_at, 'head altered' FROM linked AS l
    WHERE l.is_last AND (l.head_number, l.head_hash) IS DISTINCT FROM (l.number, l.hash)
    UNION ALL
    SELECT c.chain, c.number, NULL, 'batch removed' FROM stockrelay.attempt_chain AS c
    WHERE c.day = $1::date AND NOT EXISTS (SELECT FROM linked AS l WHERE l.chain = c.chain)
    UNION ALL
    SELECT c.chain, 0, NULL, 'earlier day altered' FROM stockrelay.attempt_chain AS c
    WHERE c.day = $1::date AND c.origin_day >= (SELECT min(k.day) FROM stockrelay.attempt_chain AS k)
    AND NOT EXISTS (SELECT FROM stockrelay.attempt_batch AS b
                    WHERE b.day = c.origin_day AND b.chain = c.chain AND b.hash = c.origin)
)
SELECT r.chain, r.number, r.logged_at, r.what FROM broken AS r ORDER BY r.chain, r.number LIMIT $2;

-- name: heads
-- Where the chains of the last days stand, for the log.
SELECT c.day, c.chain, c.number, encode(c.hash, 'hex') AS hash FROM stockrelay.attempt_chain AS c
WHERE c.day >= (clock_timestamp() AT TIME ZONE 'UTC')::date - 1 ORDER BY c.day, c.chain;

-- name: hash_of
-- The hash of one batch, and whether its day ($1) may be gone because it is older than is kept ($4).
SELECT (SELECT encode(b.hash, 'hex') FROM stockrelay.attempt_batch AS b
        WHERE b.day = $1::date AND b.chain = $2 AND b.number = $3) AS hash,
       $1::date < ((clock_timestamp() - $4::interval) AT TIME ZONE 'UTC')::date AS is_past;
