-- name: claim_check
-- Claims the shared check for this replica: no row where one has checked within $1.
UPDATE stockrelay.capture_health SET checked_at = clock_timestamp()
WHERE checked_at <= clock_timestamp() - $1::interval RETURNING one;

-- name: tables
-- Every watched table: its present name (`called`), whether another table has its old name with triggers of ours or without
-- (NULL: none has), and what is wrong with a column that the SKU reads (`fault`: missing; virtual; type: one that the
-- triggers do not cast). From the catalogs alone, so that no right on the ERP's schemas is needed.
SELECT w.relation, w.name, w.sku, w.skus, w.is_always,
       CASE WHEN c.oid IS NOT NULL THEN format('%I.%I', n.nspname, c.relname) END AS called,
       coalesce(c.relname = p.own AND n.nspname = coalesce(p.schema, n.nspname), false) AS has_name,
       h.replacement_has_triggers, g.input AS "column", g.fault, g.type
FROM stockrelay.watch AS w
CROSS JOIN LATERAL (SELECT parse_ident(w.name) AS ident) AS i
CROSS JOIN LATERAL (SELECT i.ident[cardinality(i.ident)] AS own, i.ident[cardinality(i.ident) - 1] AS schema) AS p
LEFT JOIN pg_class AS c ON c.oid = w.relation AND c.relkind IN ('r', 'p')
LEFT JOIN pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN LATERAL (
    SELECT EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = o.oid AND t.tgname = 'stockrelay_insert') AS replacement_has_triggers
    FROM pg_class AS o JOIN pg_namespace AS s ON s.oid = o.relnamespace
    WHERE o.oid <> w.relation AND o.relname = p.own AND o.relkind IN ('r', 'p', 'v', 'm', 'f')
    AND CASE WHEN p.schema IS NULL THEN pg_table_is_visible(o.oid) ELSE s.nspname = p.schema END LIMIT 1) AS h ON true
LEFT JOIN LATERAL (
    SELECT f.* FROM (
        SELECT i.name AS input, format_type(a.atttypid, a.atttypmod) AS type, CASE
            WHEN a.attname IS NULL THEN 'missing'
            WHEN a.attgenerated = 'v' THEN 'virtual'
            WHEN a.atttypid <> i.type AND CASE WHEN w.sku_column IS NULL THEN a.atttypid >= 16384
                ELSE a.atttypid <> ALL ('{16,18,19,20,21,23,25,26,1042,1043,1700,2950}') END THEN 'type' END AS fault
        FROM unnest(w.inputs, w.types) AS i (name, type)
        LEFT JOIN pg_attribute AS a ON a.attrelid = w.relation AND a.attname = i.name AND NOT a.attisdropped) AS f
    WHERE f.fault IS NOT NULL ORDER BY f.input LIMIT 1) AS g ON true
ORDER BY w.name;

-- name: plain_path
-- Names are looked up as the triggers do.
SELECT set_config('search_path', 'pg_catalog, pg_temp', true);

-- name: sku_expression
-- Prepared, never run: it says whether the expression works on the table.
SELECT (@sku@)::text FROM @table@ LIMIT 0;

-- name: triggers
-- Our triggers on the watched tables and their parts that are missing or do not fire for each change. `fault`: missing,
-- disabled, replica (only in replicated sessions), origin (not in those), function (another one), definition (other events,
-- rows or columns, or a condition).
WITH RECURSIVE tree (root, function, id) AS (
    SELECT w.relation, w.function, w.relation FROM stockrelay.watch AS w
    UNION SELECT t.root, t.function, i.inhrelid FROM pg_inherits AS i JOIN tree AS t ON i.inhparent = t.id
), judged AS (
    SELECT t.root, format('%I.%I', n.nspname, c.relname) AS relation, c.oid = t.root AS is_root, v.name, CASE
        WHEN g.oid IS NULL THEN 'missing'
        WHEN g.tgenabled = 'D' THEN 'disabled'
        WHEN g.tgenabled = 'R' THEN 'replica'
        WHEN p.proname IS DISTINCT FROM t.function || '_' || v.event OR p.pronamespace <> 'stockrelay'::regnamespace
            THEN 'function'
        WHEN g.tgtype <> v.type OR g.tgnewtable IS DISTINCT FROM v.new_rows OR g.tgoldtable IS DISTINCT FROM v.old_rows
            OR g.tgqual IS NOT NULL OR g.tgattr::text <> '' THEN 'definition'
        WHEN g.tgenabled = 'O' THEN 'origin' END AS fault
    FROM tree AS t
    JOIN pg_class AS c ON c.oid = t.id AND c.relkind IN ('r', 'p')
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    CROSS JOIN (VALUES ('stockrelay_insert', 'insert', 4, 'new_rows', NULL), ('stockrelay_delete', 'delete', 8, NULL, 'old_rows'),
                       ('stockrelay_update', 'update', 16, 'new_rows', 'old_rows'),
                       ('stockrelay_truncate', 'truncate', 32, NULL, NULL)) AS v (name, event, type, new_rows, old_rows)
    LEFT JOIN pg_trigger AS g ON g.tgrelid = c.oid AND g.tgname = v.name AND NOT g.tgisinternal
    LEFT JOIN pg_proc AS p ON p.oid = g.tgfoid
)
SELECT j.* FROM judged AS j WHERE j.fault IS NOT NULL ORDER BY NOT j.is_root, j.relation, j.name;

-- name: note_triggers
-- Remembers the triggers' row versions; returns whether they have changed since the last time.
WITH RECURSIVE tree (id) AS (
    SELECT w.relation FROM stockrelay.watch AS w
    UNION SELECT i.inhrelid FROM pg_inherits AS i JOIN tree AS t ON i.inhparent = t.id
), fresh AS (
    SELECT coalesce(string_agg(format('%s:%s', g.oid, g.xmin), ' ' ORDER BY g.oid), '') AS triggers
    FROM tree AS t JOIN pg_trigger AS g ON g.tgrelid = t.id AND g.tgname LIKE 'stockrelay\_%' AND NOT g.tgisinternal
), last AS (
    SELECT h.triggers FROM stockrelay.capture_health AS h
), kept AS (
    UPDATE stockrelay.capture_health AS h SET triggers = f.triggers FROM fresh AS f
    WHERE h.triggers IS DISTINCT FROM f.triggers
)
SELECT l.triggers IS NOT NULL AND l.triggers <> f.triggers AS is_touched FROM last AS l, fresh AS f;

-- name: functions
-- Functions that differ from this program's migrations ($1 to $4, where the schema's version is $5), and functions of watched
-- tables (`root`) that differ from what `migrate` generated. `fault`: missing, source, definer (whose rights they run with),
-- path (their search_path).
WITH expected AS (
    SELECT e.name, e.sha256, e.is_definer, e.has_path, NULL::oid AS root, 0 AS place
    FROM unnest($1::text[], $2::text[], $3::boolean[], $4::boolean[]) AS e (name, sha256, is_definer, has_path)
    WHERE (SELECT v.version_num FROM stockrelay.alembic_version AS v) = $5::text
    UNION ALL
    SELECT w.function || '_' || v.event, w.sources[v.place], true, true, w.relation, v.place FROM stockrelay.watch AS w
    CROSS JOIN (VALUES ('insert', 1), ('update', 2), ('delete', 3), ('truncate', 4)) AS v (event, place)
    WHERE w.sources IS NOT NULL
), judged AS (
    SELECT e.name, e.root, e.place, CASE
        WHEN p.source IS NULL THEN 'missing'
        WHEN p.source <> e.sha256 THEN 'source'
        WHEN p.prosecdef <> e.is_definer THEN 'definer'
        WHEN e.has_path AND NOT p.has_path THEN 'path' END AS fault
    FROM expected AS e LEFT JOIN LATERAL (
        SELECT encode(sha256(convert_to(o.prosrc, 'UTF8')), 'hex') AS source, o.prosecdef,
               coalesce('search_path=pg_catalog, pg_temp' = ANY (o.proconfig), false) AS has_path
        FROM pg_proc AS o WHERE o.pronamespace = 'stockrelay'::regnamespace AND o.proname = e.name
        ORDER BY encode(sha256(convert_to(o.prosrc, 'UTF8')), 'hex') = e.sha256 DESC LIMIT 1) AS p ON true
)
SELECT j.name, j.root, j.fault FROM judged AS j WHERE j.fault IS NOT NULL ORDER BY j.root NULLS FIRST, j.place, j.name;

-- name: owners
-- The rights that the owners of the capturing functions lack. Before PostgreSQL 16, locking a table for writing took more
-- than INSERT. Of the server's own functions: those that capturing calls by name, and those of operators and casts.
WITH capturing AS (
    SELECT p.proowner AS owner, p.prosrc AS source FROM pg_proc AS p
    WHERE p.pronamespace = 'stockrelay'::regnamespace
    AND (p.prorettype = 'trigger'::regtype AND p.proname LIKE 'capture\_%'
         OR p.proname IN ('ring', 'canary', 'try_bell', 'capture_everything', 'stay_awake'))
), owners AS (
    SELECT DISTINCT c.owner AS id FROM capturing AS c
), needed (kind, name, privilege) AS (VALUES
    ('SCHEMA', 'stockrelay', 'USAGE'),
    ('TABLE', 'bell', 'INSERT'), ('TABLE', 'change_0', 'INSERT'), ('TABLE', 'change_1', 'INSERT'),
    ('SEQUENCE', 'capture_word', 'SELECT'), ('SEQUENCE', 'capture_word', 'UPDATE'),
    ('FUNCTION', 'try_bell', 'EXECUTE'), ('FUNCTION', 'capture_everything', 'EXECUTE'), ('FUNCTION', 'stay_awake', 'EXECUTE')
), held AS (
    SELECT pg_get_userbyid(o.id)::text AS owner, n.*, coalesce(CASE n.kind
        WHEN 'SCHEMA' THEN has_schema_privilege(o.id, n.name, n.privilege)
        WHEN 'TABLE' THEN has_table_privilege(o.id, c.oid, n.privilege)
            AND (current_setting('server_version_num')::integer >= 160000
                 OR has_table_privilege(o.id, c.oid, 'UPDATE, DELETE, TRUNCATE'))
        WHEN 'SEQUENCE' THEN has_sequence_privilege(o.id, c.oid, n.privilege)
        ELSE has_function_privilege(o.id, p.oid, n.privilege) END, false) AS has_it,
        CASE n.kind WHEN 'SCHEMA' THEN n.name WHEN 'FUNCTION' THEN coalesce(p.oid::regprocedure::text, n.name)
                    ELSE 'stockrelay.' || n.name END AS object
    FROM owners AS o CROSS JOIN needed AS n
    LEFT JOIN pg_class AS c ON n.kind IN ('TABLE', 'SEQUENCE') AND c.relnamespace = 'stockrelay'::regnamespace AND c.relname = n.name
    LEFT JOIN pg_proc AS p ON n.kind = 'FUNCTION' AND p.pronamespace = 'stockrelay'::regnamespace AND p.proname = n.name
)
SELECT h.owner, format('GRANT %s ON %s %s TO %I;',
    CASE WHEN h.kind = 'TABLE' THEN 'INSERT, UPDATE' ELSE h.privilege END, h.kind, h.object, h.owner) AS command
FROM held AS h WHERE NOT h.has_it
UNION ALL
SELECT pg_get_userbyid(o.id), format('GRANT EXECUTE ON FUNCTION pg_catalog.%I(%s) TO %I;',
    p.proname, pg_get_function_identity_arguments(p.oid), pg_get_userbyid(o.id))
FROM owners AS o JOIN pg_proc AS p ON p.pronamespace = 'pg_catalog'::regnamespace AND p.proacl IS NOT NULL
AND NOT has_function_privilege(o.id, p.oid, 'EXECUTE')
AND (EXISTS (SELECT FROM capturing AS c WHERE c.source ~ ('\m' || p.proname || '\('))
     OR EXISTS (SELECT FROM pg_operator AS r WHERE r.oprcode = p.oid)
     OR EXISTS (SELECT FROM pg_cast AS k WHERE k.castfunc = p.oid))
ORDER BY owner, command;

-- name: replicated
-- Whose sessions are replicated ones (session_replication_role = replica) by a setting of role, database or server.
SELECT CASE WHEN s.setrole = 0 THEN format('every session of the database %I', d.datname)
            WHEN s.setdatabase = 0 THEN format('the role %I', r.rolname)
            ELSE format('the role %I in the database %I', r.rolname, d.datname) END AS sessions
FROM pg_db_role_setting AS s CROSS JOIN unnest(s.setconfig) AS c (setting)
LEFT JOIN pg_roles AS r ON r.oid = s.setrole LEFT JOIN pg_database AS d ON d.oid = s.setdatabase
WHERE c.setting COLLATE "C" ~* '^session_replication_role=replica$' AND (s.setdatabase = 0 OR d.datname = current_database())
UNION ALL
SELECT 'every session of the server' FROM pg_settings AS g
WHERE g.name = 'session_replication_role' AND g.setting = 'replica'
AND g.source IN ('configuration file', 'command line', 'environment variable')
ORDER BY 1;

-- name: doorbell
-- The doorbell: whether it is on, for how many seconds it is silent, what is wrong with its trigger, whether the server's
-- notification queue is half full, and how many transactions can be prepared.
SELECT w.last_value < 4611686018427387904 AS is_on,
       CASE WHEN w.last_value < 4611686018427387904
            THEN greatest(0, w.last_value / 1000.0 - extract(epoch FROM clock_timestamp()))::float8 ELSE 0 END AS silenced_s,
       CASE WHEN t.oid IS NULL THEN 'missing' WHEN t.tgenabled = 'D' THEN 'disabled' WHEN t.tgenabled = 'R' THEN 'replica'
            WHEN p.proname <> 'ring' OR p.pronamespace <> 'stockrelay'::regnamespace THEN 'function'
            WHEN t.tgtype <> 5 OR NOT t.tginitdeferred OR t.tgqual IS NOT NULL THEN 'definition'
            WHEN t.tgenabled = 'O' THEN 'origin' END AS fault,
       pg_notification_queue_usage() >= 0.5 AS is_queue_full,
       current_setting('max_prepared_transactions')::integer AS prepared
FROM stockrelay.capture_word AS w
LEFT JOIN pg_class AS c ON c.relnamespace = 'stockrelay'::regnamespace AND c.relname = 'bell'
LEFT JOIN pg_trigger AS t ON t.tgrelid = c.oid AND t.tgname = 'stockrelay_ring'
LEFT JOIN pg_proc AS p ON p.oid = t.tgfoid;

-- name: enable_ringing
-- Has captures ring again.
SELECT stockrelay.stay_awake(0);

-- name: canary
-- A change that is none: what became of its bell.
SELECT stockrelay.canary();

-- name: now
-- The database's time.
SELECT clock_timestamp();

-- name: is_reading_late
-- Whether a channel of $4 (NULL: any) has not read a canary sent since $1 within $2 while no reader is at work for it, or
-- not within $3 in any case. NULL: it is too early to say. A reader at work has the position's row locked.
WITH late AS MATERIALIZED (
    SELECT p.channel, min(u.at) AS at
    FROM stockrelay.read_position AS p CROSS JOIN LATERAL stockrelay.unread(p.read_until) AS u
    WHERE ($4::text[] IS NULL OR p.channel = ANY ($4::text[]))
    AND u.sku = E'\x01stockrelay canary' AND u.relation IS NULL AND u.at >= $1::timestamptz AND u.at < clock_timestamp() - $2::interval
    GROUP BY p.channel
)
SELECT CASE WHEN EXISTS (SELECT FROM late)
            THEN EXISTS (SELECT FROM late WHERE at < clock_timestamp() - $3::interval)
                 OR EXISTS (SELECT FROM (SELECT FROM stockrelay.read_position AS p
                                         WHERE p.channel IN (SELECT l.channel FROM late AS l)
                                         FOR KEY SHARE SKIP LOCKED) AS free)
            WHEN $1::timestamptz < clock_timestamp() - $2::interval THEN false END;

-- name: keep
-- Replaces the findings of this reporter ($1) and these kinds ($2); returns those that are new or have other words, and those
-- that are over.
WITH seen AS (
    SELECT * FROM unnest($3::text[], $4::text[], $5::boolean[], $6::boolean[], $7::text[], $8::text[])
        AS s (kind, subject, is_error, is_lossy, found, advice)
), ended AS (
    DELETE FROM stockrelay.capture_finding AS f
    WHERE f.reporter = $1 AND f.kind = ANY ($2::text[])
    AND NOT EXISTS (SELECT FROM seen AS s WHERE s.kind = f.kind AND s.subject = f.subject)
    RETURNING f.*
), kept AS (
    INSERT INTO stockrelay.capture_finding AS f (reporter, kind, subject, is_error, is_lossy, found, advice)
    SELECT $1, s.* FROM seen AS s
    ON CONFLICT (reporter, kind, subject) DO UPDATE SET is_error = excluded.is_error, is_lossy = excluded.is_lossy,
        found = excluded.found, advice = excluded.advice, seen_at = excluded.seen_at
    RETURNING f.*
)
SELECT k.*, true AS is_open FROM kept AS k
LEFT JOIN stockrelay.capture_finding AS b ON b.reporter = k.reporter AND b.kind = k.kind AND b.subject = k.subject
WHERE b.found IS DISTINCT FROM k.found
UNION ALL SELECT o.*, false FROM ended AS o;

-- name: expire
-- Deletes the findings of replicas that have not reported for $1.
DELETE FROM stockrelay.capture_finding AS f WHERE f.reporter <> '' AND f.seen_at < clock_timestamp() - $1::interval
RETURNING f.*, false AS is_open;

-- name: open
-- What is wrong now.
SELECT f.*, true AS is_open FROM stockrelay.capture_finding AS f ORDER BY f.since, f.kind, f.subject, f.reporter;

-- name: checked_at
-- When a replica checked last; NULL: none has yet.
SELECT nullif(h.checked_at, '-infinity') FROM stockrelay.capture_health AS h;
