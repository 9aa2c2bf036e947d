-- A copy that takes over: what holds on the server that it came from alone is put right.

-- Raises a sequence above what the tables hold (`used`) and what it has given, and by `ahead` more. In a logical copy,
-- sequences begin anew; in a restored one, they are as old as the dump.
CREATE FUNCTION stockrelay.raise_sequence(sequence regclass, used bigint, ahead bigint) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    SELECT setval(sequence, greatest(pg_sequence_last_value(sequence), used) + ahead)
$$;

-- Clears what holds on one server alone: times by another server's clock that would delay everything, replicas and owners that
-- are not here, and numbers that the old server may have given since.
CREATE FUNCTION stockrelay.leave_old_server() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    now CONSTANT timestamptz := clock_timestamp();
    many CONSTANT bigint := 1000000000;  -- more than are given between a dump and its restore
BEGIN
    UPDATE stockrelay.intake SET switched_at = now;
    UPDATE stockrelay.lease SET holder = NULL, until = '-infinity';
    DELETE FROM stockrelay.replica;
    UPDATE stockrelay.ledger SET retry_at = NULL WHERE retry_at IS NOT NULL;
    UPDATE stockrelay.guard SET pass_until = '-infinity' WHERE pass_until > now;
    UPDATE stockrelay.notice SET taken_until = NULL, next_try_at = now WHERE state = 'waiting';
    UPDATE stockrelay.reconcile_run SET holder = NULL, until = '-infinity', retry_at = least(retry_at, now)
    WHERE state = 'running';
    UPDATE stockrelay.capture_health SET checked_at = '-infinity';
    UPDATE stockrelay.capture_finding SET seen_at = now WHERE seen_at > now;
    -- Keeps which slot is written and whether the doorbell is on, but not until when it is silent.
    PERFORM setval('stockrelay.capture_word', w.last_value & 4611686018427387905) FROM stockrelay.capture_word AS w;
    PERFORM stockrelay.raise_sequence('stockrelay.want_seq', (
        SELECT coalesce(max(greatest(d.want_seq, d.acked_seq, d.attempt_seq)), 0) FROM stockrelay.ledger AS d), many);
    PERFORM stockrelay.raise_sequence('stockrelay.attempt_id', (
        SELECT coalesce(max(a.id), 0) FROM (SELECT max(t.attempt_id) AS id FROM stockrelay.attempt AS t
                                            UNION ALL SELECT max(d.attempt_id) FROM stockrelay.ledger AS d) AS a), many);
    PERFORM stockrelay.raise_sequence('stockrelay.notice_id_seq', (SELECT max(n.id) FROM stockrelay.notice AS n), 0);
    PERFORM stockrelay.raise_sequence('stockrelay.sync_run_id_seq', (SELECT max(s.id) FROM stockrelay.sync_run AS s), 0);
    PERFORM stockrelay.raise_sequence('stockrelay.reconcile_run_run_id_seq', (
        SELECT max(r.run_id) FROM stockrelay.reconcile_run AS r), 0);
END $$;

-- Makes this database the one that is pushed from; returns its system identifier. Its change log need not be read: each
-- channel compares everything first. What the marketplaces hold is not known, so that comparison is judged as a first
-- filling. Refused while a subscription writes our tables.
CREATE FUNCTION stockrelay.adopt() RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    here record;
    is_other boolean;
    subscription name;
BEGIN
    SELECT s.subname INTO subscription FROM pg_subscription AS s JOIN pg_subscription_rel AS r ON r.srsubid = s.oid
    JOIN pg_class AS c ON c.oid = r.srrelid WHERE c.relnamespace = 'stockrelay'::regnamespace LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'the subscription % writes the tables of the schema stockrelay', subscription
            USING ERRCODE = 'object_in_use', HINT = format(
                'What the old server''s daemon writes would overwrite ours: stop it, and DROP SUBSCRIPTION %I.', subscription);
    END IF;
    SELECT n.* INTO STRICT here FROM stockrelay.identity() AS n;
    SELECT (i.system_identifier, i.database_oid) <> (here.system_identifier, here.database_oid) INTO STRICT is_other
    FROM stockrelay.intake AS i FOR UPDATE;
    IF is_other THEN
        PERFORM stockrelay.leave_old_server();
    END IF;
    UPDATE stockrelay.read_position
    SET read_until = pg_current_snapshot(), resynced_at = NULL, seen_at = clock_timestamp();
    UPDATE stockrelay.guard SET filled_at = NULL WHERE filled_at IS NOT NULL;
    UPDATE stockrelay.intake SET system_identifier = here.system_identifier, database_oid = here.database_oid,
        timeline = here.timeline, accepted_at = clock_timestamp();
    RETURN here.system_identifier;
END $$;
