-- Functions are named with their schema: the search path is the owner's own, for the watched tables, and other roles may be
-- able to create functions there.

-- name: lock
-- One migration at a time, over all replicas. No advisory lock, which any role that may connect can hold. Readers of the
-- version neither wait nor are waited for.
LOCK TABLE stockrelay.alembic_version IN SHARE UPDATE EXCLUSIVE MODE;

-- name: wait_long_for_locks
-- Another migration takes as long as the tables are large.
SET LOCAL lock_timeout = '60s';

-- name: wait_briefly_for_locks
-- Sessions that queue behind us wait for as long as we do.
SET LOCAL lock_timeout = '5s';

-- name: limit_idle_time
-- Until the commit: the server ends this transaction when our process stalls while it has the ERP's tables locked.
SET LOCAL idle_in_transaction_session_timeout = '700ms';

-- name: holders
-- Who keeps us from locking the version.
SELECT a.pid, 'stockrelay.alembic_version' AS wanted, nullif(a.application_name, '') AS application,
       a.usename::pg_catalog.text AS role, a.query_start
FROM pg_catalog.pg_locks AS l JOIN pg_catalog.pg_stat_activity AS a ON a.pid OPERATOR(pg_catalog.=) l.pid
WHERE l.relation OPERATOR(pg_catalog.=) 'stockrelay.alembic_version'::pg_catalog.regclass AND l.granted
AND l.mode OPERATOR(pg_catalog.<>) ALL ('{AccessShareLock,RowShareLock,RowExclusiveLock}'::pg_catalog.text[]);

-- name: servers_path
-- For the migrations.
SET LOCAL search_path = pg_catalog, pg_temp;

-- name: own_path
-- The owner's own, on which the watched tables are looked up.
RESET search_path;

-- name: create_schema
-- IF NOT EXISTS alone would require the right to create schemas even where a DBA has made ours already. The schema's owner
-- may put functions into it that are called with our rights: it must be us, or a superuser.
DO $$
DECLARE
    owner CONSTANT pg_catalog.name := (
        SELECT r.rolname FROM pg_catalog.pg_namespace AS n
        JOIN pg_catalog.pg_roles AS r ON r.oid OPERATOR(pg_catalog.=) n.nspowner
        WHERE n.nspname OPERATOR(pg_catalog.=) 'stockrelay' AND NOT r.rolsuper);
BEGIN
    IF pg_catalog.to_regnamespace('stockrelay') IS NULL THEN
        CREATE SCHEMA stockrelay;
    ELSIF NOT pg_catalog.pg_has_role(owner, 'USAGE') THEN
        RAISE insufficient_privilege USING
            MESSAGE = pg_catalog.concat('the schema belongs to ', owner, ', and ', current_user, ' is no member of it'),
            HINT = 'Migrate as its owner. If that role is not yours, look at what is in the schema, and drop it.';
    END IF;
END $$;

-- name: has_version_table
-- NULL before the first migration.
SELECT pg_catalog.to_regclass('stockrelay.alembic_version');

-- name: version
-- The schema's version.
SELECT version_num FROM stockrelay.alembic_version;

-- name: set_doorbell
-- Switches the doorbell on or off.
SELECT stockrelay.set_doorbell($1);

-- name: prepared
-- How many transactions can be prepared.
SELECT pg_catalog.current_setting('max_prepared_transactions')::pg_catalog.int4;

-- name: set_watches
-- Makes the triggers what the configuration says.
SELECT name, sku, skus, is_always FROM stockrelay.set_watches($1::pg_catalog.jsonb);

-- name: set_up_offline
-- What `migrate --sql` prints after the migrations: the doorbell and the triggers as configured.

RESET search_path;
SELECT stockrelay.set_doorbell(@doorbell@);
SELECT name, sku, skus, is_always FROM stockrelay.set_watches('@watches@'::pg_catalog.jsonb);
