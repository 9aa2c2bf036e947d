-- name: lock
-- One process at a time decides whose rows are whose.
LOCK TABLE stockrelay.channel_account IN SHARE ROW EXCLUSIVE MODE;

-- name: find
-- What is known of the channel $1, and of the account $2: whether the channel has rows, of which marketplace and account they
-- are, and which other channel has the account (its name, whether a process serves it, how many SKUs it has).
SELECT a.marketplace, a.account, EXISTS (SELECT FROM stockrelay.ledger AS l WHERE l.channel = $1) AS has_rows,
       o.channel AS other,
       EXISTS (SELECT FROM stockrelay.lease AS l WHERE l.channel = o.channel AND l.until >= clock_timestamp()) AS is_served,
       (SELECT count(*) FROM stockrelay.ledger AS l WHERE l.channel = o.channel) AS skus
FROM (SELECT 1) AS one
LEFT JOIN stockrelay.channel_account AS a ON a.channel = $1
LEFT JOIN stockrelay.channel_account AS o ON o.account = $2 AND o.channel <> $1;

-- name: note
-- The channel's rows describe this account from now on.
INSERT INTO stockrelay.channel_account (channel, marketplace, account) VALUES ($1, $2, $3)
ON CONFLICT (channel) DO UPDATE SET marketplace = excluded.marketplace, account = excluded.account, since = clock_timestamp();

-- name: leave
-- The channel $1 has no account any more.
UPDATE stockrelay.channel_account SET account = NULL WHERE channel = $1;

-- name: drop_ledger
DELETE FROM stockrelay.ledger WHERE channel = $1;

-- name: drop_guard
DELETE FROM stockrelay.guard WHERE channel = $1;

-- name: drop_lease
DELETE FROM stockrelay.lease WHERE channel = $1;

-- name: drop_live
DELETE FROM stockrelay.live WHERE channel = $1;

-- name: drop_pause
DELETE FROM stockrelay.pause WHERE channel = $1;

-- name: move_ledger
UPDATE stockrelay.ledger SET channel = $2 WHERE channel = $1;

-- name: move_guard
UPDATE stockrelay.guard SET channel = $2 WHERE channel = $1;

-- name: move_lease
UPDATE stockrelay.lease SET channel = $2 WHERE channel = $1;

-- name: move_live
UPDATE stockrelay.live SET channel = $2 WHERE channel = $1;

-- name: move_pause
UPDATE stockrelay.pause SET channel = $2 WHERE channel = $1;

-- name: known
-- The channels that have rows, of which marketplace they are if that is noted, and how many SKUs they have.
SELECT l.channel, a.marketplace, l.skus
FROM (SELECT d.channel, count(*) AS skus FROM stockrelay.ledger AS d GROUP BY d.channel) AS l
LEFT JOIN stockrelay.channel_account AS a ON a.channel = l.channel ORDER BY l.channel;
