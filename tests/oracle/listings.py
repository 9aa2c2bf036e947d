"""Random listings over a schema, and the watches that cover what they read, as an operator would write them."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tests.oracle.paths import Reads, reads
from tests.oracle.pieces import CONDITIONS, NUMBERS, TIMED, Piece
from tests.oracle.schema import Schema

SHAPES: Final[Mapping[str, str]] = {
    "plain": "@core@",
    "GROUP BY, HAVING": "SELECT q.sku, q.code, q.maker, sum(q.quantity) AS quantity FROM (@core@) AS q "
    "GROUP BY q.sku, q.code, q.maker HAVING count(*) > 0",
    "CTE around it": "WITH q AS MATERIALIZED (@core@) SELECT q.* FROM q",
    "view around it": "SELECT * FROM erp.@view@",
    "UNION ALL of halves": "@even@ UNION ALL @odd@",
    "window around it": "SELECT r.sku, r.code, r.maker, r.quantity FROM (SELECT q.*, row_number() "
    "OVER (PARTITION BY q.sku ORDER BY q.quantity) AS r FROM (@core@) AS q) AS r WHERE r.r = 1",
    "FULL JOIN": "SELECT q.sku, q.code, q.maker, q.quantity FROM (@core@) AS q "
    "FULL JOIN (SELECT 1 AS one) AS o ON false WHERE q.sku IS NOT NULL",
    "INTERSECT": "@core@ INTERSECT @core@",
    "ORDER BY, OFFSET 0": "@core@ ORDER BY 2 OFFSET 0",
}
SOURCES: Final[Mapping[str, str]] = {
    "table": "erp.item AS i",
    "subquery": "(SELECT x.* FROM erp.item AS x WHERE x.safety < 100) AS i",
    "RIGHT JOIN": "(SELECT 1 AS one) AS o RIGHT JOIN erp.item AS i ON o.one > 0",
    "CROSS JOIN LATERAL": "erp.item AS x CROSS JOIN LATERAL (SELECT x.*) AS i",
}
QUANTITIES: Final[Mapping[str, str]] = {
    "as it is": "@n@",
    "less a safety stock": "@n@ - i.safety",
    "greatest, least": "least(greatest(@n@, 0), 60)",
    "CASE": "CASE WHEN @n@ < 5 THEN 0 ELSE @n@ END",
    "half": "(@n@) / 2",
    "round to bigint": "round((@n@)::numeric)::bigint",
    "as real": "(@n@)::real",
    "as double precision": "(@n@)::double precision",
    "floor": "floor(@n@)",
}


@dataclass(frozen=True, slots=True)
class Listing:
    """One channel's listing, by the names of its parts."""

    marketplace: str
    numbers: tuple[str, ...]
    conditions: tuple[str, ...]
    shape: str
    source: str
    quantity: str
    is_summed: bool

    def features(self) -> tuple[str, ...]:
        """Name what this listing has."""
        parts = (f"number: {name}" for name in self.numbers)
        return (
            *parts,
            *(f"condition: {name}" for name in self.conditions),
            f"shape: {self.shape}",
            f"items: {self.source}",
            f"quantity: {self.quantity}",
            *(["SKUs that share a code, summed"] if self.is_summed else []),
        )


@dataclass(frozen=True, slots=True)
class Written:
    """A listing as SQL, the views and functions it needs, and which SKUs a row of each table stands for."""

    sql: str
    made: str
    reads: Reads


def listing(rng: random.Random, schema: Schema, marketplace: str, *, is_timed: bool) -> Listing:
    """Make one up."""
    possible = [name for name in NUMBERS if name != "total" or schema.has_totals]
    numbers = rng.sample(possible, rng.choice((1, 1, 2, 3)))
    conditions = rng.sample([*CONDITIONS], rng.choice((0, 1, 1, 2)))
    if is_timed:
        timed = rng.choice([*TIMED])
        (numbers if timed == "number until a time" else conditions).append(timed)
    return Listing(
        marketplace,
        tuple(numbers),
        tuple(conditions),
        rng.choice([*SHAPES]),
        rng.choice([*SOURCES]),
        rng.choice([*QUANTITIES]),
        rng.random() < 0.15,
    )


def written(schema: Schema, made: Listing, name: str) -> Written:
    """Write a listing out; `name` is one that no other listing of the schema has."""
    makers = {**NUMBERS, **CONDITIONS, **TIMED}
    pieces = {
        part: makers[part](schema, f"{name}_{n}") for n, part in enumerate((*made.numbers, *made.conditions))
    }
    number = " + ".join(pieces[part].expression for part in made.numbers)
    code = "'G' || i.id % 4" if made.is_summed else "i.code"
    maker = "'M'" if made.is_summed else "i.maker"
    columns = (
        f"{schema.sku('i')} AS sku, {code} AS code, {maker} AS maker, "
        f"{QUANTITIES[made.quantity].replace('@n@', number)} AS quantity"
    )
    core = _core(
        columns, SOURCES[made.source], list(pieces.values()), [pieces[each] for each in made.conditions]
    )
    view = f"{name}_listing"
    shaped = (
        SHAPES[made.shape]
        .replace("@core@", core("true"))
        .replace("@view@", view)
        .replace("@even@", core("i.id % 2 = 0"))
        .replace("@odd@", core("i.id % 2 = 1"))
    )
    names = (
        "q.code AS pn_code, q.maker AS brand_name"
        if made.marketplace == "sekorm"
        else "q.code AS outer_sku_id"
    )
    ddl = [piece.made for piece in pieces.values() if piece.made]
    if made.shape == "view around it":
        ddl.append(f"CREATE VIEW erp.{view} AS {core('true')};")
    merged = {pair: None for piece in (*pieces.values(), Piece("", reads())) for pair in piece.reads}
    return Written(f"SELECT q.sku, {names}, q.quantity FROM ({shaped}) AS q", "\n".join(ddl), tuple(merged))


def _core(
    columns: str, source: str, pieces: Sequence[Piece], conditions: Sequence[Piece]
) -> Callable[[str], str]:
    """Return what writes the query without its shape, for the items that meet one more condition."""
    ctes = ", ".join(piece.cte for piece in pieces if piece.cte)
    joins = " ".join(piece.join for piece in pieces if piece.join)

    def core(further: str) -> str:
        where = " AND ".join([*(piece.expression for piece in conditions), further])
        query = f"SELECT {columns} FROM {source} {joins} WHERE {where}"
        return f"(WITH RECURSIVE {ctes} {query})" if ctes else f"({query})"

    return core
