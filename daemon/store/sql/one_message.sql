-- name: block
-- The body of a DO block. If this process stalls, the server ends the transaction and releases its locks.
DECLARE
    asked refcursor;
    answer text;
BEGIN
    PERFORM pg_catalog.set_config('idle_in_transaction_session_timeout', '700ms', true);
    PERFORM pg_catalog.set_config('lock_timeout', '500ms', true);
    @do@
END

-- name: fetch
-- Runs the query @query@ with the values @values@; its one value comes back as a notice.
OPEN asked FOR EXECUTE @query@@values@;
    FETCH asked INTO answer;
    CLOSE asked;
    PERFORM pg_catalog.set_config('client_min_messages', 'notice', true);
    RAISE NOTICE USING MESSAGE = coalesce(answer, ''), ERRCODE = 'SR001';

-- name: prepare
-- Only parses a query, which needs no rights on its tables.
EXECUTE @query@@values@;
    DEALLOCATE stockrelay_try;

-- name: plan
-- Only plans a query, which needs the right to read its tables. (A utility statement is not planned at all.)
OPEN asked FOR EXECUTE @query@@values@;
    CLOSE asked;

-- name: as_json
SELECT pg_catalog.json_agg(pg_catalog.row_to_json(stockrelay_row)) FROM (
@query@
) AS stockrelay_row
