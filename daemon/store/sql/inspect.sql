-- name: limit_time
-- For this transaction: no statement may take longer (milliseconds, as text).
SELECT set_config('statement_timeout', $1, true), set_config('lock_timeout', '500ms', true),
       set_config('idle_in_transaction_session_timeout', '700ms', true);

-- name: server
-- Which server answers, as whom, and what its clock says.
SELECT current_setting('server_version_num')::integer / 10000 AS major, current_setting('server_version') AS version,
       current_user::text AS role, quote_ident(current_user) AS quoted_role, current_database()::text AS database,
       quote_ident(current_database()) AS quoted_database, getdatabaseencoding()::text AS encoding,
       pg_is_in_recovery() AS is_standby, clock_timestamp() AS now;

-- name: connections
-- How many more connections this role may make, by the server's, its own and the database's limit, and how many a running
-- daemon of ours has.
WITH open AS (
    SELECT count(*) AS all_of_them,
           count(*) FILTER (WHERE usename = current_user) AS of_role,
           count(*) FILTER (WHERE datname = current_database()) AS of_database,
           count(*) FILTER (WHERE usename = current_user AND application_name = 'stockrelay') AS ours
    FROM pg_stat_activity WHERE backend_type = 'client backend'
)
SELECT least(
           current_setting('max_connections')::bigint - current_setting('superuser_reserved_connections')::bigint
               - coalesce(current_setting('reserved_connections', true)::bigint, 0) - o.all_of_them,
           CASE WHEN r.rolconnlimit >= 0 THEN r.rolconnlimit - o.of_role END,
           CASE WHEN d.datconnlimit >= 0 THEN d.datconnlimit - o.of_database END) AS free,
       o.ours
FROM open AS o, pg_roles AS r, pg_database AS d
WHERE r.rolname = current_user AND d.datname = current_database();

-- name: writable_schemas_in_path
-- Schemas of the search path in which others may create functions. (Superusers and the database's owner may in any case.)
SELECT quote_ident(n.nspname) AS schema, p.is_open, r.roles
FROM pg_namespace AS n,
LATERAL (SELECT EXISTS (SELECT FROM aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) AS a
                        WHERE a.grantee = 0 AND a.privilege_type = 'CREATE') AS is_open) AS p,
LATERAL (SELECT ARRAY(
    SELECT r.rolname::text FROM pg_roles AS r, pg_database AS d
    WHERE d.datname = current_database() AND r.oid <> d.datdba AND r.rolcanlogin AND NOT r.rolsuper
    AND r.rolname <> current_user AND has_schema_privilege(r.oid, n.oid, 'CREATE')
    ORDER BY r.rolname LIMIT 3) AS roles) AS r
WHERE n.nspname = ANY (current_schemas(false)) AND (p.is_open OR cardinality(r.roles) > 0)
ORDER BY n.nspname;

-- name: echo
-- A statement that is prepared once and run several times.
SELECT $1::integer;

-- name: policies
-- The row-level security policies of tables with that name.
SELECT format('%I.%I', p.schemaname, p.tablename) AS name, p.policyname::text AS policy FROM pg_policies AS p
WHERE p.tablename = $1 ORDER BY p.schemaname, p.policyname LIMIT 5;

-- name: schema
-- Whether our schema is there, and whether this role may use it.
SELECT has_schema_privilege(n.oid, 'USAGE') AS is_open FROM pg_namespace AS n WHERE n.nspname = 'stockrelay';

-- name: has_version
-- Whether the version can be read.
SELECT has_table_privilege(c.oid, 'SELECT') FROM pg_class AS c
WHERE c.relnamespace = 'stockrelay'::regnamespace AND c.relname = 'alembic_version';

-- name: missing_rights
-- Which of these rights in our schema (kinds $1, names $2, privileges $3) this role lacks: the GRANT, or NULL where the object
-- itself is missing.
WITH needed AS (
    SELECT n.kind, n.name, string_to_array(n.privileges, ', ') AS privileges
    FROM unnest($1::text[], $2::text[], $3::text[]) AS n (kind, name, privileges)
), found AS (
    SELECT n.kind, n.name, n.privileges, c.oid AS relation, p.oid AS function
    FROM needed AS n
    LEFT JOIN pg_class AS c ON n.kind <> 'FUNCTION' AND c.relnamespace = 'stockrelay'::regnamespace AND c.relname = n.name
    LEFT JOIN pg_proc AS p ON n.kind = 'FUNCTION' AND p.pronamespace = 'stockrelay'::regnamespace AND p.proname = n.name
), lacking AS (
    SELECT f.*, ARRAY(
        SELECT r.privilege FROM unnest(f.privileges) WITH ORDINALITY AS r (privilege, place)
        WHERE NOT CASE f.kind WHEN 'TABLE' THEN has_table_privilege(f.relation, r.privilege)
                              WHEN 'SEQUENCE' THEN has_sequence_privilege(f.relation, r.privilege)
                              ELSE has_function_privilege(f.function, r.privilege) END
        ORDER BY r.place) AS privileges_lacking
    FROM found AS f
)
SELECT lower(l.kind COLLATE "C") || ' stockrelay.' || l.name AS object,
       CASE WHEN l.relation IS NOT NULL OR l.function IS NOT NULL THEN
           format('GRANT %s ON %s %s TO %I;', array_to_string(l.privileges_lacking, ', '), l.kind,
                  coalesce(l.function::regprocedure::text, l.relation::regclass::text), current_user)
       END AS command
FROM lacking AS l
WHERE (l.relation IS NULL AND l.function IS NULL) OR cardinality(l.privileges_lacking) > 0
ORDER BY l.kind DESC, l.name;

-- name: table
-- The table of that name: what it is, its full name and its columns. No row: there is none.
SELECT c.oid AS relation, c.relkind IN ('r', 'p') AS is_table, format('%I.%I', n.nspname, c.relname) AS name,
       ARRAY(SELECT a.attname::text FROM pg_attribute AS a
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum) AS columns
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.oid = to_regclass($1);

-- name: listing_shape
-- The listing where the daemon puts it, for its columns.
SELECT l.* FROM (
@listing@
) AS l LIMIT 0;

-- name: listing_rows
-- Every row of the listing, as it is read for sending. OFFSET 0: the quantity is computed once a row.
SELECT x.sku, x.identifiers, left(x.number::text, 32) AS number,
       x.number > '-Infinity' AND x.number < @max_quantity@::numeric + 1 IS TRUE AS is_sendable,
       coalesce(x.number > 0 AND x.number <> trunc(x.number), false) AS is_fractional,
       coalesce(x.number < 1, false) AS is_zero
FROM (
    SELECT l.sku::text AS sku, ARRAY[@identifiers@]::text[] AS identifiers, @number@ AS number FROM (
@listing@
    ) AS l OFFSET 0
) AS x;

-- name: listing_duplicates
-- SKUs with more than one row: how many there are, and some of them.
SELECT x.sku AS example, count(*) OVER () AS many FROM (
    SELECT l.sku::text AS sku FROM (
@listing@
    ) AS l WHERE l.sku IS NOT NULL
) AS x GROUP BY x.sku HAVING count(*) > 1 ORDER BY x.sku LIMIT $1;

-- name: listing_twins
-- Different SKUs with the same, complete identifiers: how many there are, and the first two of some groups.
SELECT x.skus[1:2] AS pair, (sum(cardinality(x.skus)) OVER ())::bigint AS many FROM (
    SELECT array_agg(DISTINCT l.sku::text COLLATE "C") AS skus FROM (
@listing@
    ) AS l CROSS JOIN LATERAL (SELECT ARRAY[@identifiers@]::text[] AS identifiers) AS i
    WHERE l.sku IS NOT NULL AND array_position(i.identifiers, NULL) IS NULL AND array_position(i.identifiers, '') IS NULL
    GROUP BY i.identifiers
) AS x WHERE cardinality(x.skus) > 1 ORDER BY x.skus[1] LIMIT $1;

-- name: listing_names_alike
-- Identifiers that differ only by blanks or capitals: how many groups there are, and a pair of some of them.
SELECT ARRAY[min(x.name), max(x.name)] AS pair, count(*) OVER () AS many FROM (
    SELECT array_to_string(ARRAY[@identifiers@]::text[], ' / ', '') COLLATE "C" AS name FROM (
@listing@
    ) AS l WHERE l.sku IS NOT NULL
) AS x WHERE x.name ~ '[^[:space:]]' GROUP BY lower(regexp_replace(x.name, '[[:space:]]', '', 'g')) HAVING min(x.name) <> max(x.name)
ORDER BY min(x.name) LIMIT $1;

-- name: sample_skus
-- Some of the SKUs that a watched table's rows have, from all over the table. Names are looked up as the triggers do.
SELECT DISTINCT x.sku FROM (
    SELECT (@sku@)::text COLLATE "C" AS sku FROM @table@ TABLESAMPLE SYSTEM (
        (SELECT least(100, 100000 / greatest(c.reltuples, 1)) FROM pg_class AS c WHERE c.oid = $1::oid)) REPEATABLE (1)
    LIMIT $3) AS x
WHERE x.sku IS NOT NULL ORDER BY x.sku LIMIT $2;

-- name: listing_sku
-- A SKU of the listing.
SELECT l.sku::text FROM (
@listing@
) AS l WHERE l.sku IS NOT NULL LIMIT 1;

-- name: alike
-- The first of these unlisted SKUs ($1) that differs from a listed one only by blanks, capitals or leading zeros.
WITH unknown AS (
    SELECT u.sku, ltrim(lower(regexp_replace(u.sku, '[[:space:]]', '', 'g')), '0') AS plain
    FROM (SELECT s.sku COLLATE "C" AS sku FROM unnest($1::text[]) AS s (sku)) AS u
), listed AS (
    SELECT x.sku, ltrim(lower(regexp_replace(x.sku, '[[:space:]]', '', 'g')), '0') AS plain
    FROM (SELECT l.sku::text COLLATE "C" AS sku FROM (
@listing@
    ) AS l WHERE l.sku IS NOT NULL) AS x
)
SELECT u.sku AS alike, min(x.sku) AS listed FROM unknown AS u JOIN listed AS x ON x.plain = u.plain
GROUP BY u.sku ORDER BY u.sku LIMIT 1;

-- name: has_some
-- Whether the listing has one of these SKUs.
SELECT EXISTS (SELECT FROM (
@listing@
) AS l JOIN unnest($1::text[]) AS s (sku) ON s.sku COLLATE "C" = l.sku::text) AS has_some;

-- name: listing_alike
-- SKUs of the listing that differ only by blanks or capitals: how many groups there are, and a pair of some of them.
SELECT ARRAY[min(x.sku), max(x.sku)] AS pair, count(*) OVER () AS many
FROM (SELECT l.sku::text COLLATE "C" AS sku FROM (
@listing@
) AS l WHERE l.sku IS NOT NULL) AS x
GROUP BY lower(regexp_replace(x.sku, '[[:space:]]', '', 'g')) HAVING count(DISTINCT x.sku) > 1
ORDER BY min(x.sku) LIMIT $1;

-- name: unreadable
-- Tables and schemas that the listing names and this role may not read.
WITH named AS (
    SELECT n.nspname, n.oid AS schema, c.relname, c.oid AS relation
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
    AND n.nspname !~ '^pg_(toast|temp)' AND lower($1) ~ ('\m' || CASE
        WHEN n.nspname = ANY (current_schemas(false)) THEN '' ELSE regexp_replace(lower(n.nspname), '(\W)', '\\\1', 'g') || '"?\s*\.\s*"?' END
        || regexp_replace(lower(c.relname), '(\W)', '\\\1', 'g') || '\M')
), grants AS (
    SELECT DISTINCT 1 AS place, format('GRANT USAGE ON SCHEMA %I TO %I;', nspname, current_user) AS command
    FROM named WHERE NOT has_schema_privilege(schema, 'USAGE')
    UNION ALL
    SELECT 2, format('GRANT SELECT ON %I.%I TO %I;', nspname, relname, current_user)
    FROM named WHERE NOT has_table_privilege(relation, 'SELECT')
)
SELECT command FROM grants ORDER BY place, command;

-- name: measure
-- The plan of the statement that follows, which is run, and what it cost.
EXPLAIN (ANALYZE, BUFFERS, VERBOSE, TIMING OFF, FORMAT JSON)

-- name: backend
-- Which server process answers, and whether it has our LISTEN.
SELECT pg_backend_pid() AS pid, EXISTS (SELECT FROM pg_listening_channels() AS c (name) WHERE c.name = $1) AS is_listening;

-- name: notify
-- Rings a bell that only the check listens to.
SELECT pg_notify($1, '');

-- name: change_log
-- Of when the change log holds rows, where it has not been emptied for $1; NULL: it is emptied.
SELECT min(c.at) AS oldest FROM stockrelay.intake AS i, (
    (SELECT f.at FROM stockrelay.change AS f ORDER BY f.xid LIMIT 1)
    UNION ALL (SELECT l.at FROM stockrelay.change AS l ORDER BY l.xid DESC LIMIT 1)) AS c
WHERE greatest(c.at, i.switched_at, i.accepted_at) < clock_timestamp() - $1::interval;
