-- name: hold
-- Has the server work the whole result out and keep it; it holds no lock and no snapshot after that. One message.
BEGIN READ ONLY; SET LOCAL lock_timeout = '500ms'; SET LOCAL idle_in_transaction_session_timeout = '700ms';
SET LOCAL cursor_tuple_fraction = 1;
DECLARE stockrelay_held_rows NO SCROLL CURSOR WITH HOLD FOR
@statement@;
COMMIT;

-- name: next
-- The next rows.
FETCH @size@ FROM stockrelay_held_rows;

-- name: release
-- The rest is not wanted.
CLOSE stockrelay_held_rows;
