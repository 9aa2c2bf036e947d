"""Random transactions of an ERP: what several sessions write, and how each transaction ends."""

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Final

from tests.oracle.schema import CATEGORIES, ITEMS, PLACES, Schema

SESSIONS: Final = 3


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement, the table that it needs, and rows for a COPY into that table."""

    feature: str
    table: str
    sql: str
    rows: tuple[tuple[object, ...], ...] = ()

    def __str__(self) -> str:
        return f"{self.sql}  -- {len(self.rows)} rows" if self.rows else self.sql


@dataclass(frozen=True, slots=True)
class Transaction:
    """What one session does between BEGIN and the end: "commit", "rollback", "prepare", or "alone" (no BEGIN)."""

    session: int
    statements: tuple[Statement, ...]
    end: str

    def features(self) -> tuple[str, ...]:
        """Name what this transaction has."""
        return (*(f"statement: {each.feature}" for each in self.statements), f"end: {self.end}")


@dataclass(slots=True)
class Draw:
    """Chance, and the numbers that were given to new items and names."""

    rng: random.Random
    schema: Schema
    names: Iterator[int]
    items: Iterator[int]

    def item(self) -> int:
        """Return the id of an item that is probably there."""
        return self.rng.randint(1, ITEMS + 2)

    def amount(self) -> int:
        """Return how many pieces move."""
        return self.rng.choice((-7, -3, -1, 1, 2, 5, 30))

    def row(self) -> str:
        """Return the value by which a row names an item, as SQL."""
        return self.schema.ref_value(self.item())

    def some(self) -> str:
        """Return a condition for an item's rows."""
        return f"{self.schema.ref} = {self.row()}"


Wording = tuple[str, str]
"""The table that a statement needs, and the statement."""


def _add_item(d: Draw) -> Wording:
    number = next(d.items)
    return "item", f"INSERT INTO erp.item VALUES {d.schema.item(number, next(d.names))}"


def _add_stock(d: Draw) -> Wording:
    place = d.rng.randint(1, PLACES)
    row = d.row()
    return (
        "stock",
        f"INSERT INTO erp.stock ({d.schema.ref}, place, on_hand) VALUES ({row}, {place}, {d.rng.randint(0, 50)})",
    )


def _move_stock(d: Draw) -> Wording:
    return "stock", f"UPDATE erp.stock SET on_hand = on_hand + {d.amount()} WHERE {d.some()}"


def _sell_out(d: Draw) -> Wording:
    return "stock", f"UPDATE erp.stock SET on_hand = 0, reserved = 0 WHERE {d.some()}"


def _reserve(d: Draw) -> Wording:
    return "stock", f"UPDATE erp.stock SET reserved = reserved + 1 WHERE place = {d.rng.randint(1, PLACES)}"


def _bulk(d: Draw) -> Wording:
    return "stock", f"UPDATE erp.stock SET on_hand = on_hand + {d.amount()}"


def _delete_stock(d: Draw) -> Wording:
    return "stock", f"DELETE FROM erp.stock WHERE {d.some()} AND place = {d.rng.randint(1, PLACES)}"


def _give_stock(d: Draw) -> Wording:
    return "stock", f"UPDATE erp.stock SET {d.schema.ref} = {d.row()} WHERE {d.some()}"


def _other_place(d: Draw) -> Wording:
    return "stock", f"UPDATE erp.stock SET place = place % {PLACES} + 1 WHERE {d.some()}"


def _move_rows(d: Draw) -> Wording:
    ref = d.schema.ref
    return "stock", (
        f"WITH gone AS (DELETE FROM erp.stock WHERE {d.some()} RETURNING {ref}, place, on_hand) "
        f"INSERT INTO erp.stock ({ref}, place, on_hand) SELECT {ref}, place % {PLACES} + 1, on_hand FROM gone"
    )


def _merge(d: Draw) -> Wording:
    ref = d.schema.ref
    return "stock", (
        f"MERGE INTO erp.stock AS s USING (SELECT {d.row()} AS k, {d.rng.randint(1, PLACES)} AS place) AS n "
        f"ON s.{ref} = n.k AND s.place = n.place WHEN MATCHED AND s.on_hand > 30 THEN DELETE "
        f"WHEN MATCHED THEN UPDATE SET on_hand = s.on_hand + 4 "
        f"WHEN NOT MATCHED THEN INSERT ({ref}, place, on_hand) VALUES (n.k, n.place, 9)"
    )


def _partition(d: Draw) -> Wording:
    table = "erp.stock_2" if d.schema.is_partitioned else "erp.stock"
    return "stock", f"UPDATE {table} SET on_hand = on_hand + {d.amount()} WHERE {d.some()}"


def _replace_all(d: Draw) -> Wording:
    ref = d.schema.ref
    return "stock", (
        f"CREATE TEMP TABLE kept ON COMMIT DROP AS SELECT {ref}, place, on_hand + 1 AS on_hand FROM erp.stock; "
        f"TRUNCATE erp.stock; INSERT INTO erp.stock ({ref}, place, on_hand) SELECT {ref}, place, on_hand FROM kept"
    )


def _order(d: Draw) -> Wording:
    row = d.row()
    return (
        "orders",
        f"INSERT INTO erp.orders ({d.schema.ref}, quantity, state) VALUES ({row}, {d.rng.randint(1, 9)}, 'open')",
    )


def _ship(d: Draw) -> Wording:
    state = d.rng.choice(("picked", "done", "cancelled", "open"))
    return "orders", f"UPDATE erp.orders SET state = '{state}' WHERE {d.some()}"


def _count(d: Draw) -> Wording:
    return (
        "count",
        f"INSERT INTO erp.count ({d.schema.ref}, counted) VALUES ({d.row()}, {d.rng.randint(0, 60)})",
    )


def _uncount(d: Draw) -> Wording:
    return "count", f"DELETE FROM erp.count WHERE id = (SELECT max(id) FROM erp.count WHERE {d.some()})"


def _block(d: Draw) -> Wording:
    return "block", f"INSERT INTO erp.block VALUES ({d.row()}, now() + interval '1 hour')"


def _unblock(d: Draw) -> Wording:
    return "block", f"DELETE FROM erp.block WHERE {d.some()}"


def _kit(d: Draw) -> Wording:
    return "kit", f"INSERT INTO erp.kit VALUES ({d.item()}, {d.item()}, {d.rng.randint(1, 3)})"


def _unkit(d: Draw) -> Wording:
    return "kit", f"DELETE FROM erp.kit WHERE part = {d.item()}"


def _category(d: Draw) -> Wording:
    changed = d.rng.choice(
        ("is_open = NOT is_open", "share = share + 1", "parent = CASE WHEN id = 1 THEN NULL ELSE 1 END")
    )
    return "category", f"UPDATE erp.category SET {changed} WHERE id = {d.rng.randint(1, CATEGORIES)}"


def _place(d: Draw) -> Wording:
    return "place", f"UPDATE erp.place SET is_open = NOT is_open WHERE id = {d.rng.randint(1, PLACES)}"


def _setting(d: Draw) -> Wording:
    return "setting", f"UPDATE erp.setting SET value = {d.rng.randint(0, 9)}"


def _recategorise(d: Draw) -> Wording:
    return "item", f"UPDATE erp.item SET category = {d.rng.randint(1, CATEGORIES)} WHERE id = {d.item()}"


def _archive(d: Draw) -> Wording:
    return "item", f"UPDATE erp.item SET is_active = NOT is_active WHERE id = {d.item()}"


def _attributes(d: Draw) -> Wording:
    return "item", (
        f"UPDATE erp.item SET attrs = attrs || '{{\"extra\": {d.rng.randint(0, 30)}}}', safety = {d.rng.randint(0, 4)} "
        f"WHERE id = {d.item()}"
    )


def _rename(d: Draw) -> Wording:
    return "item", f"UPDATE erp.item SET {d.schema.named(next(d.names))} WHERE id = {d.item()}"


def _recode(d: Draw) -> Wording:
    return "item", f"UPDATE erp.item SET code = 'C{next(d.names)}' WHERE id = {d.item()}"


def _swap(d: Draw) -> Wording:
    one, other = d.rng.sample(range(1, ITEMS + 1), 2)
    what = "sku" if d.schema.sku_type and d.rng.random() < 0.5 else "code"
    return "item", (
        f"UPDATE erp.item AS a SET {what} = b.{what} FROM erp.item AS b "
        f"WHERE (a.id, b.id) IN (({one}, {other}), ({other}, {one}))"
    )


def _delete_item(d: Draw) -> Wording:
    return "item", f"DELETE FROM erp.item WHERE id = {d.item()}"


def _upsert(d: Draw) -> Wording:
    number = d.item()
    return "item", (
        f"INSERT INTO erp.item VALUES {d.schema.item(number, next(d.names))} "
        f"ON CONFLICT (id) DO UPDATE SET safety = item.safety + 1, code = excluded.code"
    )


def _undone(d: Draw) -> Wording:
    _, kept = _move_stock(d)
    _, undone = _sell_out(d)
    return "stock", f"SAVEPOINT a; {undone}; ROLLBACK TO a; {kept}; RELEASE a"


def _released(d: Draw) -> Wording:
    _, first = _move_stock(d)
    _, second = _add_stock(d)
    return "stock", f"SAVEPOINT a; {first}; SAVEPOINT b; {second}; RELEASE b; RELEASE a"


def _caught(d: Draw) -> Wording:
    _, undone = _bulk(d)
    _, kept = _move_stock(d)
    return "stock", (
        f"DO $$BEGIN BEGIN {undone}; RAISE division_by_zero; EXCEPTION WHEN division_by_zero THEN {kept}; END; END$$"
    )


WORDINGS: Final[Mapping[str, Callable[[Draw], Wording]]] = {
    "new item": _add_item,
    "new stock": _add_stock,
    "stock moves": _move_stock,
    "sold out": _sell_out,
    "reserved": _reserve,
    "bulk update": _bulk,
    "stock deleted": _delete_stock,
    "stock given to another item": _give_stock,
    "stock moved to another place": _other_place,
    "writable CTE": _move_rows,
    "MERGE": _merge,
    "update of a partition": _partition,
    "TRUNCATE and refill": _replace_all,
    "order": _order,
    "order changes": _ship,
    "count": _count,
    "count deleted": _uncount,
    "blocked": _block,
    "unblocked": _unblock,
    "kit gets a part": _kit,
    "kit loses a part": _unkit,
    "category changes": _category,
    "place changes": _place,
    "setting changes": _setting,
    "item changes its category": _recategorise,
    "item archived or back": _archive,
    "attributes change": _attributes,
    "SKU renamed": _rename,
    "code renamed": _recode,
    "SKUs or codes swapped": _swap,
    "item deleted": _delete_item,
    "upsert": _upsert,
    "savepoint rolled back": _undone,
    "savepoints released": _released,
    "error caught in a block": _caught,
}
COPY: Final = "COPY"
TIMES: Final[Mapping[str, Callable[[Draw], Wording]]] = {
    "valid for a moment": lambda d: (
        "item",
        f"UPDATE erp.item SET valid_until = now() + interval '{d.rng.randint(1, 15)} s' / 10 WHERE id = {d.item()}",
    ),
    "blocked for a moment": lambda d: (
        "block",
        f"INSERT INTO erp.block VALUES ({d.row()}, now() + interval '{d.rng.randint(1, 15)} s' / 10)",
    ),
}
_RARE: Final = ("TRUNCATE and refill", "bulk update")
ENDS: Final = ("commit", "alone", "rollback", "prepare")


def waves(
    rng: random.Random, schema: Schema, many: int, *, is_timed: bool
) -> tuple[tuple[Transaction, ...], ...]:
    """Make up `many` waves of transactions; between two waves everything comes to rest."""
    draw = Draw(rng, schema, count(1000), count(ITEMS + 1))
    possible = {**WORDINGS, **(TIMES if is_timed else {})}
    weights = [0.1 if name in _RARE else 4.0 if name in TIMES else 1.0 for name in possible]

    def statement() -> Statement:
        if rng.random() < 0.03:
            return _copied(draw)
        (name,) = rng.choices([*possible], weights)
        return Statement(name, *possible[name](draw))

    def transaction(session: int) -> Transaction:
        (end,) = rng.choices(ENDS, (6, 3, 2, 1))
        statements = tuple(statement() for _ in range(1 if end == "alone" else rng.choice((1, 2, 3, 6))))
        needs_block = any("SAVEPOINT" in each.sql or "TEMP" in each.sql for each in statements)
        has_temporary = any("TEMP" in each.sql for each in statements)
        if (end == "alone" and needs_block) or (end == "prepare" and has_temporary):
            end = "commit"
        return Transaction(session, statements, end)

    return tuple(
        tuple(transaction(session) for session in range(SESSIONS) for _ in range(rng.randint(1, 4)))
        for _ in range(many)
    )


def _copied(draw: Draw) -> Statement:
    """COPY new counts, or new places where rows name items by SKU: COPY takes no subquery."""
    if draw.schema.ref == "item":
        rows = tuple((draw.item(), draw.rng.randint(0, 60)) for _ in range(6))
        return Statement(COPY, "count", "COPY erp.count (item, counted) FROM STDIN", rows)
    new = tuple((draw.rng.randint(100, 10**6), True) for _ in range(3))
    return Statement(COPY, "place", "COPY erp.place (id, is_open) FROM STDIN", new)
