"""Every state of docs/ledger.md as a row of one channel.

The states are played once and kept (schema `kept`), and put back for each event.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from daemon.core.guard import GuardRule
from tests.store.ledger_document import State
from tests.store.playbook import (
    Driver,
    Life,
    ask_sync,
    change,
    change_unread,
    claim,
    claim_in_shadow,
    claim_sync,
    ends,
    hold,
    leave,
    life,
    sent,
    state,
    stock,
    wait,
)

RULE: Final = GuardRule(zero_share=0.0, zero_count=0, row_share=1.0, window=timedelta(seconds=300))
"""Any number that falls to zero is too many."""

TABLES: Final = (
    "shop.goods",
    "stockrelay.ledger",
    "stockrelay.anomaly",
    "stockrelay.guard",
    "stockrelay.lease",
)


_COLUMNS: Final = (
    "SELECT string_agg(quote_ident(attname), ', ') FROM pg_attribute "
    "WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''"
)


def lives() -> Mapping[State, Life]:
    """How a row comes into each state."""
    known = life() >> stock(7)
    unknown = known >> change(6) >> claim() << sent(6) >> ends("unknown") << state("waiting", "open")
    queued = known >> ask_sync() << state("queued for sync")
    queued_unknown = queued >> claim_sync() << sent(7) >> ends("unknown")
    found: dict[State, Life] = {("absent", "none"): life(), ("clean", "none"): known}
    for doubt, waiting, sync in (
        ("none", known >> change(6), queued),
        ("open", unknown, queued_unknown),
        ("over", unknown >> wait(61), queued_unknown >> wait(61)),
    ):
        flying = waiting >> claim() << sent(6)
        sync_flying = sync >> claim_sync() << sent(7)
        parked = flying >> (ends("refused") if doubt == "none" else ends("given up"))
        found |= {
            ("waiting", doubt): waiting,
            ("shadowed", doubt): waiting >> claim_in_shadow(),
            ("queued for sync", doubt): sync,
            ("held", doubt): waiting >> hold(),
            ("held and due", doubt): waiting >> hold() >> change_unread(),
            ("parked", doubt): parked >> wait(61 if doubt == "over" else 0),
            ("in flight", doubt): flying,
            ("in flight for sync", doubt): sync_flying,
            ("delisting", doubt): waiting >> leave() >> claim() << sent(0),
            ("overtaken", doubt): flying >> change(5),
            ("held in flight", doubt): flying >> hold(),
        }
    return {state_: played << state(*state_) for state_, played in found.items()}


LIVES: Final = lives()
NAMES: Final = {state_: "/".join(state_) for state_ in LIVES}


class Spec:
    """All states side by side, in one channel."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.shop = driver.shop
        self.sql = driver.shop.sql

    async def keep(self) -> None:
        """Play every life from an empty channel and keep what it leaves."""
        await self.sql.execute("DROP SCHEMA IF EXISTS kept CASCADE; CREATE SCHEMA kept")
        await self.shop.resync()
        await self.shop.take()
        for table in TABLES:
            await self.sql.execute(f"CREATE TABLE kept.{table.partition('.')[2]} (LIKE {table})")
        await self.sql.execute("INSERT INTO kept.lease TABLE stockrelay.lease")
        await self.driver.guards(holds=False)
        for state_, played in LIVES.items():
            await played.play(self.driver, NAMES[state_])
            for table in ("shop.goods", "stockrelay.ledger", "stockrelay.anomaly"):
                name = table.partition(".")[2]
                await self.sql.execute(f"INSERT INTO kept.{name} TABLE {table}; DELETE FROM {table}")
            await self.sql.execute(
                "INSERT INTO kept.guard SELECT * FROM stockrelay.guard WHERE held_since IS NOT NULL "
                "AND NOT EXISTS (SELECT FROM kept.guard); DELETE FROM stockrelay.sync_run"
            )
        await self.sql.execute("CREATE TABLE kept.at AS SELECT clock_timestamp() AS at")

    async def restore(self) -> None:
        """Every state again, as old as when it was kept, and nothing unread."""
        for table in TABLES:
            kept, columns = f"kept.{table.partition('.')[2]}", await self.sql.fetchval(_COLUMNS, table)
            await self.sql.execute(
                f"DELETE FROM {table}; INSERT INTO {table} ({columns}) SELECT {columns} FROM {kept}"
            )
        await self.sql.execute(
            "DELETE FROM stockrelay.change_0; DELETE FROM stockrelay.change_1; DELETE FROM stockrelay.sync_run;"
            "DELETE FROM stockrelay.attempt; DELETE FROM stockrelay.pause; DELETE FROM stockrelay.reconcile_run"
        )
        age = await self.sql.fetchval(
            "SELECT extract(epoch FROM clock_timestamp() - at)::float8 FROM kept.at"
        )
        await self.shop.pass_time(-age)
        await self.driver.guards(holds=False)

    async def look(self) -> dict[str, list[State]]:
        found = await self.driver.states()
        return {name: found.get(name, [("absent", "none")]) for name in NAMES.values()}
