-- Removes our schema while the ERP writes. `triggers`, `partitions` and `schema` return what is left of each kind: each
-- `statement` removes one part in a transaction of its own, which the server ends even if our process dies; `relations` are
-- what it locks.

-- name: session
-- Names without a schema are the server's own.
SET search_path = pg_catalog, pg_temp;
SET client_min_messages = warning;

-- name: limits
-- Limits each further statement to $1 milliseconds and to a short wait for locks: the ERP's statements queue behind a lock
-- that we wait for, and after `deadlock_timeout` the server might end one of the ERP's transactions.
SELECT set_config('statement_timeout', $1::integer::text, false),
       set_config('lock_timeout', greatest(1, least(200, s.setting::integer / 2))::text, false)
FROM pg_settings AS s WHERE s.name = 'deadlock_timeout';

-- name: unlimited
-- No limits for what only reads.
RESET statement_timeout;
RESET lock_timeout;

-- name: installation
-- The schema, and whether this role may remove it. A schema that holds something, but not the version, is not ours.
SELECT current_database()::text AS database, r.rolname::text AS owner, pg_has_role(n.nspowner, 'USAGE') AS is_owner,
       EXISTS (SELECT FROM pg_class AS c WHERE c.relnamespace = n.oid AND c.relname = 'alembic_version')
           OR NOT EXISTS (SELECT FROM pg_class AS c WHERE c.relnamespace = n.oid
                          UNION ALL SELECT FROM pg_proc AS p WHERE p.pronamespace = n.oid) AS is_ours,
       EXISTS (SELECT FROM pg_class AS c WHERE c.relnamespace = n.oid AND c.relname = 'replica') AS has_replicas
FROM pg_namespace AS n JOIN pg_roles AS r ON r.oid = n.nspowner WHERE n.nspname = 'stockrelay';

-- name: replicas
-- The daemons that are alive.
SELECT r.holder FROM stockrelay.replica AS r WHERE r.until >= clock_timestamp() ORDER BY r.holder;

-- name: dependents
-- What others have built on our tables, types and functions, such as a view for a report: it would be dropped with them.
WITH ours (classid, objid) AS (
    SELECT 'pg_class'::regclass, c.oid FROM pg_class AS c WHERE c.relnamespace = 'stockrelay'::regnamespace
    UNION ALL SELECT 'pg_proc'::regclass, p.oid FROM pg_proc AS p WHERE p.pronamespace = 'stockrelay'::regnamespace
    UNION ALL SELECT 'pg_type'::regclass, t.oid FROM pg_type AS t WHERE t.typnamespace = 'stockrelay'::regnamespace
)
SELECT DISTINCT pg_describe_object(d.classid, d.objid, d.objsubid) AS dependent
FROM ours AS o JOIN pg_depend AS d ON d.refclassid = o.classid AND d.refobjid = o.objid AND d.deptype IN ('n', 'a')
CROSS JOIN LATERAL pg_identify_object_as_address(d.classid, d.objid, d.objsubid) AS a
WHERE d.classid <> 'pg_trigger'::regclass AND a.object_names[1] <> 'stockrelay'
AND NOT EXISTS (SELECT FROM ours AS x WHERE x.classid = d.classid AND x.objid = d.objid) ORDER BY 1;

-- name: roles
-- The roles that own our schema or write our ledger, superusers left out.
SELECT r.rolname::text FROM pg_roles AS r
WHERE NOT r.rolsuper AND r.oid IN (
    SELECT n.nspowner FROM pg_namespace AS n WHERE n.nspname = 'stockrelay'
    UNION ALL SELECT a.grantee FROM pg_class AS c CROSS JOIN LATERAL aclexplode(c.relacl) AS a
              WHERE c.relnamespace = 'stockrelay'::regnamespace AND c.relname = 'ledger' AND a.privilege_type = 'INSERT');

-- name: removable_roles
-- Of these roles, those that own nothing else in any database of the server, as SQL that removes them. DROP OWNED takes
-- their rights away; of a role that owns anything, it would remove that.
SELECT format('DROP OWNED BY %1$s; DROP ROLE %1$s;', string_agg(quote_ident(r.rolname), ', ' ORDER BY r.rolname))
FROM pg_roles AS r WHERE r.rolname = ANY ($1::text[]) AND NOT EXISTS (
    SELECT FROM pg_shdepend AS d
    WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = r.oid AND d.deptype = 'o')
HAVING count(*) > 0;

-- name: triggers
-- One of the ERP's relations at a time. Its owner may drop the triggers. Another role drops their functions, which are in our
-- schema, and with them the triggers of all partitions at once.
SELECT format('the triggers on %I.%I', n.nspname, c.relname) AS removes, ARRAY[c.oid] AS relations,
       CASE WHEN pg_has_role(c.relowner, 'USAGE')
           THEN string_agg(format('DROP TRIGGER IF EXISTS %I ON %I.%I', t.tgname, n.nspname, c.relname), '; ')
           ELSE format('DROP FUNCTION IF EXISTS %s CASCADE', string_agg(DISTINCT p.oid::regprocedure::text, ', ')) END
           AS statement
FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = t.tgfoid JOIN pg_class AS c ON c.oid = t.tgrelid
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE p.pronamespace = to_regnamespace('stockrelay') AND n.nspname <> 'stockrelay' AND NOT t.tgisinternal AND t.tgparentid = 0
GROUP BY c.oid, n.nspname, c.relname, c.relowner ORDER BY n.nspname, c.relname;

-- name: partitions
-- The attempt log's, a day each: a transaction that locks hundreds of tables could use up the lock table of the server.
SELECT NULL AS removes, ARRAY[c.oid, i.inhparent] AS relations, format('DROP TABLE IF EXISTS stockrelay.%I', c.relname) AS statement
FROM pg_class AS c JOIN pg_inherits AS i ON i.inhrelid = c.oid
WHERE c.relnamespace = to_regnamespace('stockrelay') AND c.relispartition AND c.relkind = 'r' ORDER BY c.relname;

-- name: schema
-- The rest. Without the version's table no migration can begin; one that came between has made triggers anew.
SELECT 'the schema stockrelay' AS removes, ARRAY(SELECT c.oid FROM pg_class AS c WHERE c.relnamespace = n.oid) AS relations,
       $statement$DO $$
BEGIN
    DROP TABLE IF EXISTS stockrelay.alembic_version;
    IF EXISTS (SELECT FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = t.tgfoid JOIN pg_class AS c ON c.oid = t.tgrelid
               WHERE p.pronamespace = 'stockrelay'::regnamespace AND c.relnamespace <> p.pronamespace) THEN
        RAISE object_in_use USING MESSAGE = 'a migration has set triggers anew';
    END IF;
    DROP SCHEMA stockrelay CASCADE;
END $$$statement$ AS statement
FROM pg_namespace AS n WHERE n.nspname = 'stockrelay';

-- name: holders
-- Who holds locks on these relations now. A prepared transaction has no process; its own lock says which it is.
SELECT l.pid, l.relation::regclass::text AS wanted, coalesce(nullif(a.application_name, ''), x.gid) AS application,
       coalesce(a.usename, x.owner)::text AS role, a.query_start
FROM pg_locks AS l LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid
LEFT JOIN pg_locks AS t ON l.pid IS NULL AND t.pid IS NULL AND t.locktype = 'transactionid'
    AND t.virtualtransaction = l.virtualtransaction
LEFT JOIN pg_prepared_xacts AS x ON x.transaction = t.transactionid
WHERE l.relation = ANY ($1::oid[]) AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
ORDER BY a.query_start NULLS FIRST, l.pid LIMIT 3;
