-- A fraction arrives: 0.7 + 0.1 + 0.2 is 1.
-- noticed: 3=1
SELECT move('FLOUR', 0.2, 'SUP', 'STO');

-- A customer's shipment waits to be assigned.
-- noticed: 1=37
SELECT move('DESK', 3, 'STO', 'OUT', 'draft'), move('DESK', 3, 'OUT', 'CUS', 'draft');
UPDATE stock_move SET shipment = 'stock.shipment.out,1' WHERE state = 'draft';

-- It is assigned.
-- noticed: nothing
UPDATE stock_move SET state = 'assigned' WHERE shipment = 'stock.shipment.out,1' AND from_location = 7;

-- It is delivered.
-- noticed: nothing
UPDATE stock_move SET state = 'done', effective_date = today() WHERE shipment = 'stock.shipment.out,1';

-- A move is planned that no customer waits for.
-- noticed: nothing
SELECT move('DESK', 5, 'STO', 'AWAY', 'draft', 9);

-- Goods are assigned for a later day.
-- noticed: 2=6
SELECT move('LAMP', 1, 'STO', 'CUS', 'assigned', 9);

-- Goods lie at the input location.
-- noticed: nothing
SELECT move('LAMP', 50, 'SUP', 'IN');

-- A receipt is dated tomorrow.
-- noticed: nothing
SELECT move('LAMP', 5, 'SUP', 'STO', days => 1);

-- Tomorrow comes: 26 hours pass, and no move is written.
-- compared: 2=11
UPDATE company_company SET timezone = 'Etc/GMT-14' WHERE id = 1;

-- A delivery is dated in the future.
-- noticed: 2=10
SELECT move('LAMP', 1, 'STO', 'CUS', days => 3);

-- A shelf moves to another place, and the tree is numbered anew.
-- noticed: 5=0
UPDATE stock_location SET "right" = "right" - 2 WHERE id IN (4, 7);
UPDATE stock_location SET "left" = 13, parent = 9 WHERE id = 9;
UPDATE stock_location SET "left" = 14, "right" = 15, parent = 9 WHERE id = 8;

-- It moves back.
-- noticed: 5=6
UPDATE stock_location SET "right" = "right" + 2 WHERE id IN (4, 7);
UPDATE stock_location SET "left" = 15 WHERE id = 9;
UPDATE stock_location SET "left" = 11, "right" = 12, parent = 7 WHERE id = 8;

-- A period is closed.
-- noticed: nothing
WITH period AS (INSERT INTO stock_period (company, date, state) VALUES (1, today() - 10, 'closed') RETURNING id)
INSERT INTO stock_period_cache (period, location, product, internal_quantity)
SELECT p.id, v.location, v.product, v.quantity FROM period AS p,
    (VALUES (7, 1, 40), (1, 1, -40), (7, 2, 7), (1, 2, -7)) AS v (location, product, quantity);

-- Goods are sold after it.
-- noticed: 1=35
SELECT move('DESK', 2, 'STO', 'CUS');

-- The period is opened again.
-- noticed: nothing
UPDATE stock_period SET state = 'draft';
DELETE FROM stock_period_cache;

-- A template is archived.
-- noticed: 4=unlisted, 5=unlisted
UPDATE product_template SET active = false WHERE id = 4;

-- It is back.
-- noticed: 4=5, 5=6
UPDATE product_template SET active = true WHERE id = 4;

-- A product gets a code.
-- noticed: 6=0
UPDATE product_product SET code = 'NEW' WHERE id = 6;

-- The other company moves the same product.
-- noticed: nothing
SELECT move('DESK', 5, 'STO', 'CUS', company => 2);
