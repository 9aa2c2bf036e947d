-- name: hides_rows
-- Whether this session would get fewer rows from a table with policies, and no error.
SELECT current_setting('row_security')::boolean AND NOT (r.rolsuper OR r.rolbypassrls)
FROM pg_roles AS r WHERE r.rolname = current_user;

-- name: pin
-- Settings of this transaction alone.
SELECT pg_catalog.set_config(p.name, p.value, true)
FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::pg_catalog.text[])) AS p (name, value);

-- name: unlimited
-- No limit for a transaction as a whole: each statement has its own.
SET transaction_timeout = 0;
