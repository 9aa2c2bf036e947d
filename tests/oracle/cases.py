"""A case: a schema, its listings and what the ERP writes, from one number; and how a person reads it."""

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tests.oracle.listings import (
    QUANTITIES,
    SHAPES,
    SOURCES,
    Listing,
    Written,
    listing,
    written,
)
from tests.oracle.paths import watches
from tests.oracle.pieces import CONDITIONS, NUMBERS, TIMED
from tests.oracle.schema import Schema, schema, tables
from tests.oracle.transactions import COPY, ENDS, TIMES, WORDINGS, Transaction, waves

LISTINGS: Final = 4
WAVES: Final = 3
TIMED_SHARE: Final = 5
"""Every case whose number is divisible by this depends on the time."""


@dataclass(frozen=True, slots=True)
class Case:
    """What one run does. The listings have their names, which are those of the channels."""

    seed: int
    schema: Schema
    listings: tuple[tuple[str, Listing], ...]
    waves: tuple[tuple[Transaction, ...], ...]
    is_timed: bool
    lost: frozenset[str] = frozenset()
    """Tables whose watch names no SKU, to see that a lost change is found."""

    def written(self) -> dict[str, Written]:
        """Return the listings as SQL, by channel."""
        return {name: written(self.schema, made, name.replace("-", "_")) for name, made in self.listings}

    def ddl(self) -> str:
        """Return the statements that make the ERP."""
        return "\n".join([tables(self.schema), *(each.made for each in self.written().values() if each.made)])

    def watches(self) -> list[dict[str, str]]:
        """Return the watches that cover all listings."""
        made = watches(self.schema, (pair for each in self.written().values() for pair in each.reads))
        for watch in made:
            if watch["table"].removeprefix("erp.") in self.lost:
                watch["skus"] = f"SELECT u.* FROM ({watch['skus']}) AS u WHERE false"
        return made

    def features(self) -> Counter[str]:
        """Count what it has."""
        found = Counter(self.schema.features())
        for _, made in self.listings:
            found.update(made.features())
        for transaction in self.transactions():
            found.update(transaction.features())
        found.update(f"watch by {kind}" for watch in self.watches() for kind in watch.keys() - {"table"})
        return found

    def transactions(self) -> Iterator[Transaction]:
        for wave in self.waves:
            yield from wave

    def transcript(self) -> str:
        """Return it as a person reads it: tables, watches, listings, and what each session does."""
        lines = [self.ddl(), "", "watches:"]
        lines += [
            f"  {', '.join(f'{key} = {value}' for key, value in watch.items())}" for watch in self.watches()
        ]
        for name, each in self.written().items():
            lines += ["", f"listing of {name}:", f"  {each.sql}"]
        for number, wave in enumerate(self.waves, 1):
            lines += ["", f"wave {number}:"]
            for transaction in wave:
                lines.append(f"  session {transaction.session}, {transaction.end}:")
                lines += [f"    {statement};" for statement in transaction.statements]
        return "\n".join(lines)


def case(seed: int) -> Case:
    """Return the case of this number."""
    rng = random.Random(seed)
    is_timed = seed % TIMED_SHARE == 0
    made = schema(rng)
    marketplaces = ("ymatou", "sekorm") * (LISTINGS // 2)
    listings = tuple(
        (f"{marketplace}-{number}", listing(rng, made, marketplace, is_timed=is_timed))
        for number, marketplace in enumerate(marketplaces, 1)
    )
    return Case(seed, made, listings, waves(rng, made, WAVES, is_timed=is_timed), is_timed)


def all_features() -> frozenset[str]:
    """Name everything that a long run must have had."""
    return frozenset(
        [
            *(f"number: {name}" for name in (*NUMBERS, "number until a time")),
            *(f"condition: {name}" for name in (*CONDITIONS, *TIMED) if name != "number until a time"),
            *(f"shape: {name}" for name in SHAPES),
            *(f"items: {name}" for name in SOURCES),
            *(f"quantity: {name}" for name in QUANTITIES),
            *(f"statement: {name}" for name in (*WORDINGS, *TIMES, COPY)),
            *(f"end: {name}" for name in ENDS),
            *(name for seed in range(400) for name in schema(random.Random(seed)).features()),
            "SKUs that share a code, summed",
            "watch by sku",
            "watch by skus",
        ]
    )
