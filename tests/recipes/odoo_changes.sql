-- An order is reserved.
-- noticed: 1=37
UPDATE stock_quant SET reserved_quantity = 3 WHERE product_id = 1 AND location_id = 8;

-- Another is reserved while a transaction holds the quant: Odoo adds a row without a quantity.
-- noticed: 1=32
INSERT INTO stock_quant (product_id, company_id, location_id, reserved_quantity) VALUES (1, 1, 8, 5);

-- The two quants are merged.
-- noticed: nothing
WITH up AS (UPDATE stock_quant SET reserved_quantity = 8 WHERE product_id = 1 AND quantity = 40)
DELETE FROM stock_quant WHERE product_id = 1 AND quantity IS NULL;

-- The first order is delivered.
-- noticed: nothing
UPDATE stock_quant SET quantity = 37, reserved_quantity = 5 WHERE product_id = 1 AND location_id = 8;
UPDATE stock_quant SET quantity = 28 WHERE product_id = 1 AND location_id = 5;

-- Goods lie at Input, in Quality Control, at Output, in the Packing Zone, in transit and in the Yard.
-- noticed: nothing
INSERT INTO stock_quant (product_id, company_id, location_id, quantity, reserved_quantity)
SELECT 2, 1, l.id, 100, 0 FROM stock_location AS l WHERE l.id IN (9, 10, 11, 12, 13, 80);

-- Some are put away.
-- noticed: 2=15
INSERT INTO stock_quant (product_id, company_id, location_id, quantity, reserved_quantity) VALUES (2, 1, 17, 8, 0);
UPDATE stock_quant SET quantity = 92 WHERE product_id = 2 AND location_id = 9;

-- Goods of another owner arrive, and damaged ones are put aside.
-- noticed: nothing
INSERT INTO stock_quant (product_id, company_id, location_id, owner_id, quantity, reserved_quantity)
VALUES (2, 1, 8, 99, 100, 0), (2, 1, 19, NULL, 3, 0);

-- Goods lie in an old location.
-- noticed: 2=24
INSERT INTO stock_quant (product_id, company_id, location_id, quantity, reserved_quantity) VALUES (2, 1, 18, 9, 0);

-- The old location is archived.
-- noticed: 2=15
UPDATE stock_location SET active = false WHERE id = 18;

-- The shelf moves to Input.
-- noticed: 2=7, 4=0
UPDATE stock_location SET location_id = 9, parent_path = '1/7/9/17/' WHERE id = 17;

-- It moves back.
-- noticed: 2=15, 4=6
UPDATE stock_location SET location_id = 8, parent_path = '1/7/8/17/' WHERE id = 17;

-- A location is counted.
-- noticed: nothing
UPDATE stock_location SET last_inventory_date = now() WHERE id = 8;

-- The other company receives the same product.
-- noticed: nothing
INSERT INTO stock_quant (product_id, company_id, location_id, quantity, reserved_quantity) VALUES (1, 2, 25, 1000, 0);

-- A template is not for sale.
-- noticed: 3=unlisted, 4=unlisted
UPDATE product_template SET sale_ok = false WHERE id = 3;

-- It is for sale again.
-- noticed: 3=5, 4=6
UPDATE product_template SET sale_ok = true WHERE id = 3;

-- One of its variants is archived.
-- noticed: 4=unlisted
UPDATE product_product SET active = false WHERE id = 4;

-- A product gets a code.
-- noticed: 6=0
UPDATE product_product SET default_code = 'NEW' WHERE id = 6;

-- More has left the shelf than there was.
-- noticed: 3=0
INSERT INTO stock_quant (product_id, company_id, location_id, quantity, reserved_quantity) VALUES (3, 1, 17, -6, 0);

-- Another location becomes the stock location of the warehouse; the table is in run.compared_only.
-- compared: 1=0, 2=100
UPDATE stock_warehouse SET lot_stock_id = 80 WHERE id = 1;
