"""Random schemas of an ERP: how its tables name a SKU, the types of SKUs and quantities, keys, partitions, triggers."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

ITEMS: Final = 16
"""How many items there are at the beginning; their ids are 1 to ITEMS."""
CATEGORIES: Final = 4
PLACES: Final = 3

_SKU_TYPES: Final = (
    "text",
    "varchar(40)",
    "char(12)",
    "erp.sku",
    "integer",
    "bigint",
    "uuid",
    "numeric(14, 2)",
)
_QUANTITIES: Final = ("integer", "bigint", "numeric(12, 2)", "real", "double precision")
_TEXTS: Final = ("S-{}", "sku {}", "物料-{}", "Ünï/{}", "it''s {}", "{}")


@dataclass(frozen=True, slots=True)
class Schema:
    """How one ERP is built. `sku_type` None: a SKU is composed of two columns of the item. `ref`: the column by which
    the other tables name an item, its id or its SKU."""

    sku_type: str | None
    text: str
    ref: str
    ref_type: str
    has_keys: bool
    quantity: str
    is_partitioned: bool
    has_totals: bool

    def features(self) -> tuple[str, ...]:
        """Name what this schema has."""
        named = "by id" if self.ref == "item" else "by SKU"
        return (
            f"SKU of type {self.sku_type or 'brand and part'}",
            f"quantity of type {self.quantity}",
            f"rows name the item {named}, " + ("with a foreign key" if self.has_keys else "without a key"),
            *(["partitioned table"] if self.is_partitioned else []),
            *(["table kept by a trigger of the ERP"] if self.has_totals else []),
        )

    def sku(self, alias: str) -> str:
        """Return the SKU of an item's row."""
        return f"{alias}.sku" if self.sku_type else f"{alias}.brand || '/' || {alias}.part"

    def key(self, alias: str) -> str:
        """Return the value by which other tables name this row of the item table."""
        if self.ref == "item":
            return f"{alias}.id"
        return f"{alias}.sku" if self.ref_type == self.sku_type else f"{alias}.sku::text"

    def match(self, alias: str, item: str = "i") -> str:
        """Return the condition that joins a row of another table with its item."""
        return f"{alias}.{self.ref} = {self.key(item)}"

    def sku_value(self, number: int) -> str:
        """Return a SKU that no other number has, as SQL."""
        if self.sku_type in ("integer", "numeric(14, 2)"):
            return str(1000 + number)
        if self.sku_type == "bigint":
            return str(10**12 + number)
        if self.sku_type == "uuid":
            return f"'{UUID(int=number)}'"
        return f"'{self.text.format(number)}'"

    def named(self, number: int) -> str:
        """Return the columns and values of a SKU, as SQL: `columns = values` sets them."""
        if self.sku_type:
            return f"sku = {self.sku_value(number)}"
        return f"brand = 'B{number % 3}', part = 'P{number}'"

    def item(self, number: int, name: int) -> str:
        """Return a row of the item table, as SQL; `name` gives its SKU and its code."""
        sku = self.sku_value(name) if self.sku_type else f"'B{name % 3}', 'P{name}'"
        extra = f'\'{{"extra": {number % 4}, "bins": [1, {number % 3}]}}\''
        return (
            f"({number}, {sku}, 'C{name}', 'M{number % 3}', {number % 5 != 0}, {number % 3}, "
            f"{number % CATEGORIES + 1}, now() + interval '1 hour', {extra})"
        )

    def ref_value(self, number: int) -> str:
        """Return what another table says for the item with this id, as SQL."""
        return (
            str(number)
            if self.ref == "item"
            else f"(SELECT {self.key('x')} FROM erp.item AS x WHERE x.id = {number})"
        )


def schema(rng: random.Random) -> Schema:
    """Make one up."""
    sku_type = rng.choice((*_SKU_TYPES, None))
    has_keys = rng.random() < 0.4
    ref = "sku" if sku_type and rng.random() < 0.5 else "item"
    ref_type = (
        "integer"
        if ref == "item" or sku_type is None
        else sku_type
        if has_keys
        else rng.choice((sku_type, "text"))
    )
    return Schema(
        sku_type,
        rng.choice(_TEXTS),
        ref,
        ref_type,
        has_keys,
        rng.choice(_QUANTITIES),
        rng.random() < 0.3,
        rng.random() < 0.3,
    )


_TABLES: Final = """
CREATE SCHEMA erp;
CREATE DOMAIN erp.sku AS text CHECK (value <> '');
CREATE TABLE erp.item (
    id integer PRIMARY KEY, {sku_columns}, code text NOT NULL UNIQUE DEFERRABLE INITIALLY DEFERRED,
    maker text NOT NULL, is_active boolean NOT NULL, safety integer NOT NULL, category integer,
    valid_until timestamptz, attrs jsonb
);
CREATE TABLE erp.place (id integer PRIMARY KEY, is_open boolean NOT NULL);
CREATE TABLE erp.category (id integer PRIMARY KEY, parent integer, share integer NOT NULL, is_open boolean NOT NULL);
CREATE TABLE erp.setting (name text PRIMARY KEY, value integer NOT NULL);
CREATE TABLE erp.stock (
    id bigint GENERATED BY DEFAULT AS IDENTITY, {ref}, place integer NOT NULL, on_hand {quantity} NOT NULL,
    reserved {quantity} NOT NULL DEFAULT 0, free {quantity} GENERATED ALWAYS AS (on_hand - reserved) STORED
) {partitioned};
CREATE TABLE erp.orders (
    id integer GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, {ref}, quantity {quantity} NOT NULL, state text NOT NULL
);
CREATE TABLE erp.count (id integer GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, {ref}, counted {quantity} NOT NULL);
CREATE TABLE erp.block ({ref}, until timestamptz);
CREATE TABLE erp.kit (parent integer NOT NULL, part integer NOT NULL, per integer NOT NULL);
CREATE INDEX ON erp.stock ({column});
"""
_PARTITIONS: Final = """
CREATE TABLE erp.stock_1 PARTITION OF erp.stock FOR VALUES IN (1);
CREATE TABLE erp.stock_2 PARTITION OF erp.stock DEFAULT;
"""
_TOTALS: Final = """
CREATE TABLE erp.total ({column} {type} PRIMARY KEY, n numeric NOT NULL);
CREATE FUNCTION erp.add_up() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO erp.total AS t SELECT c.k, sum(c.n) FROM (VALUES
        (OLD.{column}, -OLD.on_hand), (NEW.{column}, NEW.on_hand)) AS c (k, n)
    WHERE c.k IS NOT NULL GROUP BY c.k ON CONFLICT ({column}) DO UPDATE SET n = t.n + excluded.n;
    RETURN NULL;
END $$;
CREATE TRIGGER add_up AFTER INSERT OR UPDATE OR DELETE ON erp.stock FOR EACH ROW EXECUTE FUNCTION erp.add_up();
"""


def tables(made: Schema) -> str:
    """Return the statements that make the tables and their first rows."""
    key = "" if not made.has_keys else " REFERENCES erp.item ON DELETE CASCADE"
    if made.has_keys and made.ref == "sku":
        key = " REFERENCES erp.item (sku) ON UPDATE CASCADE ON DELETE CASCADE"
    is_swappable = not (made.has_keys and made.ref == "sku")
    unique = "UNIQUE DEFERRABLE" if is_swappable else "UNIQUE"
    words: Mapping[str, str] = {
        "sku_columns": f"sku {made.sku_type} NOT NULL {unique}"
        if made.sku_type
        else "brand text NOT NULL, part text NOT NULL",
        "ref": f"{made.ref} {made.ref_type}{key}",
        "column": made.ref,
        "type": made.ref_type,
        "quantity": made.quantity,
        "partitioned": "PARTITION BY LIST (place)" if made.is_partitioned else "",
    }
    parts = [_TABLES.format(**words), _PARTITIONS if made.is_partitioned else ""]
    return "\n".join([*parts, _TOTALS.format(**words) if made.has_totals else "", rows(made)])


def rows(made: Schema) -> str:
    """Return the statements that fill the tables."""
    numbers = range(1, ITEMS + 1)
    items = ",\n    ".join(made.item(number, number) for number in numbers)
    stock = ", ".join(
        f"({made.ref_value(n)}, {n % PLACES + 1}, {n * 7 % 40}, {n % 3})" for n in (*numbers, *numbers[::2])
    )
    counts = ", ".join(f"({made.ref_value(number)}, {number})" for number in numbers[::3])
    kits = ", ".join(f"({n}, {n + 1}, 2), ({n}, {n + 2}, 1)" for n in range(1, ITEMS - 2, 4))
    return f"""
INSERT INTO erp.place SELECT n, n <> 3 FROM generate_series(1, {PLACES}) AS n;
INSERT INTO erp.category VALUES (1, NULL, 2, true), (2, 1, 1, true), (3, 1, 3, false), (4, 2, 1, true);
INSERT INTO erp.setting VALUES ('reserve', 1);
INSERT INTO erp.item VALUES
    {items};
INSERT INTO erp.stock ({made.ref}, place, on_hand, reserved) VALUES {stock};
INSERT INTO erp.orders ({made.ref}, quantity, state) SELECT x.{made.ref}, 1, 'open' FROM erp.stock AS x;
INSERT INTO erp.count ({made.ref}, counted) VALUES {counts};
INSERT INTO erp.block VALUES ({made.ref_value(2)}, now() + interval '1 hour');
INSERT INTO erp.kit VALUES {kits};
"""
