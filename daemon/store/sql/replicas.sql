-- name: publish_configuration
-- Publishes this replica's configuration, once its row says that it is alive.
UPDATE stockrelay.replica SET sections = $2::jsonb WHERE holder = $1 AND sections IS DISTINCT FROM $2::jsonb;

-- name: configurations
-- What the replicas that are alive are configured with; those that have not said it are left out.
SELECT holder, sections::text AS sections FROM stockrelay.replica
WHERE until >= clock_timestamp() AND sections IS NOT NULL ORDER BY holder;
