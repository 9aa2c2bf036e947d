"""Reconciling by reading back: what the marketplace holds, page by page, compared with the whole listing.

Pages go straight into the database and are judged there: memory does not grow with the number of SKUs.
"""

from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

import structlog

from daemon import clock
from daemon.core.outcome import Kind, Outcome
from daemon.core.readback import ReadLimit, ReadPage
from daemon.marketplaces.client import ReadsBack
from daemon.services.reconcile.session import ReconcileLimits, Session

log = structlog.get_logger(__name__)

METHOD: Final = "read_back"
ASSERT: Final = "assert"


class ReadRefused(Exception):
    """This app may not read back (0005); the message is the marketplace's."""


@dataclass(eq=False)
class ReadRun:
    """One run against a marketplace whose numbers can be read. A page is kept before the next is asked for."""

    session: Session
    marketplace: ReadsBack
    _has_told: bool = False

    def __post_init__(self) -> None:
        self._total: int | None = self.session.run.total
        self._is_shifted = self.session.run.is_shifted

    async def look(self) -> str | None:
        """Both looks, from where the run stopped; return why it is not complete, if it is not.

        Raises MarketplaceUnavailable, ReadRefused, LeaseLost.
        """
        session = self.session
        run, runs, comparisons, limits = session.run, session.runs, session.comparisons, session.limits
        why = run.why if run.stage else None
        if run.stage == 2:
            return why
        stage = await self._stage_after_a_crash()
        if stage == 0:
            await session.settled_channel()
            why = await self._read_all(1)
            session.report("judging", 0, None)
            is_complete = why is None and not await self._set_aside()
            judged = await comparisons.judge(run, 1, limits.rest, is_complete=is_complete)
            stage = 1 if judged.differing else 2
            counts = (judged.checked, judged.unsettled, judged.parked)
            await runs.set_stage(run, stage, counts, why)
        if stage == 1:
            await session.rested()
            if why is None and await comparisons.has_news_of_absence(run):
                why = await self._read_all(2)
                if why is None and self._is_shifted:
                    why = "the marketplace's products changed while they were read: what is missing is not judged"
            else:
                why = await self._read_again(await comparisons.suspect_pages(run)) or why
            session.report("judging", 0, None)
            is_complete = why is None and not await self._set_aside()
            judged = await comparisons.judge(run, 2, limits.rest, is_complete=is_complete)
            counts = (judged.checked, judged.unsettled, judged.parked)
            await runs.set_stage(run, 2, counts, why)
        return why

    async def read_all(self) -> str | None:
        """Read every page once and judge nothing; return why that is not all there is. A shop without any products is
        all there is: nothing follows from what is missing. Raises as `look`."""
        why = await self._read_all(1)
        return None if self._total == 0 else why

    async def _stage_after_a_crash(self) -> int:
        """Return the stage to go on from. A crash of the database's server loses what was read: it is read again."""
        session = self.session
        run = session.run
        so_far = await session.runs.progress(run, 1)
        if so_far.chunk == 0:
            return 0
        counts = await session.comparisons.count_read(run, 1)
        is_kept = counts.numbers == so_far.asked if run.stage == 0 else counts.numbers > 0
        if is_kept:
            return run.stage
        await session.comparisons.forget_looks(run)
        self._total = None
        return 0

    async def _read_all(self, look: int) -> str | None:
        """Read every page, from where this look stopped; return why what was read is not all there is."""
        session = self.session
        run = session.run
        so_far = await session.runs.progress(run, look)
        number, products = so_far.chunk, so_far.products
        limit = ReadLimit(await session.comparisons.count_ledger_skus(), so_far.asked, number)
        problem: str | None = None
        if number == 0:
            self._total, self._is_shifted = None, False
        while True:
            page, took = await self._page_with_total(number + 1)
            if page.products == 0:
                break
            if problem := limit.problem(page):
                break
            number += 1
            products += page.products
            self._tell_set_aside(number, page)
            await session.comparisons.keep_page(run, look, number, page, took)
            session.report("read", products, page.total)
            if products >= page.total:
                break
        await session.comparisons.drop_pages_after(run, number)
        if problem is not None:
            return f"page {number + 1} of the marketplace's products is not read: {problem}"
        if page.total == 0:
            return "the marketplace shows no products at all"
        counts = await session.comparisons.count_read(run, look)
        if counts.products < page.total:
            return f"{counts.products} of the marketplace's {page.total} products could be read"
        if not counts.numbers and await self._set_aside():
            return f"none of the marketplace's {page.total} products could be read"
        return None

    async def _page_with_total(self, number: int) -> tuple[ReadPage, timedelta]:
        """Read one page, and note how many products it says there are. If that differs from the page before, it is
        read once more, and the second reading counts."""
        page, took = await self._page(number)
        if self._total is not None and page.total != self._total:
            page, took = await self._page(number)
        if page.total != self._total:
            self._is_shifted = self._total is not None
            self._total = page.total
            await self.session.runs.set_total(self.session.run, page.total, is_shifted=self._is_shifted)
        return page, took

    async def _set_aside(self) -> int:
        """Count the malformed products and SKUs: any SKU that was not seen may be one of them."""
        session = self.session
        return sum([(await session.runs.progress(session.run, look)).set_aside for look in (1, 2)])

    def _tell_set_aside(self, number: int, page: ReadPage) -> None:
        """Log the first page of this run with something malformed; the report counts them all."""
        if not page.set_aside or self._has_told:
            return
        self._has_told = True
        run = self.session.run
        log.warning(
            "reconcile.products_set_aside",
            channel=run.channel,
            run=run.run_id,
            page=number,
            set_aside=page.set_aside,
            reason=page.problem,
        )

    async def _read_again(self, pages: Sequence[int]) -> str | None:
        """Read these pages once more; return why not all of them were."""
        session = self.session
        limit = ReadLimit(await session.comparisons.count_ledger_skus())
        for done, number in enumerate(pages):
            session.report("looked at again", done, len(pages))
            page, took = await self._page(number)
            if problem := limit.problem(page):
                return f"page {number} of the marketplace's products is not read again: {problem}"
            await session.comparisons.keep_page(session.run, 2, number, page, took)
        return None

    async def _page(self, number: int) -> tuple[ReadPage, timedelta]:
        """One page, and how long ago it was asked for."""
        timeout = self.session.limits.timeout
        asked_at = clock.monotonic()

        async def ask() -> ReadPage | Outcome:
            nonlocal asked_at
            asked_at = clock.monotonic()
            return await self.marketplace.read_page(number, timeout)

        def unanswered(answer: ReadPage | Outcome) -> Outcome | None:
            if isinstance(answer, ReadPage):
                return None
            if answer.kind is Kind.REFUSED:
                raise ReadRefused(answer.reason)
            return answer

        page = await self.session.answered(ask, unanswered)
        assert isinstance(page, ReadPage)
        return page, timedelta(seconds=clock.monotonic() - asked_at)


@dataclass(eq=False)
class AssertRun:
    """Where numbers can't be verified: what changed on the day is sent again, even if it was acknowledged.

    `limits` returns those of now: a run takes hours, and the channel may be set to shadow meanwhile."""

    session: Session
    limits: Callable[[], ReconcileLimits]

    async def look(self) -> None:
        """From where the run stopped. Raises LeaseLost."""
        session = self.session
        run = session.run
        if run.stage == 2:
            return
        async with aclosing(session.day_chunks("sent again")) as chunks:
            async for chunk, rows in chunks:
                skus = [row.sku for row in rows if row.is_settled and not row.is_parked]
                result = replace(chunk, asked=len(skus), state="asserted")
                limits = self.limits()
                if run.is_dry or limits.is_shadow:
                    await session.runs.note_chunk(run, result)
                else:
                    await session.runs.reassert(run, skus, limits.heal_per_s, result)
        so_far = await session.runs.progress(run, 1)
        await session.runs.set_stage(run, 2, (so_far.asked, so_far.unsettled, so_far.parked), None)
