"""The parts that random listings are made of: numbers and conditions over an item, and what each of them reads."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from tests.oracle.paths import Reads, reads
from tests.oracle.schema import Schema


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a listing: an expression over the item `i`, and what it needs. `made`: a view or a function."""

    expression: str
    reads: Reads
    join: str = ""
    cte: str = ""
    made: str = ""


Maker = Callable[[Schema, str], Piece]
"""Makes a piece; the text is a name that no other piece of this listing has."""


def _summed(s: Schema, t: str) -> Piece:
    return Piece(
        f"coalesce((SELECT sum({t}.free) FROM erp.stock AS {t} WHERE {s.match(t)}), 0)", reads("stock")
    )


def _joined(s: Schema, t: str) -> Piece:
    inner = (
        f"SELECT x.{s.ref}, sum(x.on_hand) FILTER (WHERE x.place <> 3) AS n FROM erp.stock AS x GROUP BY 1"
    )
    return Piece(f"coalesce({t}.n, 0)", reads("stock"), f"LEFT JOIN ({inner}) AS {t} ON {s.match(t)}")


def _cte(s: Schema, t: str) -> Piece:
    inner = f"SELECT x.{s.ref}, sum(x.on_hand) - sum(x.reserved) AS n FROM erp.stock AS x GROUP BY x.{s.ref}"
    return Piece(
        f"coalesce({t}.n, 0)",
        reads("stock"),
        f"LEFT JOIN {t} ON {s.match(t)}",
        f"{t} AS MATERIALIZED ({inner})",
    )


def _lateral(s: Schema, t: str) -> Piece:
    inner = (
        "SELECT sum(x.on_hand) AS n FROM erp.stock AS x JOIN erp.place AS p ON p.id = x.place AND p.is_open "
        f"WHERE {s.match('x')}"
    )
    return Piece(
        f"coalesce({t}.n, 0)",
        reads("stock", ("place", "stock there")),
        f"LEFT JOIN LATERAL ({inner}) AS {t} ON true",
    )


def _view(s: Schema, t: str) -> Piece:
    made = (
        f"CREATE VIEW erp.{t} AS SELECT x.{s.ref}, sum(x.free) AS n FROM erp.stock AS x "
        f"GROUP BY x.{s.ref} HAVING sum(x.free) > 1;"
    )
    return Piece(
        f"coalesce({t}.n, 0)", reads("stock"), f"LEFT JOIN erp.{t} AS {t} ON {s.match(t)}", made=made
    )


def _sql_function(s: Schema, t: str) -> Piece:
    made = (
        f"CREATE FUNCTION erp.{t}(wanted {s.ref_type}) RETURNS numeric STABLE LANGUAGE sql "
        f"RETURN (SELECT sum(x.free) FROM erp.stock AS x WHERE x.{s.ref} = wanted);"
    )
    return Piece(f"coalesce(erp.{t}({s.key('i')}), 0)", reads("stock"), made=made)


def _plpgsql_function(s: Schema, t: str) -> Piece:
    made = (
        f"CREATE FUNCTION erp.{t}(wanted {s.ref_type}) RETURNS numeric STABLE LANGUAGE plpgsql AS $$BEGIN "
        f"RETURN (SELECT sum(x.on_hand) FROM erp.stock AS x WHERE x.{s.ref} = wanted); END$$;"
    )
    return Piece(f"coalesce(erp.{t}({s.key('i')}), 0)", reads("stock"), made=made)


def _window(s: Schema, t: str) -> Piece:
    inner = (
        f"SELECT DISTINCT x.{s.ref}, sum(x.on_hand) OVER (PARTITION BY x.{s.ref}) AS n FROM erp.stock AS x"
    )
    return Piece(f"coalesce({t}.n, 0)", reads("stock"), f"LEFT JOIN ({inner}) AS {t} ON {s.match(t)}")


def _ordered(s: Schema, t: str) -> Piece:
    sold = f"SELECT sum({t}.quantity) FROM erp.orders AS {t} WHERE {s.match(t)} AND {t}.state IN ('open', 'picked')"
    return Piece(f"(20 - coalesce(({sold}), 0))", reads("orders"))


def _union(s: Schema, t: str) -> Piece:
    inner = (
        f"SELECT x.on_hand AS n FROM erp.stock AS x WHERE {s.match('x')} "
        f"UNION ALL SELECT -o.quantity FROM erp.orders AS o WHERE {s.match('o')} AND o.state = 'open'"
    )
    return Piece(f"coalesce((SELECT sum({t}.n) FROM ({inner}) AS {t}), 0)", reads("stock", "orders"))


def _latest(s: Schema, t: str) -> Piece:
    inner = f"SELECT c.counted AS n FROM erp.count AS c WHERE {s.match('c')} ORDER BY c.id DESC LIMIT 1"
    return Piece(f"coalesce({t}.n, 0)", reads("count"), f"LEFT JOIN LATERAL ({inner}) AS {t} ON true")


def _distinct_on(s: Schema, t: str) -> Piece:
    inner = (
        f"SELECT DISTINCT ON (c.{s.ref}) c.{s.ref}, c.counted AS n FROM erp.count AS c "
        f"ORDER BY c.{s.ref}, c.id DESC"
    )
    return Piece(f"coalesce({t}.n, 0)", reads("count"), f"LEFT JOIN ({inner}) AS {t} ON {s.match(t)}")


def _ranked(s: Schema, t: str) -> Piece:
    inner = (
        f"SELECT c.{s.ref}, c.counted AS n, row_number() OVER (PARTITION BY c.{s.ref} ORDER BY c.id DESC) AS r "
        "FROM erp.count AS c"
    )
    return Piece(
        f"coalesce({t}.n, 0)", reads("count"), f"LEFT JOIN ({inner}) AS {t} ON {s.match(t)} AND {t}.r = 1"
    )


def _array(s: Schema, t: str) -> Piece:
    inner = (
        f"SELECT (array_agg({t}.counted ORDER BY {t}.id DESC))[1] FROM erp.count AS {t} WHERE {s.match(t)}"
    )
    return Piece(f"coalesce(({inner}), 0)", reads("count"))


def _kit(s: Schema, t: str) -> Piece:
    part = f"SELECT sum(x.free) FROM erp.stock AS x WHERE {s.match('x', 'p')}"
    inner = (
        f"SELECT min(floor(coalesce(({part}), 0) / {t}.per)) FROM erp.kit AS {t} "
        f"JOIN erp.item AS p ON p.id = {t}.part WHERE {t}.parent = i.id"
    )
    return Piece(
        f"coalesce(({inner}), 0)",
        reads(("stock", "kits of the row"), ("item", "kits of the item"), ("kit", "parent")),
    )


def _share(_s: Schema, t: str) -> Piece:
    return Piece(
        f"10 * coalesce({t}.share, 0)",
        reads(("category", "items of it")),
        f"LEFT JOIN erp.category AS {t} ON {t}.id = i.category",
    )


def _siblings(_s: Schema, t: str) -> Piece:
    inner = "SELECT x.id, count(*) OVER (PARTITION BY x.category) AS n FROM erp.item AS x"
    return Piece(
        f"coalesce(100 / {t}.n, 0)",
        reads(("item", "siblings")),
        f"LEFT JOIN ({inner}) AS {t} ON {t}.id = i.id",
    )


def _setting(_s: Schema, t: str) -> Piece:
    return Piece(
        f"(10 - (SELECT {t}.value FROM erp.setting AS {t} WHERE {t}.name = 'reserve'))",
        reads(("setting", "all")),
    )


def _json(_s: Schema, t: str) -> Piece:
    bins = f"SELECT sum({t}.n::integer) FROM jsonb_array_elements_text(i.attrs -> 'bins') AS {t} (n)"
    return Piece(f"(coalesce((i.attrs ->> 'extra')::integer, 0) + coalesce(({bins}), 0))", reads())


def _total(s: Schema, t: str) -> Piece:
    return Piece(f"coalesce({t}.n, 0)", reads("total"), f"LEFT JOIN erp.total AS {t} ON {s.match(t)}")


def _promotion(_s: Schema, _t: str) -> Piece:
    return Piece("CASE WHEN i.valid_until > now() THEN 50 ELSE 5 END", reads())


def _unblocked_by_now(s: Schema, t: str) -> Piece:
    return Piece(
        f"NOT EXISTS (SELECT FROM erp.block AS {t} WHERE {s.match(t)} AND {t}.until > now())", reads("block")
    )


def _valid(_s: Schema, _t: str) -> Piece:
    return Piece("i.valid_until > now()", reads())


def _active(_s: Schema, _t: str) -> Piece:
    return Piece("i.is_active", reads())


def _exists(s: Schema, t: str) -> Piece:
    return Piece(f"EXISTS (SELECT FROM erp.stock AS {t} WHERE {s.match(t)})", reads("stock"))


def _not_exists(s: Schema, t: str) -> Piece:
    return Piece(f"NOT EXISTS (SELECT FROM erp.block AS {t} WHERE {s.match(t)})", reads("block"))


def _anti_join(s: Schema, t: str) -> Piece:
    return Piece(f"{t}.{s.ref} IS NULL", reads("block"), f"LEFT JOIN erp.block AS {t} ON {s.match(t)}")


def _in_open(_s: Schema, t: str) -> Piece:
    return Piece(
        f"i.category IN (SELECT {t}.id FROM erp.category AS {t} WHERE {t}.is_open)",
        reads(("category", "items of it")),
    )


def _any_array(s: Schema, t: str) -> Piece:
    inner = f"SELECT {t}.{s.ref} FROM erp.orders AS {t} WHERE {t}.state = 'open'"
    return Piece(f"{s.key('i')} = ANY (ARRAY({inner}))", reads("orders"))


def _except(s: Schema, t: str) -> Piece:
    inner = f"SELECT {t}.{s.ref} FROM erp.stock AS {t} EXCEPT SELECT b.{s.ref} FROM erp.block AS b"
    return Piece(f"{s.key('i')} IN ({inner})", reads("stock", "block"))


def _recursive(_s: Schema, t: str) -> Piece:
    cte = (
        f"{t} (id) AS (SELECT c.id FROM erp.category AS c WHERE c.parent IS NULL AND c.is_open "
        f"UNION SELECT c.id FROM erp.category AS c JOIN {t} AS u ON c.parent = u.id WHERE c.is_open)"
    )
    return Piece(f"i.category IN (SELECT u.id FROM {t} AS u)", reads(("category", "items below")), cte=cte)


NUMBERS: Final[Mapping[str, Maker]] = {
    "scalar subquery": _summed,
    "join of an aggregate, FILTER": _joined,
    "materialized CTE": _cte,
    "LATERAL": _lateral,
    "view, HAVING": _view,
    "SQL function": _sql_function,
    "PL/pgSQL function": _plpgsql_function,
    "window, DISTINCT": _window,
    "order backlog": _ordered,
    "UNION ALL": _union,
    "LATERAL with LIMIT 1": _latest,
    "DISTINCT ON": _distinct_on,
    "row_number()": _ranked,
    "array_agg": _array,
    "kit of parts": _kit,
    "join of a category": _share,
    "window over siblings": _siblings,
    "setting for all": _setting,
    "jsonb": _json,
    "total": _total,
}
CONDITIONS: Final[Mapping[str, Maker]] = {
    "flag": _active,
    "EXISTS": _exists,
    "NOT EXISTS": _not_exists,
    "anti-join": _anti_join,
    "IN": _in_open,
    "ANY (ARRAY)": _any_array,
    "EXCEPT": _except,
    "recursive CTE": _recursive,
}
TIMED: Final[Mapping[str, Maker]] = {
    "number until a time": _promotion,
    "row until a time": _valid,
    "anti-join until a time": _unblocked_by_now,
}
