-- What the example sells: a hundred parts in two warehouses. They belong to the ERP's own role, which knows nothing of
-- Stockrelay.

CREATE ROLE erp;
ALTER SCHEMA erp OWNER TO erp;
ALTER TABLE erp.warehouses OWNER TO erp;
ALTER TABLE erp.products OWNER TO erp;
ALTER TABLE erp.stock OWNER TO erp;
ALTER TABLE erp.orders OWNER TO erp;

INSERT INTO erp.warehouses VALUES (1, 'SZX', 'Shenzhen'), (2, 'HKG', 'Hong Kong');
INSERT INTO erp.products (sku, part_no, brand, name, ymatou_code, safety_stock)
SELECT 'SKU-' || n, 'PN-' || n, 'AMS', 'Part ' || n, 'YM-' || n, n % 3
  FROM generate_series(1, 100) AS n;
INSERT INTO erp.stock (product_id, warehouse_id, sku, on_hand)
SELECT p.product_id, w.warehouse_id, p.sku, 40 + p.product_id % 7 * w.warehouse_id
  FROM erp.products AS p, erp.warehouses AS w;
