-- name: relations
-- The tables and views outside the server's own schemas and ours, with their columns, unique keys and foreign keys of one
-- column as JSON. Parts of a partitioned table are left out. `bases`: the tables below a view.
WITH RECURSIVE relations AS (
    SELECT c.oid, n.nspname, c.relname, c.relkind, c.reltuples FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition AND c.relpersistence <> 't'
    AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'stockrelay') AND n.nspname !~ '^pg_(toast|temp)'
), below (root, id) AS (
    SELECT r.oid, r.oid FROM relations AS r WHERE r.relkind = 'v'
    UNION SELECT b.root, d.refobjid FROM below AS b JOIN pg_rewrite AS w ON w.ev_class = b.id
    JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid AND d.refclassid = 'pg_class'::regclass
)
SELECT quote_ident(r.nspname) AS schema, r.relname AS name, format('%I.%I', r.nspname, r.relname) AS quoted, r.relkind = 'v' AS is_view,
       r.reltuples = 0 AS is_empty,
       has_schema_privilege(r.nspname, 'USAGE') AND has_table_privilege(r.oid, 'SELECT') AS is_readable,
       has_table_privilege(r.oid, 'TRIGGER') AS can_be_watched,
       ARRAY(SELECT DISTINCT format('%I.%I', t.nspname, t.relname) FROM below AS b JOIN relations AS t ON t.oid = b.id
             WHERE b.root = r.oid AND t.relkind <> 'v' ORDER BY 1) AS bases,
       (SELECT coalesce(json_agg(json_build_object(
            'name', a.attname, 'quoted', quote_ident(a.attname), 'is_required', a.attnotnull,
            'kind', CASE WHEN t.typname = 'money' OR t.typname ~ '^(oid|reg)' THEN 'other'
                    ELSE CASE t.typcategory WHEN 'S' THEN 'text' WHEN 'N' THEN 'number' ELSE 'other' END END
        ) ORDER BY a.attnum), '[]')
        FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
        WHERE a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped)::text AS columns,
       (SELECT coalesce(json_agg(ARRAY(SELECT quote_ident(a.attname) FROM pg_attribute AS a
                                       WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey[0:i.indnkeyatts - 1]))
                                 ORDER BY i.indisprimary DESC, i.indexrelid), '[]')
        FROM pg_index AS i
        WHERE i.indrelid = r.oid AND i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL)::text AS unique_keys,
       (SELECT coalesce(json_agg(json_build_object(
            'column', quote_ident(a.attname), 'table', format('%I.%I', n.nspname, t.relname), 'target', quote_ident(f.attname)) ORDER BY k.oid), '[]')
        FROM pg_constraint AS k
        JOIN pg_class AS t ON t.oid = k.confrelid JOIN pg_namespace AS n ON n.oid = t.relnamespace
        JOIN pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
        JOIN pg_attribute AS f ON f.attrelid = k.confrelid AND f.attnum = k.confkey[1]
        WHERE k.conrelid = r.oid AND k.contype = 'f' AND cardinality(k.conkey) = 1)::text AS foreign_keys
FROM relations AS r ORDER BY r.nspname, r.relname;

-- name: can_migrate
-- Whether this role may make our schema, or owns it.
SELECT coalesce(pg_has_role(n.nspowner, 'USAGE'), has_database_privilege(current_database(), 'CREATE')) AS can_migrate
FROM (SELECT 1) AS one LEFT JOIN pg_namespace AS n ON n.nspname = 'stockrelay';

-- name: sample
-- The first rows of a listing, values as text by column.
SELECT (SELECT json_object_agg(e.key, e.value) FROM json_each_text(to_json(l)) AS e) AS row FROM (
@listing@
) AS l LIMIT 5;

-- name: odoo
-- Warehouses: a label, and what replaces which words of the recipe. Odoo 18 has other types of products than 17.
SELECT format('%s (company %s)', w.name, w.company_id) AS label, ARRAY[
           ['w.id IN (1)', format('w.id IN (%s)', w.id)],
           ['t.company_id = 1', format('t.company_id = %s', w.company_id)],
           ['t.type = ''product''', CASE WHEN s.has_storable THEN 't.type = ''consu'' AND t.is_storable' ELSE 't.type = ''product''' END]
       ] AS replacements
FROM @schema@.stock_warehouse AS w CROSS JOIN LATERAL (
    SELECT EXISTS (SELECT FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
                   WHERE a.attname = 'is_storable' AND c.relname = 'product_template'
                   AND c.relnamespace = (SELECT v.relnamespace FROM pg_class AS v WHERE v.oid = w.tableoid)) AS has_storable) AS s
WHERE w.active ORDER BY w.id LIMIT 50;

-- name: tryton
-- Warehouses, each with each company: a label, and what replaces which words of the recipe.
SELECT format('%s (company %s)', coalesce(w.code, w.name), c.id) AS label, ARRAY[
           ['w.code IN (''WH'')', CASE WHEN w.code IS NULL THEN format('w.id IN (%s)', w.id) ELSE format('w.code IN (%L)', w.code) END],
           ['c.id = 1', format('c.id = %s', c.id)]
       ] AS replacements
FROM @schema@.stock_location AS w CROSS JOIN @schema@.company_company AS c
WHERE w.type = 'warehouse' AND w.active ORDER BY w.id, c.id LIMIT 50;

-- name: erpnext
-- Warehouses, those with the most items first, groups last: a label, and what replaces which words of the recipe.
SELECT w.name AS label, ARRAY[['g.name IN (''Stores - SH'')', format('g.name IN (%L)', w.name)]] AS replacements
FROM @schema@."tabWarehouse" AS w WHERE w.disabled = 0 AND w.is_rejected_warehouse = 0
ORDER BY w.is_group, (SELECT count(*) FROM @schema@."tabBin" AS b WHERE b.warehouse = w.name) DESC, w.name LIMIT 50;
