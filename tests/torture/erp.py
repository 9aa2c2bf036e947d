"""A session of the ERP that writes down what it commits, and for how long it waited."""

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import asyncpg

from tests.acceptance.oracle import Connection
from tests.acceptance.writers import GONE

if TYPE_CHECKING:
    from tests.torture.world import World

Statement = tuple[str, Sequence[Any]]
LOST: Final = (*GONE, TimeoutError, asyncpg.InternalClientError)
"""A connection's end, as asyncpg reports it; the last one where it ends between two steps of its own."""
MOST_S: Final = 1.0
"""No transaction of the ERP waits longer because of us."""


class Session:
    """One connection of a driver, made anew when it is lost. No proxy is between it and the server."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._connection: Connection | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection is not None:
            self._connection.terminate()

    async def change(self, numbers: Mapping[str, int | None], *statements: Statement) -> bool:
        """Run the statements in one transaction, which sets these numbers (None: deletes the row); return whether it
        was committed. What has become of it is asked of the server when the connection is lost. A driver that is
        cancelled waits for the end of its transaction."""
        changing = asyncio.create_task(self._change(numbers, *statements))
        try:
            return await asyncio.shield(changing)
        except asyncio.CancelledError:
            await changing
            raise

    async def _change(self, numbers: Mapping[str, int | None], *statements: Statement) -> bool:
        connection = await self._connected()
        history, began = self._world.history, time.monotonic()
        begun = history.begin(numbers, time.time())
        try:
            async with asyncio.timeout(30), connection.transaction():
                for sql, values in statements:
                    await connection.execute(sql, *values)
        except LOST as error:
            self._blame(began, f"failed ({error!r})")
            connection.terminate()
            is_committed = await self._has(numbers)
        except asyncpg.PostgresError as error:
            self._blame(began, f"failed ({error!r})")
            is_committed = False
        else:
            is_committed = True
            if time.monotonic() - began > MOST_S:
                self._blame(began, f"waited {time.monotonic() - began:.1f} s")
        history.end(begun, is_committed=is_committed)
        return is_committed

    async def run(self, *statements: str) -> None:
        """Run statements that change no number, each by itself."""
        for sql in statements:
            with contextlib.suppress(*LOST):
                await (await self._connected()).execute(sql, timeout=30)

    def _blame(self, began: float, words: str) -> None:
        if not self._world.is_erp_excused(began):
            self._world.violations.append(f"a transaction of the ERP {words}")

    async def _connected(self) -> Connection:
        while self._connection is None or self._connection.is_closed():
            try:
                self._connection = await asyncpg.connect(self._world.database.dsn, timeout=5)
            except LOST:
                await asyncio.sleep(0.1)
        return self._connection

    async def _has(self, numbers: Mapping[str, int | None]) -> bool:
        while True:
            try:
                rows = await (await self._connected()).fetch(
                    "SELECT sku, on_hand FROM erp.stock WHERE sku = ANY ($1)", list(numbers), timeout=10
                )
            except LOST:
                await asyncio.sleep(0.1)
                continue
            found = {row["sku"]: row["on_hand"] for row in rows}
            return all(found.get(sku) == number for sku, number in numbers.items())


def set_numbers(numbers: Mapping[str, int]) -> Statement:
    """The statement that gives each SKU its number."""
    sql = (
        "UPDATE erp.stock AS s SET on_hand = n.on_hand FROM unnest($1::text[], $2::int[]) AS n (sku, on_hand) "
        "WHERE s.sku = n.sku"
    )
    return sql, (list(numbers), list(numbers.values()))
