-- name: beat
-- Still there, and still listening? A pooler in transaction mode forgets.
SELECT EXISTS (SELECT FROM pg_listening_channels() AS c (name) WHERE c.name = 'stockrelay');
