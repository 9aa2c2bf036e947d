-- name: hides_rows
-- Whether this session would get fewer rows from a table with policies, and no error.
SELECT current_setting('row_security')::boolean AND NOT (r.rolsuper OR r.rolbypassrls)
FROM pg_roles AS r WHERE r.rolname = current_user;
