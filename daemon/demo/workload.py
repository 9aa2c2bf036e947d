"""A shop's day: what people and programs at the ERP do to its tables. None of them knows of Stockrelay."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

import asyncpg

from daemon import clock
from daemon.core.types import ChannelName
from daemon.demo import erp
from daemon.demo.records import RENAME, ActivityLog, Holdings, Key, StockChange

NEVER_COMMITTED: Final = 987_654
"""The number that `roll_back` writes and rolls back: no marketplace may ever see it."""


class Shop:
    """Changes the ERP over one connection and writes down what each commit means to each channel.

    Transactions go one after another, also when several of the methods run at once: so the activity has the
    order of the commits. Numbers and choices come from `seed`. After `close`, what is spread over time ends.
    """

    def __init__(self, connection: asyncpg.Connection, seed: int) -> None:
        self._connection = connection
        self._chance = random.Random(seed)  # noqa: S311 - plays customers
        self._turn = asyncio.Lock()
        self._shown: dict[ChannelName, dict[str, tuple[Key, int]]] = {}
        self._for_sale: list[str] = []
        self._serial = 0
        self._is_closed = False
        self.activity = ActivityLog()

    async def open(self) -> list[str]:
        """Read what is for sale before the first change; return the SKUs."""
        for channel in erp.LISTINGS:
            self._shown[channel] = await self._listing(channel, None)
        self._for_sale = sorted({sku for shown in self._shown.values() for sku in shown})
        return list(self._for_sale)

    def close(self) -> None:
        """Begin no further transaction of what is spread over time."""
        self._is_closed = True

    def start_day(self) -> None:
        """Begin a new activity log, so that an endless demo does not fill the memory."""
        self.activity = ActivityLog()

    def wanted(self) -> Holdings:
        """Return what each marketplace should show by now, by the activity log."""
        return {channel: dict(shown.values()) for channel, shown in self._shown.items()}

    async def sell(self, times: int, spread: timedelta) -> None:
        """Single sales, each in a transaction of its own, evenly spread."""

        async def one() -> None:
            sku = self._pick()
            async with self._transaction("sale", [sku]):
                await self._take(sku, self._chance.randrange(1, 10))

        await self._spread(times, spread, one)

    async def burst(self, times: int, spread: timedelta) -> str:
        """Everybody wants the same thing: `times` sales of one SKU; return it."""
        sku = self._pick()

        async def one() -> None:
            async with self._transaction("burst", [sku]):
                await self._take(sku, 1)

        await self._put(sku, "restock", times * 3)
        await self._spread(times, spread, one)
        return sku

    async def import_stock(self, warehouse: int) -> int:
        """The file of one warehouse: all its numbers in one transaction; return how many there were."""
        skus = list(self._for_sale)
        counts = [(sku, self._chance.randrange(20, 600)) for sku in skus]
        async with self._transaction("import", skus):
            await self._connection.execute(
                "CREATE TEMPORARY TABLE counted (sku text, on_hand integer) ON COMMIT DROP"
            )
            await self._connection.copy_records_to_table("counted", records=counts)
            await self._connection.execute(
                "UPDATE erp.stock s SET on_hand = c.on_hand FROM counted c"
                " WHERE s.sku = c.sku AND s.warehouse_id = $1",
                warehouse,
            )
        return len(counts)

    async def sell_out(self, times: int, spread: timedelta) -> None:
        """Somebody buys all there is of a SKU, `times` times."""

        async def one() -> None:
            sku = self._pick()
            async with self._transaction("sell-out", [sku]):
                await self._connection.execute("UPDATE erp.stock SET on_hand = 0 WHERE sku = $1", sku)

        await self._spread(times, spread, one)

    async def restock(self, times: int, spread: timedelta) -> None:
        """Boxes arrive at one warehouse, `times` times."""

        async def one() -> None:
            await self._put(self._pick(), "restock", self._chance.randrange(50, 500))

        await self._spread(times, spread, one)

    async def rename(self) -> str:
        """The maker gives a part a new number; return the SKU."""
        sku = self._pick()
        async with self._transaction(RENAME, [sku]):
            await self._connection.execute(
                "UPDATE erp.products SET part_no = part_no || '/N' WHERE sku = $1", sku
            )
        return sku

    async def delist(self) -> str:
        """A product is sold no more; return its SKU."""
        sku = self._pick()
        async with self._transaction("delisting", [sku]):
            await self._connection.execute("UPDATE erp.products SET is_listed = false WHERE sku = $1", sku)
        self._for_sale.remove(sku)
        return sku

    async def launch(self) -> str:
        """A new product with stock in one warehouse; return its SKU."""
        self._serial += 1
        sku = f"N{self._serial:05d}"
        async with self._transaction("launch", [sku]):
            await self._connection.execute(
                "WITH p AS (INSERT INTO erp.products (sku, part_no, brand, name, ymatou_code)"
                "           VALUES ($1, $2, '乐鑫 Espressif', '无线模组', $3) RETURNING product_id, sku)"
                " INSERT INTO erp.stock (product_id, warehouse_id, sku, on_hand)"
                " SELECT product_id, 1, sku, 250 FROM p",
                sku,
                f"ESP32-S3-WROOM-{self._serial}U-N8R8",
                f"SZ{self._serial:06d}",
            )
        self._for_sale.append(sku)
        return sku

    async def roll_back(self) -> None:
        """A transaction that is rolled back: none of it happened, and nobody may hear of it."""
        async with self._turn:
            transaction = self._connection.transaction()
            await transaction.start()
            await self._connection.execute(
                "UPDATE erp.stock SET on_hand = $2 WHERE sku = $1", self._pick(), NEVER_COMMITTED
            )
            await transaction.rollback()
            self.activity.rolled_back += 1

    async def _take(self, sku: str, quantity: int) -> None:
        """Sell up to `quantity` from the warehouse that has most; all of it when there is less."""
        await self._connection.execute(
            "INSERT INTO erp.orders (sku, quantity) VALUES ($1, $2)", sku, quantity
        )
        await self._connection.execute(
            "UPDATE erp.stock SET on_hand = greatest(on_hand - $2, 0)"
            " WHERE (sku, warehouse_id) = (SELECT sku, warehouse_id FROM erp.stock WHERE sku = $1"
            " ORDER BY on_hand DESC, warehouse_id LIMIT 1)",
            sku,
            quantity,
        )

    async def _put(self, sku: str, kind: str, quantity: int) -> None:
        async with self._transaction(kind, [sku]):
            await self._connection.execute(
                "UPDATE erp.stock SET on_hand = on_hand + $2 WHERE sku = $1 AND warehouse_id = 1",
                sku,
                quantity,
            )

    def _pick(self) -> str:
        """Choose a SKU that is for sale."""
        return self._chance.choice(self._for_sale)

    async def _spread(self, times: int, spread: timedelta, act: Callable[[], Awaitable[None]]) -> None:
        start = clock.monotonic()
        for i in range(times):
            await asyncio.sleep(max(0.0, start + spread.total_seconds() * i / times - clock.monotonic()))
            if self._is_closed:
                return
            await act()

    @asynccontextmanager
    async def _transaction(self, kind: str, skus: Sequence[str]) -> AsyncIterator[None]:
        """Commit what happens inside, and note which numbers it changed at which channel."""
        async with self._turn:
            async with self._connection.transaction():
                yield
                after = {channel: await self._listing(channel, skus) for channel in erp.LISTINGS}
                at = clock.now().timestamp()
            self.activity.transactions += 1
            self.activity.rows += len(skus)
            for channel, rows in after.items():
                self._note(at, kind, channel, skus, rows)

    async def _listing(self, channel: ChannelName, skus: Sequence[str] | None) -> dict[str, tuple[Key, int]]:
        """Return identifiers and number of the SKUs (None: all) that the channel lists."""
        query = f"SELECT * FROM ({erp.LISTINGS[channel]}) l"  # noqa: S608 - the demo's own text
        if skus is None:
            rows = await self._connection.fetch(query)
        else:
            rows = await self._connection.fetch(f"{query} WHERE l.sku = ANY($1)", list(skus))
        return {row[0]: (tuple(row.values())[1:-1], int(row["quantity"])) for row in rows}

    def _note(
        self,
        at: float,
        kind: str,
        channel: ChannelName,
        skus: Sequence[str],
        after: dict[str, tuple[Key, int]],
    ) -> None:
        shown = self._shown[channel]
        for sku in skus:
            old, new = shown.get(sku), after.get(sku)
            if old is not None and (new is None or new[0] != old[0]) and old[1] != 0:
                self.activity.changes.append(StockChange(at, kind, channel, old[0], 0))
            if new is not None and new != old:
                self.activity.changes.append(StockChange(at, kind, channel, *new))
            if new is None:
                shown.pop(sku, None)
            else:
                shown[sku] = new
