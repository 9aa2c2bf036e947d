-- A small ERP of a parts dealer. Stockrelay did not write it and asks nothing of it: it only watches two tables.

CREATE SCHEMA erp;

CREATE TABLE erp.warehouses (
    warehouse_id integer PRIMARY KEY,
    code         text NOT NULL UNIQUE,
    city         text NOT NULL
);

CREATE TABLE erp.products (
    product_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sku          text NOT NULL UNIQUE,
    part_no      text NOT NULL,
    brand        text NOT NULL,
    name         text NOT NULL,
    ymatou_code  text NOT NULL UNIQUE,
    safety_stock integer NOT NULL DEFAULT 0 CHECK (safety_stock >= 0),
    is_listed    boolean NOT NULL DEFAULT true,
    UNIQUE (part_no, brand)
);

-- `sku` is repeated here, as ERPs do, for the people who count boxes.
CREATE TABLE erp.stock (
    product_id   bigint NOT NULL REFERENCES erp.products ON DELETE CASCADE,
    warehouse_id integer NOT NULL REFERENCES erp.warehouses,
    sku          text NOT NULL REFERENCES erp.products (sku) ON UPDATE CASCADE ON DELETE CASCADE,
    on_hand      integer NOT NULL DEFAULT 0 CHECK (on_hand >= 0),
    reserved     integer NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    PRIMARY KEY (product_id, warehouse_id)
);

CREATE INDEX stock_sku ON erp.stock (sku);

CREATE TABLE erp.orders (
    order_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sku       text NOT NULL,
    quantity  integer NOT NULL CHECK (quantity > 0),
    placed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
