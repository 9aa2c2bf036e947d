-- name: can_hold
-- Which of these characters, given in UTF-8, the database's encoding has.
SELECT stockrelay.can_hold($1::bytea[]);
