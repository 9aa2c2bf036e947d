-- The tables of ERPNext 15 that its recipe reads, as Frappe makes them on PostgreSQL, with the columns that matter.
CREATE TABLE "tabItem" (
    name varchar(140) NOT NULL PRIMARY KEY, creation timestamp(6), modified timestamp(6), docstatus smallint NOT NULL DEFAULT 0,
    item_code varchar(140), disabled smallint NOT NULL DEFAULT 0, is_stock_item smallint NOT NULL DEFAULT 1,
    is_sales_item smallint NOT NULL DEFAULT 1, has_variants smallint NOT NULL DEFAULT 0, variant_of varchar(140), end_of_life date
);
CREATE TABLE "tabWarehouse" (
    name varchar(140) NOT NULL PRIMARY KEY, creation timestamp(6), modified timestamp(6), docstatus smallint NOT NULL DEFAULT 0,
    disabled smallint NOT NULL DEFAULT 0, company varchar(140), is_rejected_warehouse smallint NOT NULL DEFAULT 0,
    parent_warehouse varchar(140), is_group smallint NOT NULL DEFAULT 0, warehouse_type varchar(140),
    lft bigint NOT NULL DEFAULT 0, rgt bigint NOT NULL DEFAULT 0
);
CREATE TABLE "tabBin" (
    name varchar(140) NOT NULL PRIMARY KEY, creation timestamp(6), modified timestamp(6), docstatus smallint NOT NULL DEFAULT 0,
    item_code varchar(140), warehouse varchar(140), actual_qty decimal(21,9) DEFAULT 0, planned_qty decimal(21,9) DEFAULT 0,
    indented_qty decimal(21,9) DEFAULT 0, ordered_qty decimal(21,9) DEFAULT 0, reserved_qty decimal(21,9) DEFAULT 0,
    reserved_qty_for_production decimal(21,9) DEFAULT 0, reserved_qty_for_sub_contract decimal(21,9) DEFAULT 0,
    reserved_qty_for_production_plan decimal(21,9), projected_qty decimal(21,9) DEFAULT 0, reserved_stock decimal(21,9),
    CONSTRAINT unique_item_warehouse UNIQUE (item_code, warehouse)
);

INSERT INTO "tabWarehouse" (name, company, parent_warehouse, is_group, is_rejected_warehouse, lft, rgt) VALUES
    ('All Warehouses - SH', 'Shop', NULL, 1, 0, 1, 14), ('Stores - SH', 'Shop', 'All Warehouses - SH', 1, 0, 2, 9),
    ('North - SH', 'Shop', 'Stores - SH', 0, 0, 3, 4), ('South - SH', 'Shop', 'Stores - SH', 0, 0, 5, 6),
    ('Rejected - SH', 'Shop', 'Stores - SH', 0, 1, 7, 8), ('Goods In Transit - SH', 'Shop', 'All Warehouses - SH', 0, 0, 10, 11),
    ('Work In Progress - SH', 'Shop', 'All Warehouses - SH', 0, 0, 12, 13), ('Stores - X', 'Other', NULL, 0, 0, 15, 16);
INSERT INTO "tabItem" (name, item_code, is_stock_item, has_variants, variant_of, end_of_life) VALUES
    ('DESK', 'DESK', 1, 0, NULL, '2099-12-31'), ('LAMP', 'LAMP', 1, 0, NULL, NULL), ('CHAIR', 'CHAIR', 1, 0, NULL, '0001-01-01'),
    ('SHIRT', 'SHIRT', 1, 1, NULL, NULL), ('SHIRT-R', 'SHIRT-R', 1, 0, 'SHIRT', NULL), ('SERVICE', 'SERVICE', 0, 0, NULL, NULL);
INSERT INTO "tabBin" (name, item_code, warehouse, actual_qty) VALUES
    ('1', 'DESK', 'North - SH', 40), ('2', 'DESK', 'South - SH', 10), ('3', 'DESK', 'Stores - X', 1000),
    ('4', 'LAMP', 'North - SH', 7), ('5', 'SHIRT-R', 'South - SH', 5);
ANALYZE;
