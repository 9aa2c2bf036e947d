-- name: note_twins
-- Notes which listed SKUs share identifiers: $2 (a JSON array of arrays), or any (NULL). $3 is the channel's `duplicates`;
-- $4: after how long the rows concerned are due.
SELECT stockrelay.note_twins($1, $2::text::jsonb, $3, $4);

-- name: note_names
-- A claim has read other identifiers of SKUs than the last marking, or that they are no longer listed. Where other SKUs have
-- the new or the old identifiers, notes it, unless the row was written since. Returns those SKUs, and the identifiers.
WITH read AS MATERIALIZED (
    SELECT r.*, d.listed_rows AS rows_before, d.listed_identifiers AS identifiers_before
    FROM jsonb_to_recordset($2::text::jsonb) AS r (sku text, version text, rows integer, identifiers text[])
    JOIN stockrelay.ledger AS d ON d.channel = $1 AND d.sku = r.sku
), named AS (
    SELECT r.sku, n.identifiers FROM read AS r CROSS JOIN LATERAL (
        SELECT r.identifiers WHERE r.rows > 0 UNION SELECT r.identifiers_before WHERE r.rows_before > 0) AS n
    WHERE n.identifiers IS NOT NULL
), shared AS MATERIALIZED (
    SELECT n.sku, n.identifiers FROM named AS n
    WHERE EXISTS (SELECT FROM stockrelay.ledger AS h
                  WHERE h.channel = $1 AND h.listed_rows > 0 AND h.sku <> n.sku AND h.listed_identifiers = n.identifiers
                  AND hash_array_extended(h.listed_identifiers, 0) = hash_array_extended(n.identifiers, 0))
    OR EXISTS (SELECT FROM read AS o WHERE o.sku <> n.sku AND o.rows > 0 AND o.identifiers = n.identifiers)
), free AS MATERIALIZED (
    SELECT d.sku, r.rows, r.identifiers FROM read AS r JOIN stockrelay.ledger AS d ON d.channel = $1 AND d.sku = r.sku
    WHERE r.sku IN (SELECT s.sku FROM shared AS s) AND d.xmin::text = r.version AND d.attempt_id IS NULL
    ORDER BY d.sku FOR UPDATE OF d SKIP LOCKED
), noted AS (
    UPDATE stockrelay.ledger AS d SET
        listed_rows = f.rows, listed_identifiers = f.identifiers, twins = NULL, duplicates = NULL
    FROM free AS f WHERE d.channel = $1 AND d.sku = f.sku
)
SELECT array_agg(DISTINCT s.sku) AS skus, jsonb_agg(DISTINCT s.identifiers)::text AS names,
       -- A stalled process must not keep the locks.
       set_config('idle_in_transaction_session_timeout', '700ms', true)
FROM shared AS s;

-- name: with_twins
-- These SKUs, and those that are sold as one with them.
SELECT ARRAY(
    SELECT s.sku FROM unnest($2::text[]) AS s (sku)
    UNION
    SELECT h.sku FROM stockrelay.ledger AS d
    JOIN stockrelay.ledger AS h ON h.channel = d.channel AND h.listed_rows > 0 AND h.listed_identifiers = d.listed_identifiers
         AND hash_array_extended(h.listed_identifiers, 0) = hash_array_extended(d.listed_identifiers, 0)
    WHERE d.channel = $1 AND d.sku = ANY ($2::text[]) AND d.duplicates = 'sum');
