"""Carries one channel's runs out: looks, keeps what became of differences, heals, tells the person in charge."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, cast

import structlog

from daemon import clock
from daemon.core.errors import LeaseLost, StockrelayError
from daemon.core.notice import RECONCILE_DIGEST, Notice
from daemon.core.reconcile import REMEMBERED, Seen, Turn, seen
from daemon.core.types import ChannelName
from daemon.partners.partner import Comparing, Partner, ReadingBack
from daemon.services.reconcile.comparing import METHOD as COMPARE
from daemon.services.reconcile.comparing import CompareRun
from daemon.services.reconcile.reading import ASSERT, METHOD, AssertRun, ReadRefused, ReadRun
from daemon.services.reconcile.session import Limits, PartnerSilent, Session, Tell
from daemon.store.proof import Proofs
from daemon.store.reconcile import Finding, Reconciles, Run, Told

log = structlog.get_logger(__name__)

_BATCH: Final = 500
_SHOWN: Final = 50
"""How many differences of a kind stand in a digest; the rest is counted."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A run that is over. `report` is what the digest says; `why`: what kept it from being complete."""

    run: Run
    report: dict[str, Any]
    why: str | None


class Reconciler:
    """One channel's: finds out how its partner can be reconciled, and does it."""

    def __init__(
        self, channel: ChannelName, partner: Partner, runs: Reconciles, proofs: Proofs, limits: Limits
    ) -> None:
        self.channel = channel
        self.partner = partner
        self.runs = runs
        self.proofs = proofs
        self.limits = limits

    @property
    def reads_back(self) -> bool:
        """Whether numbers are read back: then one run stands for all days that were missed."""
        return hasattr(self.partner, "read_page")

    async def carry_out(self, run: Run, tell: Tell, *, is_last_try: bool) -> Ended:
        """Carry a run out to its end, from where it stopped; its lease is kept meanwhile.

        A run whose partner gives no answer ends incomplete on the last try. Raises PartnerSilent before that,
        LeaseLost when another has the run, StockrelayError.
        """
        began = clock.monotonic()
        working = asyncio.create_task(self._work(run, tell, began, is_last_try=is_last_try), name="reconcile")
        keeping = asyncio.create_task(self._keep(run), name="reconcile-lease")
        try:
            await asyncio.wait((working, keeping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (working, keeping):
                task.cancel()
            ended, _ = await asyncio.gather(working, keeping, return_exceptions=True)
        if isinstance(ended, asyncio.CancelledError):
            raise LeaseLost(f"{run.channel}: another carries out the reconcile of {run.day}")
        if isinstance(ended, BaseException):
            raise ended
        return ended

    async def _keep(self, run: Run) -> None:
        """Renew the run's lease; ends when another has it. A database that is away for a moment is not that."""
        while True:
            await asyncio.sleep(self.limits.lease.total_seconds() / 4)
            try:
                if not await self.runs.renew(run, self.limits.lease):
                    return
            except StockrelayError as error:
                log.warning("reconcile.lease_unavailable", channel=run.channel, reason=str(error))

    async def _work(self, run: Run, tell: Tell, began: float, *, is_last_try: bool) -> Ended:
        session = Session(run, self.runs, self.proofs, self.limits, tell)
        method = run.method
        why: str | None = None
        try:
            method, why = await self._looked(session)
        except PartnerSilent as error:
            if not is_last_try:
                raise
            advice = f" ({error.outcome.advice})" if error.outcome.advice else ""
            why = f"the partner gave no answer: {error.outcome.reason}{advice}"
            method = method or (METHOD if self.reads_back else COMPARE)
        return await self._conclude(session, method, why, began)

    async def _looked(self, session: Session) -> tuple[str, str | None]:
        run, lease = session.run, self.limits.lease
        if not self.reads_back:
            if run.method is None:
                await self.runs.set_method(run, lease, COMPARE)
            await CompareRun(session, cast("Comparing", self.partner)).look()
            return COMPARE, None
        if run.method != ASSERT:
            if run.method is None:
                await self.runs.set_method(run, lease, METHOD)
            try:
                return METHOD, await ReadRun(session, cast("ReadingBack", self.partner)).look()
            except ReadRefused as error:
                log.warning("reconcile.reading_refused", channel=run.channel, reason=str(error))
                await self.proofs.forget_looks(self.runs, run, lease)
                await self.runs.set_method(run, lease, ASSERT)
        if not self.limits.heal and not run.is_dry:
            return ASSERT, "the partner does not let numbers be read back (0005), and reconcile.heal is off"
        await AssertRun(session).look()
        return ASSERT, None

    # What comes of it

    async def _conclude(self, session: Session, method: str, why: str | None, began: float) -> Ended:
        run = session.run
        heal = self.limits.heal and not run.is_dry
        told = await self._lives(session, heal=heal)
        chunks = [] if method == ASSERT else await self.runs.unnamed_chunks(run)
        if heal:
            for chunk in chunks:
                await self.runs.reassert(run, self.limits.lease, chunk.suspects, self.limits.heal_per_s)
        if not run.is_dry:
            await self.runs.age(run, self.limits.lease, REMEMBERED)
            told = await self.runs.turns(run, _SHOWN)
        counts = await self.runs.counts(run)
        numbers = {turn: told.get(turn, Told()) for turn in Turn}
        differing = sum(numbers[turn].listed for turn in Turn if turn is not Turn.RESOLVED)
        report: dict[str, Any] = {
            "day": run.day.isoformat(),
            "method": method,
            "checked": counts.checked,
            "agreed": 0 if method == ASSERT else max(0, counts.checked - differing),
            **{turn.value: numbers[turn].items for turn in Turn},
            "unnamed_chunks": [
                {
                    "chunk": chunk.chunk,
                    "first_sku": chunk.suspects[0],
                    "last_sku": chunk.suspects[-1],
                    "skus": len(chunk.suspects),
                    "words": chunk.words,
                }
                for chunk in chunks[:_SHOWN]
            ],
            "unsettled": counts.unsettled,
            "parked": counts.parked,
            "healed": counts.healed,
            "heal": heal,
            "incomplete": why,
            "took_s": round((run.age + timedelta(seconds=clock.monotonic() - began)).total_seconds(), 1),
        }
        more = {turn.value: n.many - len(n.items) for turn, n in numbers.items() if n.many > len(n.items)}
        if len(chunks) > _SHOWN:
            more["unnamed_chunks"] = len(chunks) - _SHOWN
        report["more"] = more
        if run.is_dry:
            return Ended(run, report, why)
        notice = Notice(RECONCILE_DIGEST, f"digest:{run.channel}:{run.run_id}", run.channel, report)
        await self.runs.finish(run, why=why, report=report, notice=notice)
        _log_end(run, report, {turn.value: numbers[turn].many for turn in Turn}, len(chunks))
        return Ended(run, report, why)

    async def _lives(self, session: Session, *, heal: bool) -> dict[Turn, Told]:
        """Make of each finding what its life so far says. A dry run keeps nothing, and counts here."""
        run = session.run
        told: dict[Turn, Told] = {}
        after = ("", "")
        while findings := await self.runs.next_findings(run, after, _BATCH):
            results = self._judged(findings, heal=heal)
            if run.is_dry:
                _count(told, results)
            elif results:
                await self.runs.keep(run, self.limits.lease, results, self.limits.heal_per_s)
            after = (findings[-1].kind, findings[-1].sku)
            session.tell("kept", len(findings), None)
        return told

    def _judged(self, findings: Sequence[Finding], *, heal: bool) -> list[tuple[Finding, Seen]]:
        results = []
        for found in findings:
            if found.differs:
                contested_after = self.limits.contested_after
                result = seen(found.life, found.kind, found.now, heal=heal, contested_after=contested_after)
                results.append((found, result))
            elif found.life is not None and found.life.is_open:
                closed = replace(found.life, is_open=False)
                results.append((found, Seen(closed, Turn.RESOLVED, is_healed=False)))
        return results


def _count(told: dict[Turn, Told], results: Sequence[tuple[Finding, Seen]]) -> None:
    for found, result in results:
        of = told.setdefault(result.turn, Told())
        of.many += 1
        of.listed += found.kind != "missing_in_listing"
        if len(of.items) < _SHOWN:
            of.items.append(
                {
                    "class": found.kind.value,
                    "sku": found.sku,
                    "ours": found.ours,
                    "theirs": found.theirs,
                    "first_seen": _iso(result.life.first_seen),
                    "times_seen": result.life.times_seen,
                    "heals": result.life.heals,
                }
            )


def _iso(at: datetime) -> str:
    return at.isoformat()


def _log_end(run: Run, report: dict[str, Any], turns: dict[str, int], unnamed: int) -> None:
    fields = {
        "channel": run.channel,
        "run": run.run_id,
        "day": report["day"],
        "method": report["method"],
        "checked": report["checked"],
        **turns,
        "unnamed_chunks": unnamed,
        "unsettled": report["unsettled"],
        "healed": report["healed"],
        "duration_s": report["took_s"],
    }
    if report["incomplete"] is None:
        log.info("reconcile.run_finished", **fields)
    else:
        log.error("reconcile.run_incomplete", reason=report["incomplete"], **fields)
