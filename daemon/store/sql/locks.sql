-- name: blockers
-- Whose locks the session $1 waits for just now, and which table it wants. What a role may not see of others is NULL.
-- Who waits for a row waits for a transaction, and has locked the row's place in its table meanwhile.
SELECT b.pid, coalesce(coalesce(w.relation, (SELECT t.relation FROM pg_locks AS t WHERE t.pid = w.pid AND t.granted
                                AND t.locktype = 'tuple' LIMIT 1))::regclass::text, w.locktype) AS wanted,
       nullif(a.application_name, '') AS application,
       a.usename::text AS role, a.query_start
FROM pg_locks AS w CROSS JOIN LATERAL unnest(pg_blocking_pids(w.pid)) AS b (pid)
LEFT JOIN pg_stat_activity AS a ON a.pid = b.pid
WHERE w.pid = $1 AND NOT w.granted ORDER BY a.query_start NULLS LAST, b.pid LIMIT 3;

-- name: bounded
-- Which session this is; from here to the transaction's end it waits for a lock no longer than two seconds.
SELECT pg_backend_pid() AS pid, set_config('lock_timeout', '2s', true);

-- name: mutex
-- One of our own locks, until the transaction's end.
SELECT FROM stockrelay.mutex AS m WHERE m.name = $1 FOR UPDATE;
