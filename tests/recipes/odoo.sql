-- The tables of Odoo 17 that its recipe reads, with the columns that matter, and the rows of a small shop. A warehouse
-- receives and delivers in three steps; a second company has another.
CREATE TABLE product_template (
    id serial PRIMARY KEY, company_id integer, type varchar, detailed_type varchar NOT NULL, name jsonb NOT NULL,
    list_price numeric, sale_ok boolean, active boolean, write_date timestamp
);
CREATE TABLE product_product (
    id serial PRIMARY KEY, product_tmpl_id integer NOT NULL REFERENCES product_template, default_code varchar,
    barcode varchar, active boolean, write_date timestamp
);
CREATE INDEX product_product__default_code_index ON product_product (default_code);
CREATE INDEX product_product__product_tmpl_id_index ON product_product (product_tmpl_id);
CREATE TABLE stock_location (
    id serial PRIMARY KEY, location_id integer REFERENCES stock_location, company_id integer, warehouse_id integer,
    name varchar NOT NULL, usage varchar NOT NULL, parent_path varchar, last_inventory_date date, active boolean,
    scrap_location boolean, write_date timestamp
);
CREATE INDEX stock_location__parent_path_index ON stock_location (parent_path);
CREATE TABLE stock_warehouse (
    id serial PRIMARY KEY, company_id integer NOT NULL, view_location_id integer NOT NULL REFERENCES stock_location,
    lot_stock_id integer NOT NULL REFERENCES stock_location, name varchar NOT NULL, code varchar(5) NOT NULL, active boolean
);
CREATE TABLE stock_quant (
    id serial PRIMARY KEY, product_id integer NOT NULL REFERENCES product_product, company_id integer,
    location_id integer NOT NULL REFERENCES stock_location, lot_id integer, package_id integer, owner_id integer,
    quantity numeric, reserved_quantity numeric NOT NULL, in_date timestamp NOT NULL DEFAULT now(), write_date timestamp
);
CREATE INDEX stock_quant__location_id_index ON stock_quant (location_id);
CREATE INDEX stock_quant__product_id_index ON stock_quant (product_id);

INSERT INTO stock_location (id, location_id, company_id, warehouse_id, name, usage, parent_path, active, scrap_location) VALUES
    (1, NULL, NULL, NULL, 'Physical Locations', 'view', '1/', true, false),
    (3, NULL, NULL, NULL, 'Virtual Locations', 'view', '3/', true, false),
    (5, NULL, NULL, NULL, 'Customers', 'customer', '5/', true, false),
    (7, 1, 1, 1, 'WH', 'view', '1/7/', true, false),
    (8, 7, 1, 1, 'Stock', 'internal', '1/7/8/', true, false),
    (9, 7, 1, 1, 'Input', 'internal', '1/7/9/', true, false),
    (10, 7, 1, 1, 'Quality Control', 'internal', '1/7/10/', true, false),
    (11, 7, 1, 1, 'Output', 'internal', '1/7/11/', true, false),
    (12, 7, 1, 1, 'Packing Zone', 'internal', '1/7/12/', true, false),
    (13, 1, 1, NULL, 'Inter-warehouse transit', 'transit', '1/13/', true, false),
    (14, 3, 1, NULL, 'Inventory adjustment', 'inventory', '3/14/', true, false),
    (17, 8, 1, 1, 'Shelf', 'internal', '1/7/8/17/', true, false),
    (18, 8, 1, 1, 'Old', 'internal', '1/7/8/18/', true, false),
    (19, 8, 1, 1, 'Damaged', 'internal', '1/7/8/19/', true, true),
    -- Its path begins like that of "Stock", and it is not below it.
    (80, 7, 1, 1, 'Yard', 'internal', '1/7/80/', true, false),
    (24, 1, 2, 2, 'C2', 'view', '1/24/', true, false),
    (25, 24, 2, 2, 'Stock', 'internal', '1/24/25/', true, false);
INSERT INTO stock_warehouse VALUES (1, 1, 7, 8, 'My Company', 'WH', true), (2, 2, 24, 25, 'C2', 'C2', true);
INSERT INTO product_template (id, company_id, type, detailed_type, name, sale_ok, active) VALUES
    (1, NULL, 'product', 'product', '{"en_US": "desk"}', true, true),
    (2, NULL, 'product', 'product', '{"en_US": "lamp"}', true, true),
    (3, NULL, 'product', 'product', '{"en_US": "shirt"}', true, true),
    (4, NULL, 'product', 'product', '{"en_US": "no code"}', true, true),
    (5, NULL, 'service', 'service', '{"en_US": "service"}', true, true),
    (6, 2, 'product', 'product', '{"en_US": "of company 2"}', true, true);
INSERT INTO product_product (id, product_tmpl_id, default_code, active) VALUES
    (1, 1, 'DESK', true), (2, 2, 'LAMP', true), (3, 3, 'SHIRT-R', true), (4, 3, 'SHIRT-B', true), (5, 4, NULL, true),
    (6, 4, '', true), (7, 5, 'SERVICE', true), (8, 6, 'FOREIGN', true);
INSERT INTO stock_quant (product_id, company_id, location_id, quantity, reserved_quantity) VALUES
    (1, 1, 8, 40, 0), (1, NULL, 5, 25, 0), (2, 1, 8, 7, 0), (3, 1, 8, 5, 0), (4, 1, 17, 6, 0), (8, 2, 25, 12, 0);
ANALYZE;
