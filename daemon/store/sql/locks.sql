-- name: blockers
-- Whose locks the session $1 waits for just now, and which table it wants. What a role may not see of others is NULL.
SELECT b.pid, coalesce(w.relation::regclass::text, w.locktype) AS wanted, nullif(a.application_name, '') AS application,
       a.usename::text AS role, a.query_start
FROM pg_locks AS w CROSS JOIN LATERAL unnest(pg_blocking_pids(w.pid)) AS b (pid)
LEFT JOIN pg_stat_activity AS a ON a.pid = b.pid
WHERE w.pid = $1 AND NOT w.granted ORDER BY a.query_start NULLS LAST, b.pid LIMIT 3;
