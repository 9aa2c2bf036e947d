-- name: block
-- The body of a DO block that runs @query@ with the values @values@; its one value is kept for `answer`. All that the
-- transaction has locked by then is let go if this process stands still.
DECLARE
    asked refcursor;
    answer text;
BEGIN
    PERFORM pg_catalog.set_config('idle_in_transaction_session_timeout', '700ms', true);
    PERFORM pg_catalog.set_config('lock_timeout', '500ms', true);
    OPEN asked FOR EXECUTE @query@@values@;
    FETCH asked INTO answer;
    CLOSE asked;
    PERFORM pg_catalog.set_config('stockrelay.answer', coalesce(answer, ''), false);
END

-- name: prepare
-- The same for a query that is only understood: nobody's rights on its tables are asked for.
BEGIN
    PERFORM pg_catalog.set_config('idle_in_transaction_session_timeout', '700ms', true);
    PERFORM pg_catalog.set_config('lock_timeout', '500ms', true);
    EXECUTE @query@@values@;
    DEALLOCATE stockrelay_try;
END

-- name: plan
-- The same for a query that is only planned, by one who may read its tables. (A utility statement would not even be that.)
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

-- name: answer
-- What the block has found; it is not kept any longer.
SELECT pg_catalog.current_setting('stockrelay.answer') AS answer, pg_catalog.set_config('stockrelay.answer', '', false);
