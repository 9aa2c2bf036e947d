-- A sales order is submitted.
-- noticed: DESK=47
UPDATE "tabBin" SET reserved_qty = 3 WHERE name = '1';

-- Stock is reserved for it: the same three.
-- noticed: nothing
UPDATE "tabBin" SET reserved_stock = 3 WHERE name = '1';

-- It is delivered.
-- noticed: nothing
UPDATE "tabBin" SET actual_qty = 37, reserved_qty = 0, reserved_stock = 0 WHERE name = '1';

-- Production and a subcontractor reserve.
-- noticed: DESK=43
UPDATE "tabBin" SET reserved_qty_for_production = 2, reserved_qty_for_sub_contract = 1, reserved_qty_for_production_plan = 1
WHERE name = '1';

-- A purchase order is submitted.
-- noticed: nothing
UPDATE "tabBin" SET ordered_qty = 500, projected_qty = 533 WHERE name = '1';

-- Goods are rejected, in transit and in production.
-- noticed: nothing
INSERT INTO "tabBin" (name, item_code, warehouse, actual_qty)
VALUES ('6', 'LAMP', 'Rejected - SH', 9), ('7', 'LAMP', 'Goods In Transit - SH', 9), ('8', 'LAMP', 'Work In Progress - SH', 9);

-- A warehouse is disabled.
-- noticed: DESK=33, SHIRT-R=0
UPDATE "tabWarehouse" SET disabled = 1 WHERE name = 'South - SH';

-- It is enabled.
-- noticed: DESK=43, SHIRT-R=5
UPDATE "tabWarehouse" SET disabled = 0 WHERE name = 'South - SH';

-- A warehouse joins the group.
-- noticed: LAMP=16
UPDATE "tabWarehouse" SET rgt = 11 WHERE name = 'Stores - SH';
UPDATE "tabWarehouse" SET lft = 9, rgt = 10, parent_warehouse = 'Stores - SH' WHERE name = 'Goods In Transit - SH';

-- An item is renamed, and its bins with it.
-- noticed: LAMP=unlisted, LIGHT=16
UPDATE "tabItem" SET name = 'LIGHT', item_code = 'LIGHT' WHERE name = 'LAMP';
UPDATE "tabBin" SET item_code = 'LIGHT' WHERE item_code = 'LAMP';

-- An item is disabled.
-- noticed: SHIRT-R=unlisted
UPDATE "tabItem" SET disabled = 1 WHERE name = 'SHIRT-R';

-- An item has reached the end of its life.
-- noticed: LIGHT=unlisted
UPDATE "tabItem" SET end_of_life = (now() AT TIME ZONE 'Asia/Shanghai')::date WHERE name = 'LIGHT';
