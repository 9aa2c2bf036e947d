-- name: block
-- The body of a DO block that runs @query@ with the values @values@; its one value comes back as a notice. If
-- this process stalls, the server ends the transaction and releases its locks.
DECLARE
    asked refcursor;
    answer text;
BEGIN
    PERFORM pg_catalog.set_config('idle_in_transaction_session_timeout', '700ms', true);
    PERFORM pg_catalog.set_config('lock_timeout', '500ms', true);
    OPEN asked FOR EXECUTE @query@@values@;
    FETCH asked INTO answer;
    CLOSE asked;
    PERFORM pg_catalog.set_config('client_min_messages', 'notice', true);
    RAISE NOTICE USING MESSAGE = coalesce(answer, ''), ERRCODE = 'SR001';
END

-- name: prepare
-- The same for a query that is only parsed: this needs no rights on its tables.
BEGIN
    PERFORM pg_catalog.set_config('idle_in_transaction_session_timeout', '700ms', true);
    PERFORM pg_catalog.set_config('lock_timeout', '500ms', true);
    EXECUTE @query@@values@;
    DEALLOCATE stockrelay_try;
END

-- name: plan
-- The same for a query that is only planned, which needs the right to read its tables. (A utility statement is not
-- planned at all.)
DECLARE
    asked refcursor;
BEGIN
    PERFORM pg_catalog.set_config('idle_in_transaction_session_timeout', '700ms', true);
    PERFORM pg_catalog.set_config('lock_timeout', '500ms', true);
    OPEN asked FOR EXECUTE @query@@values@;
    CLOSE asked;
END

-- name: as_json
SELECT pg_catalog.json_agg(pg_catalog.row_to_json(stockrelay_row)) FROM (
@query@
) AS stockrelay_row
