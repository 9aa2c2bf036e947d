-- name: lock
-- One migration at a time, over all replicas.
SELECT pg_advisory_lock($1);

-- name: create_schema
-- IF NOT EXISTS alone would want the right to create schemas even where a DBA has made it already.
DO $$
BEGIN
    IF to_regnamespace('stockrelay') IS NULL THEN
        CREATE SCHEMA stockrelay;
    END IF;
END $$;

-- name: has_version_table
-- NULL before the first migration.
SELECT to_regclass('stockrelay.alembic_version');

-- name: version
-- The schema's version.
SELECT version_num FROM stockrelay.alembic_version;

-- name: set_doorbell
-- NOTIFY makes PREPARE TRANSACTION fail: where the ERP needs that, the doorbell is off.
SELECT stockrelay.set_doorbell($1);

-- name: set_watches
-- Makes the triggers what the configuration says.
SELECT name, sku, is_always FROM stockrelay.set_watches($1::jsonb);

-- name: set_up_offline
-- What `migrate --sql` prints after the migrations: the doorbell and the triggers as configured.

SELECT stockrelay.set_doorbell(@doorbell@);
SELECT name, sku, is_always FROM stockrelay.set_watches('@watches@'::jsonb);
