"""The ledger in memory (tests/world) against the real SQL: one random history for both, compared after each step.

The shipped store runs in front of both. What a column says must be equal; times may differ by a second, as two clocks
are read, and the history lets so much time pass that a second changes no decision.
"""

import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, Final

import pytest

from daemon.core.outcome import Conclusion
from daemon.core.plan import Listed
from daemon.core.types import AttemptId, Sku, Slot
from daemon.store.control import Pauses
from daemon.store.intake import Intake
from daemon.store.leases import Leases
from daemon.store.ledger import Claim, Completion, Debounce, Due, Owner
from daemon.store.ledger.ledger import Ledger
from daemon.store.listing import ChannelListing
from daemon.store.parked import Parked
from daemon.store.reconcile import Reconciles
from daemon.store.rows import Connection
from tests.store.playbook import AT_ONCE, UNREADABLE
from tests.store.shop import CHANNEL, LEASE, SETTLE, TIMEOUT, Shop
from tests.world.database import ReadPosition, StandIn
from tests.world.replica import WorldLedger
from tests.world.rows import Row
from tests.world.server import LISTING, Lease, Server

STEPS: Final = 500
_RARE: Final = (
    "claimed", "settled", "forgotten", "waits for a doubt", "rescued", "retried", "out of shadow", "changed between",
)  # fmt: skip
"""Steps go on until each has come up."""
_AT_ONCE_PER_S: Final = 1e6
"""Paced more slowly, rows would become due between a claim of the server and the one in memory."""
SKUS: Final = tuple(map(Sku, "ABC"))
DEBOUNCE: Final = Debounce(timedelta(seconds=30), timedelta(seconds=70), 3)
_TIMES: Final = frozenset(
    {"first_dirty_at", "unacked_since", "due_at", "acked_at", "attempt_at", "doubt_at", "doubt_until", "retry_at",
     "parked_at", "sync_at"}
)  # fmt: skip
_SEQUENCES: Final = frozenset({"want_seq", "acked_seq", "attempt_seq"})
_LEFT_OUT: Final = frozenset({"version", "slot", "attempt_id", "attempt_epoch"})
_UNLIKE: Final = {"not sent": "not_sent", "given up": "unknown"}


@dataclass
class Both:
    """The real database and the one in memory, with the same history."""

    shop: Shop
    random: random.Random
    seen: Counter[str] = field(default_factory=Counter)
    passed_s: float = 0.0

    def __post_init__(self) -> None:
        self.slots: dict[Sku, Slot] = {}
        self.server = Server(self._now, self.slots.__getitem__)
        self.server.tables.read_until = 0
        database = StandIn(self.server, ReadPosition())
        self.ledger = WorldLedger(database, LISTING, lambda _: None)
        self.intakes = {one: Intake(database, self.ledger, one) for one in (AT_ONCE, DEBOUNCE)}
        self.leases = Leases(database)

    def _now(self) -> float:
        return datetime.now().timestamp() + self.passed_s  # noqa: DTZ005 - seconds of a clock

    async def begin(self) -> None:
        for number, sku in enumerate(SKUS):
            self.slots[sku] = await self.shop.sql.fetchval(
                "SELECT (hashtextextended($1, 0) & 15)::smallint", sku
            )
            await self.sells(sku, number + 5)
        await self.take()
        await self.shop.resync(DEBOUNCE)
        await self.intakes[DEBOUNCE].resync(notify_replicas=False, timeout=TIMEOUT)

    async def take(self) -> None:
        """Another process takes all slots."""
        holder = self.random.choice(["one", "two"])
        await self.shop.take(holder)
        tables = self.server.tables
        tables.leases = {
            slot: Lease(epoch, holder, self._now() + 1e6) for slot, epoch in self.shop.owner.epochs.items()
        }

    async def sells(self, sku: Sku, quantity: int | None) -> None:
        self.server.sells(sku, quantity)
        if quantity is None:
            await self.shop.delists(sku)
        else:
            await self.shop.sells(sku, quantity)

    # What happens

    async def step(self) -> str:
        usual = [
            self.change,
            self.change,
            self.drain,
            self.drain,
            self.claim,
            self.claim,
            self.claim,
            self.end,
            self.end,
            self.end,
            self.wait,
        ]
        rare = [self.resync, self.blind, self.claim_sync, self.rescue, self.sync, self.shadow, self.end_shadow,
                self.retry, self.heal, self.pause, self.claim_between, self.die, self.tell]  # fmt: skip
        event = self.random.choice(usual * 4 + rare)
        await event()
        return event.__name__

    async def change(self) -> None:
        await self.sells(self.random.choice(SKUS), self.random.choice([0, 1, 5, 5, None]))

    async def drain(self, debounce: Debounce | None = None) -> None:
        debounce = debounce or self.random.choice([AT_ONCE, AT_ONCE, DEBOUNCE])
        found = await self.shop.drain(debounce)
        twin = await self.intakes[debounce].drain(notify_replicas=False, timeout=TIMEOUT)
        assert (found.marked, found.is_read) == (twin.marked, twin.is_read)

    async def resync(self) -> None:
        found = await self.shop.resync(DEBOUNCE)
        twin = await self.intakes[DEBOUNCE].resync(notify_replicas=False, timeout=TIMEOUT)
        assert found.marked == twin.marked

    async def blind(self) -> None:
        """Changes are read while the listing fails."""
        broken = ChannelListing(CHANNEL, UNREADABLE, ("pn_code", "brand_name"))
        ledger = Ledger(self.shop.database, broken, lambda _: None)
        found = await Intake(self.shop.database, ledger, DEBOUNCE).drain(
            notify_replicas=False, timeout=TIMEOUT
        )
        self.server.is_listing_broken = True
        twin = await self.intakes[DEBOUNCE].drain(notify_replicas=False, timeout=TIMEOUT)
        self.server.is_listing_broken = False
        assert (found.failed is None) == (twin.failed is None)

    async def claim(
        self, *, is_sync: bool = False, is_shadow: bool = False, is_urgent_only: bool = False
    ) -> None:
        how: dict[str, Any] = {"is_sync": is_sync, "is_shadow": is_shadow, "is_urgent_only": is_urgent_only}
        found = await self.shop.ledger.claim(self.shop.owner, 10, SETTLE, **how)
        twin = await self.ledger.claim(self.shop.owner, 10, SETTLE, **how)
        for name in ("captured", "settled", "parked", "forgotten", "waiting", "is_live"):
            ours, theirs = getattr(found, name), getattr(twin, name)
            assert sorted(ours) == sorted(theirs) if isinstance(ours, list) else ours == theirs, (
                name,
                ours,
                theirs,
            )
        assert {one.push for one in found.attempts} == {one.push for one in twin.attempts}
        assert set(found.shadowed) == set(twin.shadowed)
        self.seen["claimed"] += len(found.attempts)
        self.seen["settled"] += len(found.settled)
        self.seen["forgotten"] += len(found.forgotten)
        self.seen["waits for a doubt"] += len(found.waiting)

    async def claim_sync(self) -> None:
        await self.claim(is_sync=True)
        found, twin = await self.shop.ledger.end_sync(), await self.ledger.end_sync()
        assert (found[0] is None, found[1]) == (twin[0] is None, twin[1])

    async def shadow(self) -> None:
        await self.claim(is_shadow=True)
        if self.random.random() < 0.5:
            await self.end_shadow()

    async def claim_between(self) -> None:
        """A change is marked after a claim has captured its rows, and before it writes."""
        sku, quantity = self.random.choice(SKUS), self.random.choice([0, 1, 5])

        async def changes() -> None:
            await self.shop.sells(sku, quantity)
            await self.shop.drain(DEBOUNCE)

        async def changes_here() -> None:
            self.server.sells(sku, quantity)
            await self.intakes[DEBOUNCE].drain(notify_replicas=False, timeout=TIMEOUT)

        for ledger, change in ((self.shop.ledger, changes), (self.ledger, changes_here)):
            claim = await _claim_and(ledger, self.shop.owner, change)
            self.seen["changed between"] += claim.captured
            if not claim.captured:
                await change()

    async def tell(self) -> None:
        """What chance brings about too seldom: a confirmation that waits for its doubt, and a SKU that is forgotten."""
        sku = self.random.choice(SKUS)
        for quantity, outcomes in ((6, ("unknown", "applied")), (None, ("applied",))):
            await self.sells(sku, quantity)
            await self.drain(AT_ONCE)
            for outcome in outcomes:
                await self.claim()
                await self.end(outcome)
            await self.heal()
            await self.claim()

    async def end(self, outcome: str | None = None) -> None:
        """Some open attempts end in the same way; all of them in one that is given."""
        share = 0.7 if outcome is None else 1.0
        outcome = outcome or self.random.choice(
            [
                "applied",
                "applied",
                "applied",
                "unknown",
                "unknown",
                "not sent",
                "trouble",
                "refused",
                "given up",
                "gone",
            ]
        )
        open_rows = await self.shop.sql.fetch(
            "SELECT sku, slot, attempt_id, attempt_quantity FROM stockrelay.ledger WHERE attempt_id IS NOT NULL"
        )
        chosen = [
            row
            for row in open_rows
            if self.random.random() < share and (outcome != "gone" or not row["attempt_quantity"])
        ]
        if outcome == "refused":
            # As the dispatcher: a refused delisting is `gone`.
            chosen = [row for row in chosen if row["attempt_quantity"]]
        wait = timedelta(seconds=self.random.choice([0, 90]))
        conclusion = Conclusion(
            _UNLIKE.get(outcome, outcome), "words", outcome in ("refused", "given up"), wait
        )
        holder = self.shop.owner.holder if self.random.random() < 0.9 else "nobody"
        here = {sku: row.attempt_id for sku, row in self.server.tables.ledger.items()}

        def done(ids: dict[Sku, Any]) -> Sequence[Completion]:
            return [
                Completion(row["sku"], row["slot"], AttemptId(ids[row["sku"]]), conclusion, None)
                for row in chosen
            ]

        found = await self.shop.ledger.complete(
            holder, done({row["sku"]: row["attempt_id"] for row in chosen}), SETTLE
        )
        twin = await self.ledger.complete(holder, done(here), SETTLE)
        assert (found.is_due, len(found.took_s)) == (twin.is_due, len(twin.took_s))
        self.seen[outcome] += len(chosen)

    async def rescue(self) -> None:
        if self.random.random() < 0.5:
            found = await self.shop.ledger.rescue(self.shop.owner, [], SETTLE)
            assert found == await self.ledger.rescue(self.shop.owner, [], SETTLE)
            self.seen["rescued"] += found

    async def die(self) -> None:
        old = self.shop.owner
        await self.take()
        stale = Owner(old.holder, old.epochs)
        assert (await self.shop.ledger.claim(stale, 10, SETTLE)).captured == 0
        assert (await self.ledger.claim(stale, 10, SETTLE)).captured == 0

    async def wait(self) -> None:
        seconds = self.random.choice([40, 40, 100])
        self.passed_s += seconds
        await self.shop.pass_time(seconds)

    async def sync(self) -> None:
        _, queued = await self.shop.sync()
        assert queued == self.server.queue_sync()

    async def end_shadow(self) -> None:
        slots = list(self.shop.owner.epochs)
        found = await self.shop.ledger.end_shadow(slots, 10)
        assert found == await self.ledger.end_shadow(slots, 10)
        self.seen["out of shadow"] += found

    async def retry(self) -> None:
        self.seen["retried"] += len(await Parked(self.shop.database, CHANNEL).retry(None, _AT_ONCE_PER_S))
        self.server.retry_parked()

    async def heal(self) -> None:
        if self.random.random() < 0.4:
            runs = Reconciles(self.shop.database)
            run = await runs.begin_by_hand(CHANNEL, date(2026, 3, 7), "one", LEASE, is_dry=False)
            await runs.reassert(run, list(SKUS), _AT_ONCE_PER_S)
            self.server.reassert()
            await self.shop.sql.execute("DELETE FROM stockrelay.reconcile_run")

    async def pause(self) -> None:
        """A claim while the channel is paused."""
        pauses = Pauses(self.shop.database)
        await pauses.pause(CHANNEL, "somebody", "")
        self.server.tables.is_paused = True
        await self.claim()
        await pauses.resume(CHANNEL)
        self.server.tables.is_paused = False

    # What must be equal

    async def compare(self) -> None:
        real = {row["sku"]: row for row in await self.shop.sql.fetch("SELECT * FROM stockrelay.ledger")}
        now = await self.shop.sql.fetchval("SELECT clock_timestamp()")
        here, here_now = self.server.tables.ledger, self._now()
        assert real.keys() == here.keys()
        for sku, row in real.items():
            differing = {
                name: (row[name], getattr(here[sku], name))
                for name in Row._fields
                if name not in _LEFT_OUT | _SEQUENCES
                and not _is_alike(name, row[name], getattr(here[sku], name), now, here_now)
            }
            assert differing == {}, f"{sku}: real {dict(row)}, here {here[sku]}"
            assert _order(dict(row)) == _order(here[sku]._asdict()), (
                f"{sku}: real {dict(row)}, here {here[sku]}"
            )
        slots = list(self.shop.owner.epochs)
        found, twin = await self.shop.ledger.next_due(slots), await self.ledger.next_due(slots)
        assert _seconds(found) == pytest.approx(_seconds(twin), abs=2, nan_ok=True)


async def _claim_and(ledger: Ledger, owner: Owner, change: Callable[[], Awaitable[None]]) -> Claim:
    """Claim; the change happens when the listing has been read."""

    class Reading(WorldLedger):
        async def _listed(
            self, connection: Connection, skus: Sequence[Sku], *, is_apart: bool
        ) -> dict[Sku, Listed]:
            found = await super()._listed(connection, skus, is_apart=is_apart)
            await change()
            return found

    kind, ledger.__class__ = ledger.__class__, Reading
    try:
        return await ledger.claim(owner, 10, SETTLE)
    finally:
        ledger.__class__ = kind


def _is_alike(name: str, real: Any, here: Any, now: datetime, here_now: float) -> bool:  # noqa: ANN401 - any column's
    if name in _TIMES and real is not None and here is not None:
        if here == float("inf"):
            return bool(real.year > 9000)
        return bool(abs((real - now).total_seconds() - (here - here_now)) < 2)
    if isinstance(real, list):
        return bool(tuple(real) == here)
    return bool(real == here)


def _order(row: dict[str, Any]) -> list[list[bool | None]]:
    """How the row's sequence numbers stand to each other."""
    numbers = [row[name] for name in sorted(_SEQUENCES)]
    return [[None if a is None or b is None else a < b for b in numbers] for a in numbers]


def _seconds(due: Due) -> list[float]:
    return [float("nan") if one is None else one.total_seconds() for one in (due.change, due.sync)]


@pytest.mark.parametrize("seed", range(1))
async def test_the_ledger_in_memory_does_what_the_real_sql_does(shop: Shop, seed: int) -> None:
    both = Both(shop, random.Random(seed))
    await both.begin()
    told: list[str] = []
    while len(told) < STEPS or not all(both.seen[name] for name in _RARE):
        assert len(told) < 6 * STEPS, both.seen
        told.append(await both.step())
        try:
            await both.compare()
        except AssertionError as error:
            raise AssertionError(f"after {' '.join(told[-12:])}\n{error}") from None
