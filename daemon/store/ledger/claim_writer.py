"""Writing what a claim decides: attempts, and what becomes of the rows that are not sent."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta

from daemon.core.guard import GuardRule
from daemon.core.plan import (
    CoveredBySum,
    NoSend,
    Park,
    Send,
    is_zero,
    unseen_anomaly,
)
from daemon.core.types import AttemptId, ChannelName, Push, Sku, Slot
from daemon.store import queries
from daemon.store.ledger import Attempt, Claim, Shadowed
from daemon.store.ledger.claimed import ClaimedRows, Successor, as_json
from daemon.store.listing import as_row
from daemon.store.rows import Connection, row_as

_SQL = queries.load("ledger")


class ClaimWriter:
    """Writes one channel's claims. `guard`: what is held; None: nothing ever is."""

    def __init__(self, channel: ChannelName, guard: GuardRule | None) -> None:
        self._channel = channel
        self._guard = guard

    async def write(
        self, connection: Connection, work: ClaimedRows, claim: Claim, settle: timedelta, *, is_shadow: bool
    ) -> None:
        """Write all that is decided, of rows that are as they were captured; others wait for the next claim.
        `is_shadow`: what would be sent is kept, and not sent."""
        owner = work.owner.of(work.slots)
        slots = await connection.fetch(_SQL["own_slots"], self._channel, *owner.columns)
        mine = {row["slot"] for row in slots}
        if not mine:
            return
        ours = {Sku(row["sku"]) for row in work.records if row["slot"] in mine}
        work.keep(lambda row: row.sku in ours)
        versions = [row["version"] for row in work.records]
        rows = await connection.fetch(_SQL["lock_unchanged"], self._channel, work.skus, versions)
        unchanged = {row["sku"] for row in rows}
        work.keep(lambda row: row.sku in unchanged or (not is_shadow and work.is_plain_send(row)))
        successors = await self._successors(connection, work.moved())
        work.decide(successors)
        if not is_shadow:
            work.keep(lambda one: one.sku in unchanged or isinstance(work.decisions[one.sku], Send))
        await self._defer_unseen(connection, work)
        await self._write_decisions(connection, work, claim)
        if successors:
            # Another SKU answers for them now: they were no falls.
            passed_on = {one.of for one in successors if one.takes_over} & set(claim.forgotten)
            await connection.execute(_SQL["forget_anomalies"], self._channel, list(passed_on))
            handed_over = as_json([asdict(successor) for successor in successors])
            await connection.execute(_SQL["hand_over_identifiers"], self._channel, handed_over, settle)
        if is_shadow:
            await self._withhold(connection, work, claim)
        else:
            await self.open(connection, work, claim)

    async def _defer_unseen(self, connection: Connection, work: ClaimedRows) -> None:
        """Wrong numbers that no marking has counted (it looked before, or without looking) go only if few."""
        guard = self._guard
        if guard is None:
            return
        unseen = [
            (row, kind)
            for row in work.rows
            if isinstance(work.decisions[row.sku], Send)
            and (kind := unseen_anomaly(row, work.listed.get(row.sku), guard.move_factor)) is not None
        ]
        if not unseen:
            return
        columns = zip(*((one.sku, kind, one.acked_quantity) for one, kind in unseen), strict=True)
        rules = (guard.zero_share, guard.zero_count, guard.window)
        if not await connection.fetchval(_SQL["pass_anomalies"], self._channel, *rules, *columns):
            work.decisions.update((row.sku, NoSend.DEFER) for row, _ in unseen)

    async def _successors(self, connection: Connection, moved: Sequence[Sku]) -> list[Successor]:
        if not moved:
            return []
        rows = await connection.fetch(_SQL["successors"], self._channel, moved)
        return [row_as(Successor, row) for row in rows]

    async def _write_decisions(self, connection: Connection, work: ClaimedRows, claim: Claim) -> None:
        decisions = work.decisions

        def of(reason: NoSend) -> list[Sku]:
            return [sku for sku, decision in decisions.items() if decision is reason]

        claim.settled, claim.forgotten = of(NoSend.SETTLED), of(NoSend.FORGET)
        claim.held, claim.deferred, claim.waiting = of(NoSend.HOLD), of(NoSend.DEFER), of(NoSend.WAIT)
        covered = {sku: one for sku, one in decisions.items() if isinstance(one, CoveredBySum)}
        claim.covered = list(covered)
        claim.parked = {
            sku: decision.reason for sku, decision in decisions.items() if isinstance(decision, Park)
        }
        for name, skus in (
            ("close_settled", claim.settled),
            ("forget", claim.forgotten),
            ("await_doubt_end", claim.waiting),
            ("keep_held", claim.held),
            ("defer", claim.deferred),
        ):
            if skus:
                await connection.execute(_SQL[name], self._channel, skus)
        if claim.covered:
            kept = [sku for sku, one in covered.items() if one.keeps_name]
            await connection.execute(_SQL["settle_into_sum"], self._channel, claim.covered, kept)
        if claim.parked:
            parked = [
                as_row(sku, work.listed.get(sku)) | {"reason": reason} for sku, reason in claim.parked.items()
            ]
            await connection.execute(_SQL["park"], self._channel, as_json(parked))

    async def _withhold(self, connection: Connection, work: ClaimedRows, claim: Claim) -> None:
        sends = work.sends()
        if not sends:
            return
        owner = work.owner.of(work.slots)
        claimed = []
        for sku, send in sends.items():
            listed = as_row(sku, work.listed.get(sku))
            claimed.append({
                "sku": sku,
                "quantity": send.quantity,
                "identifiers": send.identifiers,
                "rows": listed["rows"],
                "listed_identifiers": listed["identifiers"],
                "listed_quantity": listed["quantity"],
                "is_zero": is_zero(work.listed.get(sku)),
            })  # fmt: skip
        rows = await connection.fetch(_SQL["shadow"], self._channel, *owner.columns, as_json(claimed))
        for row in rows:
            send = sends[Sku(row["sku"])]
            push = Push(Sku(row["sku"]), send.identifiers, send.quantity)
            claim.shadowed.append(Shadowed(push, row["is_new"]))

    async def open(self, connection: Connection, work: ClaimedRows, claim: Claim) -> None:
        sends = work.sends()
        if not sends:
            return
        slots = {Sku(row["sku"]): Slot(row["slot"]) for row in work.records}
        owner = work.owner.of({slots[sku] for sku in sends})
        claimed = [
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
            for row in work.records
            if (send := sends.get(row["sku"])) is not None
        ]
        wanted = (self._channel, *owner.columns, as_json(claimed), work.is_sync)
        rows = await connection.fetch(_SQL["open_attempts"], *wanted)
        ids = {row["sku"]: AttemptId(row["attempt_id"]) for row in rows}
        claim.attempts = [
            Attempt(
                ids[row.sku],
                Push(row.sku, send.identifiers, send.quantity),
                row.failures,
                send.is_delisting,
                row.is_urgent,
                slots[row.sku],
                row.acked_quantity is not None and row.identifiers == send.identifiers,
            )
            for row in work.rows
            if (send := sends.get(row.sku)) is not None and row.sku in ids
        ]
