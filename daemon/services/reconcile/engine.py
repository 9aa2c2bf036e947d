"""Carries out one channel's runs: compares, records differences, heals, posts the digest."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any, Final, assert_never

import structlog

from daemon import clock
from daemon.core.errors import LeaseLost, StockrelayError
from daemon.core.notice import RECONCILE_DIGEST, Notice
from daemon.core.reconcile import REMEMBERED, DifferenceStatus, Seen, seen
from daemon.core.types import ChannelName
from daemon.marketplaces.client import Client, Compares, Neither, ReadsBack
from daemon.services.reconcile.comparing import METHOD as COMPARE
from daemon.services.reconcile.comparing import CompareRun
from daemon.services.reconcile.reading import ASSERT, METHOD, AssertRun, ReadRefused, ReadRun
from daemon.services.reconcile.report import count, log_end, report_of, shortened, would_heal
from daemon.services.reconcile.session import MarketplaceUnavailable, OnProgress, ReconcileLimits, Session
from daemon.store.comparing import ComparedNumbers
from daemon.store.reconcile import Reconciles
from daemon.store.reconcile_rows import DifferenceCounts, FoundDifference, ReconcileRun

log = structlog.get_logger(__name__)

_BATCH: Final = 500
_SHOWN: Final = 50
"""How many differences of a kind stand in a digest; the rest is counted."""
_PRODUCTS_SHOWN: Final = 10


@dataclass(eq=False)
class Reconciler:
    """Reconciles one channel in the way that its marketplace allows. `worst_exposure`: a day's worst SKUs, for the
    digest. `why_not_live`: why nothing was ever sent to the channel, so that there is nothing to compare; None: it is
    live."""

    channel: ChannelName
    client: Client
    runs: Reconciles
    comparisons: ComparedNumbers
    limits: ReconcileLimits
    worst_exposure: Callable[[date], Awaitable[list[dict[str, Any]]]]
    why_not_live: Callable[[], Awaitable[str | None]]

    @property
    def reads_back(self) -> bool:
        """Whether numbers are read back: then one run stands for all days that were missed."""
        return self._first_method() == METHOD

    def _first_method(self) -> str:
        """How a run begins; where reading back is refused, it goes on by sending again."""
        match self.client.verification:
            case Compares():
                return COMPARE
            case ReadsBack():
                return METHOD
            case Neither():
                return ASSERT
            case _ as unknown:
                assert_never(unknown)

    async def carry_out(
        self, run: ReconcileRun, on_progress: OnProgress, *, is_last_try: bool, shown: int = _SHOWN
    ) -> dict[str, Any]:
        """Carry a run out to its end, from where it stopped, and return its report; its lease is kept meanwhile.

        A run whose marketplace gives no answer ends incomplete on the last try. `shown`: how many differences of a
        kind the report holds. Raises MarketplaceUnavailable before that, LeaseLost when another has the run,
        StockrelayError.
        """
        working = asyncio.create_task(
            self._work(run, on_progress, shown, is_last_try=is_last_try), name="reconcile"
        )
        keeping = asyncio.create_task(self._keep(run), name="reconcile-lease")
        try:
            await asyncio.wait((working, keeping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (working, keeping):
                task.cancel()
            ended, kept = await asyncio.gather(working, keeping, return_exceptions=True)
        if isinstance(kept, Exception):
            raise kept
        if isinstance(ended, asyncio.CancelledError):
            raise LeaseLost(f"{run.channel}: another carries out the reconcile of {run.day}")
        return working.result()

    async def give_up(self, run: ReconcileRun, why: str) -> None:
        """End a run that can't go on: what it found so far is kept and reported. Raises as `carry_out`."""
        session = Session(run, self.runs, self.comparisons, self.limits, lambda _progress: None)
        method = run.method or self._first_method()
        await self._conclude(session, method, why, clock.monotonic(), _SHOWN)

    async def _keep(self, run: ReconcileRun) -> None:
        """Renew the run's lease; ends when another has it. A database that is away for a moment is not that."""
        while True:
            await asyncio.sleep(self.limits.lease.total_seconds() / 4)
            try:
                if not await self.runs.renew(run):
                    return
            except StockrelayError as error:
                log.warning("reconcile.lease_unavailable", channel=run.channel, reason=str(error))

    async def _work(
        self, run: ReconcileRun, on_progress: OnProgress, shown: int, *, is_last_try: bool
    ) -> dict[str, Any]:
        began = clock.monotonic()
        session = Session(run, self.runs, self.comparisons, self.limits, on_progress)
        method = run.method
        why: str | None = None
        try:
            method, why = await self._looked(session)
        except MarketplaceUnavailable as error:
            if not is_last_try:
                raise
            advice = f" ({error.outcome.advice})" if error.outcome.advice else ""
            why = f"the marketplace gave no answer: {error.outcome.reason}{advice}"
            method = method or self._first_method()
        return await self._conclude(session, method, why, began, shown)

    async def _looked(self, session: Session) -> tuple[str, str | None]:
        run = session.run
        if (why := await self.why_not_live()) is not None:
            return self._first_method(), why
        if run.method is None:
            await self.runs.set_method(run, self._first_method())
        match self.client.verification:
            case Compares() as verification:
                await CompareRun(session, verification).look()
                return COMPARE, None
            case ReadsBack() as verification if run.method != ASSERT:
                try:
                    return METHOD, await ReadRun(session, verification).look()
                except ReadRefused as error:
                    log.warning("reconcile.reading_refused", channel=run.channel, reason=str(error))
                    await self.comparisons.forget_looks(run)
                    await self.runs.set_method(run, ASSERT)
            case ReadsBack() | Neither():
                pass
            case _ as unknown:
                assert_never(unknown)
        if not self.limits.settings.heal and not run.is_dry:
            return ASSERT, "the marketplace's numbers can't be verified, and reconcile.heal is off"
        await AssertRun(session, lambda: self.limits).look()
        return ASSERT, None

    # The result

    async def _conclude(
        self, session: Session, method: str, why: str | None, began: float, shown: int
    ) -> dict[str, Any]:
        run = session.run
        limits = self.limits
        heal = limits.settings.heal and not (run.is_dry or limits.is_shadow)
        by_status = await self._record_findings(session, shown, heal=heal)
        chunks = [] if method == ASSERT else await self.runs.unnamed_chunks(run)
        if heal:
            for chunk in chunks:
                await self.runs.reassert(run, chunk.suspects, limits.heal_per_s)
        if not run.is_dry:
            await self.runs.age(run, REMEMBERED)
            by_status = await self.runs.count_by_status(run, shown, limits.settings.contested_after)
        took = run.age + timedelta(seconds=clock.monotonic() - began)
        counts = await self.runs.counts(run)
        is_only_said = limits.settings.heal and not heal
        report = report_of(run, method, counts, by_status, chunks) | {
            **(await self._unread(run) if method == METHOD else {}),
            "heal": heal,
            "is_shadow": limits.is_shadow,
            "would_heal": would_heal(method, counts, by_status, chunks) if is_only_said else 0,
            "incomplete": why,
            "took_s": round(took.total_seconds(), 1),
        }
        if not run.is_dry:
            digest = shortened(report, _SHOWN)
            worst = await self.worst_exposure(run.day)
            data = digest | {"exposure": worst}
            notice = Notice(RECONCILE_DIGEST, f"digest:{run.channel}:{run.run_id}", run.channel, data)
            await self.runs.finish(run, why=why, report=digest, notice=notice)
            log_end(run, report)
        return report

    async def _unread(self, run: ReconcileRun) -> dict[str, Any]:
        """What a reading could not compare: malformed products, and SKUs on sale without an identifier."""
        looks = [await self.runs.progress(run, look) for look in (1, 2)]
        found = await self.comparisons.without_identifier(run, _PRODUCTS_SHOWN)
        return {
            "set_aside": max(look.set_aside for look in looks),
            "without_identifier": found.skus,
            "without_identifier_in": list(found.products),
        }

    async def _record_findings(
        self, session: Session, shown: int, *, heal: bool
    ) -> dict[DifferenceStatus, DifferenceCounts]:
        """Record each finding by its history so far. A dry run stores nothing, and counts here."""
        run = session.run
        by_status: dict[DifferenceStatus, DifferenceCounts] = {}
        after = ("", "")
        while findings := await self.runs.next_findings(run, after, _BATCH):
            results = self._judged(findings, heal=heal)
            if run.is_dry:
                count(by_status, results, shown, self.limits.settings.contested_after)
            elif results:
                await self.runs.keep(run, results, self.limits.heal_per_s)
            after = (findings[-1].kind, findings[-1].sku)
            session.report("kept", len(findings), None)
        return by_status

    def _judged(
        self, findings: Sequence[FoundDifference], *, heal: bool
    ) -> list[tuple[FoundDifference, Seen]]:
        results = []
        for found in findings:
            if found.differs:
                contested_after = self.limits.settings.contested_after
                result = seen(
                    found.history, found.kind, found.now, heal=heal, contested_after=contested_after
                )
                results.append((found, result))
            elif found.history is not None and found.history.is_open:
                closed = replace(found.history, is_open=False)
                results.append((found, Seen(closed, DifferenceStatus.RESOLVED, is_healed=False)))
        return results
