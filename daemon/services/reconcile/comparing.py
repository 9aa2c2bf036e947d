"""Reconciling by question: the day's SKUs and their numbers, chunk by chunk, "is this what you hold?"."""

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Final

from daemon.core.outcome import Kind, Outcome
from daemon.core.readback import Comparison
from daemon.core.reconcile import Bisected, bisect
from daemon.core.types import Push, Sku
from daemon.marketplaces.client import Compares
from daemon.services.reconcile.session import Session, count_unsettled
from daemon.store.comparing import ComparedRow
from daemon.store.reconcile_rows import Chunk, DifferingChunk

METHOD: Final = "compare"


@dataclass(eq=False)
class CompareRun:
    """One run against a marketplace that compares. The result of a chunk is kept before the next is sent."""

    session: Session
    marketplace: Compares

    async def look(self) -> None:
        """Both looks, from where the run stopped. Raises MarketplaceUnavailable, LeaseLost."""
        session = self.session
        run, runs = session.run, session.runs
        stage = run.stage
        if stage == 0:
            await self._first_look()
            so_far = await runs.progress(run, 1)
            stage = 1
            await runs.set_stage(run, stage, (so_far.asked, so_far.unsettled, so_far.parked), None)
        if stage == 1:
            await self._second_look()
            one, two = await runs.progress(run, 1), await runs.progress(run, 2)
            counts = (one.asked, one.unsettled + two.unsettled, one.parked)
            await runs.set_stage(run, 2, counts, None)

    async def _first_look(self) -> None:
        session = self.session
        async with aclosing(session.day_chunks("compared")) as chunks:
            async for chunk, rows in chunks:
                pushes = _pushes(rows)
                answer = await self._asked(pushes)
                named = _named(answer, pushes)
                result = replace(
                    chunk,
                    asked=len(pushes),
                    state="agreed" if answer.agrees else "differs" if named else "unnamed",
                    suspects=() if answer.agrees else named or [push.sku for push in pushes],
                    words=answer.words,
                )
                agreed = [push.sku for push in pushes if answer.agrees or (named and push.sku not in named)]
                await session.runs.note_chunk(session.run, result, agreed=agreed)

    async def _second_look(self) -> None:
        """What differed is asked about once more, with the numbers of now: only what differs twice counts."""
        session = self.session
        looked_at = 0
        while chunks := await session.runs.differing_chunks(session.run):
            if looked_at == 0:
                await session.rested()
            for chunk in chunks:
                session.report("looked at again", looked_at, None)
                await self._look_again(chunk)
                looked_at += 1

    async def _look_again(self, first: DifferingChunk) -> None:
        session = self.session
        rows = await session.settled_rows(first.suspects)
        pushes = _pushes(rows)
        answer = await self._asked(pushes)
        differing: Sequence[Sku] = ()
        left: Sequence[Sku] = ()
        calls = 0
        if not answer.agrees:
            differing = _named(answer, pushes)
            if not differing and (first.is_named or len(pushes) == 1):
                # These alone were compared again, and the marketplace did not agree.
                differing = [push.sku for push in pushes]
            elif not differing:
                differing, left, calls = await self._searched(pushes)
        ours = {push.sku: push.quantity for push in pushes}
        unsure = {*differing, *left}
        chunk = Chunk(
            2,
            first.chunk,
            first.suspects[0],
            first.suspects[-1],
            len(pushes),
            "agreed" if answer.agrees else "unnamed" if left else "differs",
            unsettled=count_unsettled(rows),
            suspects=left or differing,
            words=answer.words or first.words,
            calls=calls,
        )
        await session.runs.note_chunk(
            session.run,
            chunk,
            differing={sku: ours[sku] for sku in differing},
            agreed=[sku for sku in ours if sku not in unsure],
        )

    async def _searched(self, pushes: Sequence[Push]) -> tuple[Sequence[Sku], Sequence[Sku], int]:
        """Bisect for the SKUs that differ; return those found, those left (bisection is off, or its calls ran out), the
        calls."""
        session = self.session
        skus = [push.sku for push in pushes]
        if not session.limits.settings.bisect:
            return (), skus, 0
        spent = (await session.runs.progress(session.run, 2)).calls
        by_sku: Mapping[Sku, Push] = {push.sku: push for push in pushes}
        search = bisect(skus, max(0, session.limits.settings.bisect_calls - spent))
        found = Bisected((), (tuple(skus),), 0)
        try:
            group = next(search)
            while True:
                answer = await self._asked([by_sku[sku] for sku in group])
                group = search.send(not answer.agrees)
        except StopIteration as end:
            found = end.value
        return found.found, [sku for group in found.groups for sku in group], found.calls

    async def _asked(self, pushes: Sequence[Push]) -> Comparison:
        def unanswered(answer: Comparison) -> Outcome | None:
            return answer.outcome if answer.agrees is None else None

        if not pushes:
            return Comparison(agrees=True, outcome=Outcome(Kind.APPLIED))
        timeout = self.session.limits.timeout
        return await self.session.answered(lambda: self.marketplace.compare(pushes, timeout), unanswered)


def _pushes(rows: Sequence[ComparedRow]) -> list[Push]:
    pushes = []
    for row in rows:
        if row.is_settled and not row.is_parked and row.quantity is not None:
            identifiers = tuple(part for part in row.identifiers if part is not None)
            pushes.append(Push(row.sku, identifiers, row.quantity))
    return pushes


def _named(answer: Comparison, pushes: Sequence[Push]) -> list[Sku]:
    asked = {push.sku for push in pushes}
    return [] if answer.agrees else [sku for sku in answer.named if sku in asked]
