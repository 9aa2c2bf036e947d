-- The two roles of Stockrelay, with exactly the rights they need. docs/database-roles.md says why each of them.
--
-- Run it with psql, in the ERP's database, as a DBA, before the first `stockrelay migrate --grant-to stockrelay`. Without
-- --grant-to, run it once more after that and after each upgrade, as the DBA or as the owner role. It may be run at any time.
--
--   psql -v owner=stockrelay_owner -v daemon=stockrelay -v schemas=erp -v watched='erp.stock, erp.products' \
--        -v listed='erp.stock, erp.products' -v table_owner=erp -f deploy/roles.sql DATABASE
--
-- owner, daemon  the roles; they are made without a password: psql's \password sets one
-- schemas        the schemas of the tables below, with commas
-- watched        the tables of [[watch]]
-- listed         the tables, views and so on that the listings read
-- table_owner    optional: the role that owns the watched tables. Without it, the triggers do not fire in replicated
--                sessions, and taking them off again is left to the tables' owner.

\set ON_ERROR_STOP on
\if :{?owner} \else \set owner stockrelay_owner \endif
\if :{?daemon} \else \set daemon stockrelay \endif

SELECT pg_catalog.to_regrole(pg_catalog.quote_ident(:'owner')) IS NULL AS lacks_owner,
       pg_catalog.to_regrole(pg_catalog.quote_ident(:'daemon')) IS NULL AS lacks_daemon,
       pg_catalog.to_regnamespace('stockrelay') IS NULL AS lacks_schema, pg_catalog.current_database() AS database \gset

-- As a DBA: CREATEROLE, CREATE on the database, and the grant option for the ERP's tables (or superuser).
\if :lacks_owner
    CREATE ROLE :"owner" LOGIN;
\endif
\if :lacks_daemon
    CREATE ROLE :"daemon" LOGIN;
\endif
\if :lacks_schema
    GRANT CONNECT ON DATABASE :"database" TO :"owner", :"daemon";
    CREATE SCHEMA stockrelay AUTHORIZATION :"owner";
    -- What somebody else has put into a schema of its search path would be called with its rights. So the listings name
    -- their tables with the schema, as they do functions and operators of extensions.
    ALTER ROLE :"daemon" IN DATABASE :"database" SET search_path = pg_catalog, pg_temp;
    -- A policy for row-level security would hide rows, and what is hidden would be told as sold out: an error instead.
    ALTER ROLE :"daemon" IN DATABASE :"database" SET row_security = off;
\endif
\if :{?schemas}
    GRANT USAGE ON SCHEMA :schemas TO :"owner", :"daemon";
\endif
\if :{?watched}
    GRANT SELECT, TRIGGER ON :watched TO :"owner";
\endif
\if :{?listed}
    GRANT SELECT ON :listed TO :"daemon";
\endif
\if :{?table_owner}
    GRANT :"table_owner" TO :"owner";
\endif

-- After `stockrelay migrate`, as the DBA or as the owner role.
SELECT pg_catalog.to_regclass('stockrelay.alembic_version') IS NOT NULL AS is_migrated \gset
\if :is_migrated
    GRANT USAGE ON SCHEMA stockrelay TO :"daemon";
    GRANT SELECT ON stockrelay.alembic_version, stockrelay.change, stockrelay.watch
        TO :"daemon";
    GRANT SELECT, INSERT, UPDATE ON stockrelay.read_position TO :"daemon";
    GRANT SELECT, UPDATE ON stockrelay.intake TO :"daemon";
    GRANT SELECT, INSERT, UPDATE, DELETE ON stockrelay.ledger, stockrelay.notice TO :"daemon";
    GRANT SELECT, INSERT, UPDATE, DELETE ON stockrelay.live TO :"daemon";
    GRANT SELECT, INSERT, UPDATE, DELETE ON stockrelay.pause TO :"daemon";
    GRANT SELECT, INSERT, UPDATE, DELETE ON stockrelay.anomaly TO :"daemon";
    GRANT SELECT, INSERT, UPDATE, DELETE ON stockrelay.guard TO :"daemon";
    GRANT SELECT, INSERT, UPDATE ON stockrelay.channel_state, stockrelay.token TO :"daemon";
    GRANT SELECT, INSERT, UPDATE, DELETE ON stockrelay.lease TO :"daemon";
    GRANT SELECT, INSERT, UPDATE ON stockrelay.channel_account TO :"daemon";
    GRANT SELECT, INSERT, UPDATE, DELETE ON stockrelay.holder_trouble, stockrelay.replica TO :"daemon";
    GRANT EXECUTE ON FUNCTION stockrelay.set_trouble TO :"daemon";
    GRANT SELECT ON stockrelay.attempt, stockrelay.attempt_batch, stockrelay.attempt_chain TO :"daemon";
    GRANT EXECUTE ON FUNCTION stockrelay.log_attempts, stockrelay.attempt_digest, stockrelay.batch_hash TO :"daemon";
    GRANT SELECT, INSERT ON stockrelay.reading TO :"daemon";
    GRANT SELECT ON stockrelay.operation TO :"daemon";
    GRANT EXECUTE ON FUNCTION stockrelay.log_operation, stockrelay.trim_operations TO :"daemon";
    GRANT SELECT, UPDATE ON stockrelay.mutex TO :"daemon";
    GRANT SELECT, INSERT ON stockrelay.reconcile_since TO :"daemon";
    GRANT SELECT, INSERT, UPDATE, DELETE ON stockrelay.reconcile_run, stockrelay.reconcile_finding TO :"daemon";
    GRANT SELECT, INSERT, DELETE ON stockrelay.reconcile_chunk, stockrelay.reconcile_read TO :"daemon";
    GRANT SELECT, INSERT, UPDATE ON stockrelay.difference TO :"daemon";
    GRANT USAGE ON SEQUENCE stockrelay.want_seq, stockrelay.attempt_id TO :"daemon";
    GRANT SELECT, UPDATE ON SEQUENCE stockrelay.capture_word TO :"daemon";
    GRANT EXECUTE ON FUNCTION stockrelay.take_changes, stockrelay.unread, stockrelay.is_asked, stockrelay.debounced, stockrelay.due, stockrelay.due_in_slot, stockrelay.is_urgent,
        stockrelay.stay_awake, stockrelay.stays_parked, stockrelay.is_named_alike, stockrelay.note_twins, stockrelay.identity, stockrelay.rotate, stockrelay.roll_attempts TO :"daemon";
    GRANT EXECUTE ON FUNCTION stockrelay.as_numeric(real), stockrelay.as_numeric(double precision),
        stockrelay.as_numeric(numeric), stockrelay.as_numeric(bigint), stockrelay.as_numeric(integer),
        stockrelay.as_numeric(anyelement), stockrelay.is_readable, stockrelay.can_hold,
        stockrelay.known_skus, stockrelay.listed, stockrelay.listed_whole, stockrelay.resolved,
        stockrelay.listed_apart, stockrelay.is_left_out, stockrelay.is_class_of_server, stockrelay.may_be_of_a_row,
        stockrelay.is_another_readable TO :"daemon";
    GRANT SELECT, INSERT, UPDATE, DELETE ON stockrelay.exposure_log, stockrelay.exposure, stockrelay.exposure_day, stockrelay.exposure_condition TO :"daemon";
    GRANT EXECUTE ON FUNCTION stockrelay.listed_number, stockrelay.units_over, stockrelay.units_lost, stockrelay.counted,
        stockrelay.segment, stockrelay.has_exposure, stockrelay.log_exposure, stockrelay.added TO :"daemon";
    GRANT SELECT, INSERT, UPDATE, DELETE ON stockrelay.push_minute, stockrelay.slot_change TO :"daemon";
    GRANT EXECUTE ON FUNCTION stockrelay.newest_attempts TO :"daemon";
    GRANT SELECT, INSERT, UPDATE ON stockrelay.sync_run TO :"daemon";
    GRANT SELECT, INSERT, DELETE ON stockrelay.sync_sku TO :"daemon";
    GRANT EXECUTE ON FUNCTION stockrelay.due_sync TO :"daemon";
    GRANT SELECT, INSERT, UPDATE, DELETE ON stockrelay.capture_finding TO :"daemon";
    GRANT SELECT, UPDATE ON stockrelay.capture_health TO :"daemon";
    GRANT EXECUTE ON FUNCTION stockrelay.canary, stockrelay.adopt TO :"daemon";
    GRANT EXECUTE ON FUNCTION stockrelay.is_zero, stockrelay.falls, stockrelay.is_far, stockrelay.is_risen, stockrelay.is_renamed,
        stockrelay.last_sent, stockrelay.stays_held, stockrelay.locked_guard, stockrelay.worse_cause, stockrelay.few, stockrelay.in_bulk,
        stockrelay.hold_bulk, stockrelay.hold_anomalies, stockrelay.pass_anomalies, stockrelay.hold_filling TO :"daemon";
    \echo 'The roles have their rights.'
\else
    \echo 'Now, as' :owner', run: stockrelay migrate --grant-to' :daemon
\endif
