"""The delivery ledger: marking, claiming, completing. Every change of a row is guarded by the state it expects."""

import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, NamedTuple

import asyncpg

from daemon.core.conclusion import Conclusion
from daemon.core.errors import BadRow, TableLocked
from daemon.core.guard import GuardRule
from daemon.core.plan import (
    Decision,
    Defer,
    Delivery,
    Forget,
    Hold,
    Leave,
    Listed,
    Park,
    Problem,
    Send,
    Settled,
    Wait,
    decide,
    is_zero,
    unseen_anomaly,
)
from daemon.core.types import AttemptId, ChannelName, Epoch, Push, Sku, Slot
from daemon.store import queries
from daemon.store.database import Database, taken_back, transaction_on
from daemon.store.driver_errors import translated
from daemon.store.foreign_text import storable
from daemon.store.listing import ChannelListing, listed_of
from daemon.store.locks import LockWatch
from daemon.store.refused import RefusedSkus, refused_skus
from daemon.store.row_errors import may_be_of_a_row
from daemon.store.twins import Twins

_SQL = queries.load("ledger")

_PORTION: Final = 400
"""SKUs of the listing read in one statement: the answer fits into the socket's buffers, so that the server ends the
statement, and its snapshot, even while this process stands still."""


@dataclass(frozen=True, slots=True)
class Debounce:
    """When a marked row is due: `quiet` after the last change, at most `max_wait` after the first; a fall to zero or
    below `urgent_below` at once."""

    quiet: timedelta
    max_wait: timedelta
    urgent_below: int


@dataclass(frozen=True, slots=True)
class Marked:
    """How many rows a marking touched, how many of them are urgent, and how many numbers it held."""

    rows: int
    urgent: int
    held: int = 0


NOTHING: Final = Marked(0, 0)


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that claims, and the slots that it claims from, each with the epoch of its lease."""

    holder: str
    epochs: Mapping[Slot, Epoch]

    def of(self, slots: Collection[Slot]) -> "Owner":
        """The same owner, of these slots alone."""
        return Owner(self.holder, {slot: epoch for slot, epoch in self.epochs.items() if slot in slots})

    @property
    def columns(self) -> tuple[list[Slot], list[Epoch], str]:
        """The slots, their epochs and the holder, as queries take them."""
        return list(self.epochs), list(self.epochs.values()), self.holder


class Attempt(NamedTuple):
    """An attempt that is written and committed: it may be sent. `failures`: unknown ends of this SKU in a row."""

    attempt_id: AttemptId
    push: Push
    failures: int
    is_delisting: bool
    is_urgent: bool
    slot: Slot


@dataclass(slots=True)
class Claim:
    """What one claim came to. `looked_at` counts the due rows, also those that needed no sending. `held`: numbers
    that stay held; `deferred`: wrong numbers that the next marking has to count first; `left`: those that another SKU's
    sum has in it."""

    looked_at: int = 0
    attempts: list[Attempt] = field(default_factory=list)
    settled: list[Sku] = field(default_factory=list)
    parked: dict[Sku, str] = field(default_factory=dict)
    forgotten: list[Sku] = field(default_factory=list)
    held: list[Sku] = field(default_factory=list)
    deferred: list[Sku] = field(default_factory=list)
    left: list[Sku] = field(default_factory=list)


class Written(NamedTuple):
    """What writing outcomes came to: whether a row is due again, and for each acknowledgement how many seconds ago its
    oldest change was read."""

    is_due: bool
    took_s: Sequence[float]


class Completion(NamedTuple):
    """How one attempt ended. `duration` is None when nothing was sent."""

    sku: Sku
    slot: Slot
    attempt_id: AttemptId
    conclusion: Conclusion
    duration: timedelta | None


@dataclass(frozen=True, slots=True)
class Due:
    """How long until the next row is due (negative: since when it is), and until the next has its turn in a sync; None:
    there is none, or the channel is paused."""

    change: timedelta | None = None
    sync: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Backlog:
    """One channel's ledger in numbers; `oldest` is the age of the oldest change without an acknowledgement. What is
    parked or `held` (by the guard, for a person) counts neither as backlog nor for `oldest`. `on_sale` counts the
    SKUs of which the partner has acknowledged more than zero."""

    skus: int
    backlog: int
    doubt: int
    parked: int
    in_flight: int
    oldest: timedelta | None
    held: int = 0
    on_sale: int = 0


@dataclass(frozen=True, slots=True)
class _Successor:
    """A SKU that is listed under the identifiers another one, `of`, was last sent with."""

    of: Sku
    sku: Sku
    identifiers: list[str]
    takes_over: bool
    is_doubted: bool


class _Work:
    """One claim under way: the rows as they were captured, what the listing says of them, and what is decided."""

    def __init__(self, owner: Owner, captured: "Sequence[asyncpg.Record]", is_sync: bool) -> None:
        self.owner = owner
        self.captured = captured
        self.is_sync = is_sync
        self.deliveries = [_delivery(row) for row in captured]
        self.listed: dict[Sku, Listed] = {}
        self.decisions: dict[Sku, Decision] = {}

    @property
    def skus(self) -> list[Sku]:
        return [Sku(row["sku"]) for row in self.captured]

    @property
    def slots(self) -> set[Slot]:
        return {Slot(row["slot"]) for row in self.captured}

    def moved(self) -> list[Sku]:
        """Those for which nothing is sent any more under the identifiers that were last sent."""
        return [
            delivery.sku
            for delivery in self.deliveries
            if delivery.identifiers is not None
            and (
                (listed := self.listed.get(delivery.sku)) is None
                or listed.identifiers != delivery.identifiers
                or listed.carrier not in (None, delivery.sku)
            )
        ]

    def sends(self) -> dict[Sku, Send]:
        return {sku: decision for sku, decision in self.decisions.items() if isinstance(decision, Send)}

    def keep(self, should_keep: Callable[[Delivery], bool]) -> None:
        """Leave the other rows to the next claim."""
        self.deliveries = [delivery for delivery in self.deliveries if should_keep(delivery)]
        kept = {delivery.sku for delivery in self.deliveries}
        self.captured = [row for row in self.captured if row["sku"] in kept]
        self.decisions = {sku: decision for sku, decision in self.decisions.items() if sku in kept}


class Ledger:
    """One channel's part of the ledger. `guard`: what is held; None: nothing ever is. `reader`: the
    connections for claims, which wait for the listing; without, those that are for everything."""

    def __init__(
        self,
        database: Database,
        listing: ChannelListing,
        problem: Problem,
        guard: GuardRule | None = None,
        reader: Database | None = None,
    ) -> None:
        self._database = database
        self._reader = reader or database
        self._locks = LockWatch(database)
        self._guard = guard
        self._factor = math.inf if guard is None else guard.move_factor
        self.channel: ChannelName = listing.channel
        self._problem = problem
        self._twins = Twins(listing)
        self._mark_some = listing.statement("mark", is_whole=False)
        self._mark_all = listing.statement("mark", is_whole=True)
        self._read_listing = listing.statement("read_listing", is_whole=False)
        self._listing = listing
        self._mark_some_apart = listing.statement("mark", is_whole=False, is_apart=True)
        self._mark_all_apart = listing.statement("mark", is_whole=True, is_apart=True)
        self._read_listing_apart = listing.statement("read_listing", is_whole=False, is_apart=True)

    async def mark(
        self,
        connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]",
        skus: Sequence[str],
        debounce: Debounce,
        *,
        is_apart: bool = False,
        read_from: str | None = None,
    ) -> Marked:
        """Mark those of `skus` whose number differs from what the partner was sent, inside the caller's transaction.

        `is_apart`: after BadRow; SKUs whose rows can't be read are marked, and their claim parks them. `read_from`: the
        snapshot from which on the change log was read for them, which tells who wrote them.
        """
        is_change = True
        skus = await self._twins.complete(connection, skus)
        is_filling = False  # of which only the whole listing tells
        row = await connection.fetchrow(
            self._mark_some_apart if is_apart else self._mark_some,
            self.channel,
            skus,
            debounce.quiet,
            debounce.max_wait,
            debounce.urgent_below,
            is_change,
            self._guard is not None,
            self._factor,
            is_filling,
        )
        assert row is not None
        if row["names"] is not None:
            await self._twins.note(connection, row["names"], debounce.quiet)
        return await self._guarded(connection, row, read_from, is_whole=False, timeout=None)

    async def mark_all(
        self,
        connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]",
        debounce: Debounce,
        *,
        postpones: bool,
        timeout: timedelta,
        is_apart: bool = False,
        read_from: str | None = None,
    ) -> Marked:
        """Compare the whole listing with the ledger and mark what differs; memory stays in the server.

        `postpones`: the comparison stands for changes, so rows that wait already are put off as by a change. `is_apart`
        as above.
        """
        is_filling, was_good = await self._is_filling(connection)
        row = await connection.fetchrow(
            self._mark_all_apart if is_apart else self._mark_all,
            self.channel,
            None,
            debounce.quiet,
            debounce.max_wait,
            debounce.urgent_below,
            postpones,
            self._guard is not None,
            self._factor,
            is_filling,
            timeout=timeout.total_seconds(),
        )
        assert row is not None
        await self._twins.note(connection, None, debounce.quiet, timeout.total_seconds())
        if is_filling and not await self._holds_filling(connection, row) and not was_good:
            await connection.execute(_SQL["tell_owners"], self.channel)
        return await self._guarded(connection, row, read_from, is_whole=True, timeout=timeout.total_seconds())

    async def refused_skus(
        self, connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]", timeout: timedelta
    ) -> RefusedSkus | None:
        """Return the listing's SKUs that the ledger can't hold; None while a row keeps all of them unread."""
        try:
            with translated(f"{self.channel}: reading the listing"):
                # Taken back, so that the commit of what was marked does not keep the listing's tables locked.
                async with taken_back(connection):
                    return await refused_skus(connection, self._listing, timeout)
        except BadRow:
            return None

    async def _guarded(
        self,
        connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]",
        row: asyncpg.Record,
        read_from: str | None,
        *,
        is_whole: bool,
        timeout: float | None,
    ) -> Marked:
        """Hold what has become wrong if it is too much at once, before anybody can claim it."""
        held = 0
        if self._guard is not None and row["anomalies"]:
            guard = self._guard
            held = await connection.fetchval(
                _SQL["hold_anomalies"],
                self.channel,
                guard.zero_share,
                guard.zero_count,
                guard.row_share,
                guard.move_factor,
                guard.move_share,
                guard.window,
                guard.drip_share,
                guard.drip_window,
                is_whole,
                read_from,
                timeout=timeout,
            )
        return Marked(row["marked"], row["urgent"], held)

    async def _is_filling(
        self, connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
    ) -> tuple[bool, bool]:
        """Whether a first filling is to be judged, and whether one was found good already."""
        if self._guard is None:
            return False, False
        row = await connection.fetchrow(_SQL["filling"], self.channel)
        assert row is not None
        return not (row["is_good"] and row["has_sent"]), row["is_good"]

    async def _holds_filling(
        self, connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]", row: asyncpg.Record
    ) -> bool:
        """Find a first filling good, or hold it: nothing of it is sent before that, however few of it are known yet."""
        assert self._guard is not None
        rule = self._guard
        is_held: bool = await connection.fetchval(
            _SQL["hold_filling"], self.channel, row["listed"], row["zeroes"], rule.zero_share, rule.zero_count
        )
        return is_held

    async def claim(
        self,
        owner: Owner,
        limit: int,
        settle: timedelta,
        *,
        is_urgent_only: bool = False,
        is_sync: bool = False,
        take_on: Callable[[Claim], None] | None = None,
    ) -> Claim:
        """Claim up to `limit` due rows, urgent ones first; what is claimed is committed when this returns.

        `is_sync`: rows whose turn in a sync it is, instead of those that are due. `take_on` is told of the claim as
        soon as it is committed. Raises TableLocked when the ERP has a table of the listing locked, and
        StoreUnavailable when the commit's fate is unknown, too: nothing of the claim may be sent then.
        """
        try:
            return await self._claim(owner, limit, settle, is_urgent_only, is_sync, take_on, is_careful=False)
        except BadRow:
            return await self._claim(owner, limit, settle, is_urgent_only, is_sync, take_on, is_careful=True)

    async def _claim(
        self,
        owner: Owner,
        limit: int,
        settle: timedelta,
        is_urgent_only: bool,
        is_sync: bool,
        take_on: Callable[[Claim], None] | None,
        *,
        is_careful: bool,
    ) -> Claim:
        """Capture what is due, read the listing, write the attempts: three statements that commit by themselves, so
        that nothing waits for the listing but this claim. The last is a transaction where more is written.
        """
        claim = Claim()
        async with self._reader.connection(f"{self.channel}: claiming") as connection:
            captured = await self._capture(connection, owner, limit, is_urgent_only, is_sync)
            if not captured:
                return claim
            work = _Work(owner, captured, is_sync)
            # Read in a statement of its own, after the want was captured: never older than what it answers.
            async with self._locks.over(connection.get_server_pid()) as waiting:
                try:
                    work.listed = await self._listed(connection, work.skus, is_apart=is_careful)
                except asyncpg.LockNotAvailableError as error:
                    if may_be_of_a_row(error):
                        raise
                    raise TableLocked(f"{self.channel}: reading the listing: {waiting}") from error
            # A row that fails, and was not found in time, stays due.
            work.keep(lambda one: one.sku not in work.listed or work.listed[one.sku].fault != "")
            if shared := await self._twins.note_read(connection, work.captured, work.listed):
                work.keep(lambda one: one.sku not in shared)
            self._decide(work, [])
            if self._is_plain(work):
                await self._open(connection, work, claim)
            else:
                async with transaction_on(connection):
                    await self._write(connection, work, claim, settle)
            claim.looked_at = len(captured)
            if take_on is not None:
                take_on(claim)
        return claim

    async def _capture(
        self,
        connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]",
        owner: Owner,
        limit: int,
        is_urgent_only: bool,
        is_sync: bool,
    ) -> "list[asyncpg.Record]":
        whose = (self.channel, *owner.columns, limit)
        is_guarded = self._guard is not None
        if is_sync:
            return await connection.fetch(_SQL["capture_sync"], *whose, is_guarded)
        others = 0 if is_urgent_only else limit
        return await connection.fetch(_SQL["capture_due"], *whose, others, is_guarded)

    def _decide(self, work: "_Work", successors: Sequence["_Successor"]) -> None:
        # A successor that is claimed here is decided upon with what it has just taken over.
        work.deliveries = [_after_takeover(delivery, successors) for delivery in work.deliveries]
        work.decisions = {
            delivery.sku: decide(
                delivery,
                work.listed.get(delivery.sku),
                has_successor=any(
                    successor.takes_over for successor in successors if successor.of == delivery.sku
                ),
                problem=self._problem,
                factor=self._factor,
            )
            for delivery in work.deliveries
        }

    def _is_plain(self, work: "_Work") -> bool:
        """Whether there is nothing to do but to send numbers that a marking has seen, under the names they had."""
        return all(self._is_plain_send(work, delivery) for delivery in work.deliveries)

    def _is_plain_send(self, work: "_Work", delivery: Delivery) -> bool:
        listed = work.listed.get(delivery.sku)
        return (
            isinstance(work.decisions[delivery.sku], Send)
            and listed is not None
            and delivery.identifiers in (None, listed.identifiers)
            and not (self._guard is not None and unseen_anomaly(delivery, listed, self._factor))
        )

    async def _write(
        self,
        connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]",
        work: "_Work",
        claim: Claim,
        settle: timedelta,
    ) -> None:
        """Write all that is decided, of rows that are as they were captured; others wait for the next claim."""
        owner = work.owner.of(work.slots)
        mine = {
            row["slot"] for row in await connection.fetch(_SQL["own_slots"], self.channel, *owner.columns)
        }
        if not mine:
            return
        ours = {Sku(row["sku"]) for row in work.captured if row["slot"] in mine}
        work.keep(lambda delivery: delivery.sku in ours)
        versions = [row["version"] for row in work.captured]
        rows = await connection.fetch(_SQL["lock_unchanged"], self.channel, work.skus, versions)
        unchanged = {row["sku"] for row in rows}
        work.keep(lambda delivery: delivery.sku in unchanged or self._is_plain_send(work, delivery))
        successors = await self._successors(connection, work.moved())
        self._decide(work, successors)
        work.keep(lambda one: one.sku in unchanged or isinstance(work.decisions[one.sku], Send))
        await self._defer_unseen(connection, work.deliveries, work.decisions, work.listed)
        await self._write_decisions(connection, work.decisions, work.listed, claim)
        if successors:
            # Another SKU answers for them now: they were no falls.
            passed_on = {successor.of for successor in successors if successor.takes_over} & set(
                claim.forgotten
            )
            await connection.execute(_SQL["forget_anomalies"], self.channel, list(passed_on))
            handed_over = [
                {
                    "sku": successor.sku,
                    "identifiers": successor.identifiers,
                    "is_doubted": successor.is_doubted,
                }
                for successor in successors
            ]
            await connection.execute(_SQL["hand_over_identifiers"], self.channel, _json(handed_over), settle)
        await self._open(connection, work, claim)

    async def _defer_unseen(
        self,
        connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]",
        deliveries: Sequence[Delivery],
        decisions: dict[Sku, Decision],
        listed: Mapping[Sku, Listed],
    ) -> None:
        """Wrong numbers that no marking has counted (it looked before, or without looking) go only if few."""
        unseen = [
            (delivery, kind)
            for delivery in deliveries
            if isinstance(decisions[delivery.sku], Send)
            and (kind := unseen_anomaly(delivery, listed.get(delivery.sku), self._factor)) is not None
        ]
        if self._guard is None or not unseen:
            return
        may_go = await connection.fetchval(
            _SQL["pass_anomalies"],
            self.channel,
            self._guard.zero_share,
            self._guard.zero_count,
            self._guard.window,
            [delivery.sku for delivery, _ in unseen],
            [kind for _, kind in unseen],
            [delivery.acked_quantity for delivery, _ in unseen],
        )
        if not may_go:
            decisions.update((delivery.sku, Defer()) for delivery, _ in unseen)

    async def _listed(
        self,
        connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]",
        skus: Sequence[Sku],
        *,
        is_apart: bool,
    ) -> dict[Sku, Listed]:
        statement = self._read_listing_apart if is_apart else self._read_listing
        listed: dict[Sku, Listed] = {}
        for start in range(0, len(skus), _PORTION):
            portion = skus[start : start + _PORTION]
            wanted = await self._twins.complete(connection, portion)
            async with self._reader.reading(connection):
                rows = await connection.fetch(statement, portion, wanted)
            listed |= {Sku(row["sku"]): listed_of(row) for row in rows}
        return listed

    async def _successors(
        self, connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]", moved: Sequence[Sku]
    ) -> list[_Successor]:
        if not moved:
            return []
        rows = await connection.fetch(_SQL["successors"], self.channel, moved)
        return [
            _Successor(row["sku"], row["successor"], row["identifiers"], row["takes_over"], row["is_doubted"])
            for row in rows
        ]

    async def _write_decisions(
        self,
        connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]",
        decisions: Mapping[Sku, Decision],
        listed: Mapping[Sku, Listed],
        claim: Claim,
    ) -> None:
        claim.settled = [sku for sku, decision in decisions.items() if isinstance(decision, Settled)]
        claim.forgotten = [sku for sku, decision in decisions.items() if isinstance(decision, Forget)]
        claim.parked = {
            sku: decision.reason for sku, decision in decisions.items() if isinstance(decision, Park)
        }
        claim.held = [sku for sku, decision in decisions.items() if isinstance(decision, Hold)]
        claim.deferred = [sku for sku, decision in decisions.items() if isinstance(decision, Defer)]
        claim.left = [sku for sku, decision in decisions.items() if isinstance(decision, Leave)]
        waiting = [sku for sku, decision in decisions.items() if isinstance(decision, Wait)]
        for name, skus in (
            ("close_settled", claim.settled),
            ("forget", claim.forgotten),
            ("await_settling", waiting),
            ("keep_held", claim.held),
            ("defer", claim.deferred),
        ):
            if skus:
                await connection.execute(_SQL[name], self.channel, skus)
        if claim.left:
            kept = [
                sku
                for sku, decision in decisions.items()
                if isinstance(decision, Leave) and decision.keeps_name
            ]
            await connection.execute(_SQL["leave_to_carrier"], self.channel, claim.left, kept)
        if claim.parked:
            await self._park(connection, claim.parked, listed)

    async def _park(
        self,
        connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]",
        reasons: Mapping[Sku, str],
        listed: Mapping[Sku, Listed],
    ) -> None:
        nothing = Listed(0, (), None)
        rows = [
            {
                "sku": sku,
                "reason": reason,
                "rows": (found := listed.get(sku, nothing)).rows,
                "identifiers": found.identifiers or None,
                "quantity": found.quantity,
            }
            for sku, reason in reasons.items()
        ]
        await connection.execute(_SQL["park"], self.channel, _json(rows))

    async def _open(
        self, connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]", work: "_Work", claim: Claim
    ) -> None:
        sends = work.sends()
        if not sends:
            return
        slots = {Sku(row["sku"]): Slot(row["slot"]) for row in work.captured}
        owner = work.owner.of({slots[sku] for sku in sends})
        rows = await connection.fetch(
            _SQL["open_attempts"],
            self.channel,
            *owner.columns,
            _json(
                [
                    {
                        "sku": row["sku"],
                        "version": row["version"],
                        "want_seq": row["want_seq"],
                        "was": row["identifiers"],
                        "quantity": send.quantity,
                        "identifiers": send.identifiers,
                        "is_delisting": send.is_delisting,
                        "is_zero": is_zero(work.listed.get(row["sku"])),
                    }
                    for row in work.captured
                    if (send := sends.get(row["sku"])) is not None
                ]
            ),
            work.is_sync,
        )
        ids = {row["sku"]: AttemptId(row["attempt_id"]) for row in rows}
        claim.attempts = [
            Attempt(
                ids[delivery.sku],
                Push(delivery.sku, send.identifiers, send.quantity),
                delivery.failures,
                send.is_delisting,
                delivery.is_urgent,
                slots[delivery.sku],
            )
            for delivery in work.deliveries
            if (send := sends.get(delivery.sku)) is not None and delivery.sku in ids
        ]

    async def complete(self, holder: str, completions: Sequence[Completion], settle: timedelta) -> Written:
        """Write the outcomes of attempts whose slots this holder still has under the attempts' epochs. What the
        database's encoding lacks in the partner's words is spelled in ASCII.

        Raises StoreUnavailable: nothing, or all of it, was written; trying again is safe.
        """
        rows = [
            {
                "sku": done.sku,
                "slot": done.slot,
                "attempt_id": done.attempt_id,
                "outcome": done.conclusion.outcome,
                "reason": done.conclusion.reason,
                "is_parked": done.conclusion.is_parked,
                "wait_s": done.conclusion.wait.total_seconds(),
                "duration_ms": None if done.duration is None else done.duration.total_seconds() * 1000,
            }
            for done in completions
        ]
        async with self._database.connection(f"{self.channel}: writing outcomes") as connection:
            text = _json(await storable(connection, rows))
            written = await connection.fetch(_SQL["complete"], self.channel, holder, settle, text)
        return Written(
            any(row["is_due"] for row in written),
            [row["took_s"] for row in written if row["took_s"] is not None],
        )

    async def rescue(self, owner: Owner, in_hand: Collection[AttemptId], settle: timedelta) -> int:
        """Turn open attempts of these slots that no process waits for into doubt; return how many there were."""
        async with self._database.connection(f"{self.channel}: rescuing attempts") as connection:
            count: int = await connection.fetchval(
                _SQL["rescue"], self.channel, *owner.columns, settle, list(in_hand)
            )
        return count

    async def next_due(self, slots: Collection[Slot]) -> Due:
        """Return when there is something to claim next in these slots."""
        async with self._database.connection(f"{self.channel}: looking for work") as connection:
            row = await connection.fetchrow(
                _SQL["next_due"], self.channel, list(slots), self._guard is not None
            )
        assert row is not None
        return Due(*(None if s is None else timedelta(seconds=s) for s in (row["due_s"], row["sync_s"])))

    async def is_backlog_above(self, rows: int, slots: Collection[Slot]) -> bool:
        """Whether more than that many rows are due in these slots."""
        async with self._database.connection(f"{self.channel}: looking at the backlog") as connection:
            is_above: bool = await connection.fetchval(
                _SQL["is_backlog_above"], self.channel, list(slots), rows
            )
        return is_above

    async def end_sync(self) -> tuple[int | None, bool]:
        """End the channel's sync if every SKU has had its turn: its number, or None; and whether one is still open."""
        async with self._database.connection(f"{self.channel}: ending a sync") as connection:
            row = await connection.fetchrow(_SQL["end_sync"], self.channel)
        assert row is not None
        return row["ended"], row["is_open"]

    async def backlog(self) -> Backlog:
        """Count this channel's rows: one pass over them, for a heartbeat and not for a loop."""
        async with self._database.connection(f"{self.channel}: counting the backlog") as connection:
            row = await connection.fetchrow(_SQL["backlog"], self.channel)
        assert row is not None
        oldest = row["oldest_s"]
        return Backlog(
            row["skus"],
            row["backlog"],
            row["doubt"],
            row["parked"],
            row["in_flight"],
            None if oldest is None else timedelta(seconds=oldest),
            row["held"],
            row["on_sale"],
        )


def _delivery(row: asyncpg.Record) -> Delivery:
    identifiers = row["identifiers"]
    return Delivery(
        Sku(row["sku"]),
        row["acked_quantity"],
        None if identifiers is None else tuple(identifiers),
        row["is_doubted"],
        row["is_settled"],
        row["is_acked_since_doubt"],
        row["failures"],
        row["urgent"],
        row["is_held"],
        row["is_zero_known"],
        row["listed_quantity"],
        None if row["listed_identifiers"] is None else tuple(row["listed_identifiers"]),
        tuple(row["twins"] or ()),
    )


def _after_takeover(delivery: Delivery, successors: Sequence[_Successor]) -> Delivery:
    for successor in successors:
        if successor.sku == delivery.sku:
            delivery = delivery._replace(identifiers=tuple(successor.identifiers))
            if successor.is_doubted:
                delivery = delivery._replace(is_doubted=True, is_settled=False, is_acked_since_doubt=False)
    return delivery


def _json(rows: list[dict[str, Any]]) -> str:
    return json.dumps(rows, ensure_ascii=False, separators=(",", ":"))
