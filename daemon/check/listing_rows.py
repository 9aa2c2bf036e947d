"""The rows of a listing: counted in one pass, and judged."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from daemon import clock
from daemon.check.findings import Findings
from daemon.check.listing_cost import CLAIMED
from daemon.core.errors import BadRow, StockrelayError
from daemon.core.guard import GuardRule
from daemon.core.quoting import blank_at_an_end, quoted
from daemon.store.inspect import TookTooLong
from daemon.store.inspect_listing import Examples, ListingInspector, Row
from daemon.store.listing import ChannelListing
from daemon.store.refused import LONGEST_SKU

_SHOWN: Final = 3

Problem = Callable[[Sequence[str | None]], str | None]
_Counted = tuple[int, str, str]
"""How many there are, what is wrong with them, and what to do."""


@dataclass(slots=True)
class Some:
    """How many there were, and the first of them."""

    many: int = 0
    some: list[str] = field(default_factory=list)

    def add(self, example: str) -> None:
        self.many += 1
        if len(self.some) < _SHOWN:
            self.some.append(example)


@dataclass(slots=True)
class Tally:
    """The result of a pass over the rows. `cut`: why it ended early; `sample`: SKUs from all over the listing."""

    rows: int = 0
    cut: str | None = None
    sample: list[str] = field(default_factory=list)
    stride: int = 1
    nameless: int = 0
    endless: int = 0
    unnumbered: Some = field(default_factory=Some)
    unsendable: Some = field(default_factory=Some)
    unreadable: Some = field(default_factory=Some)
    fractional: Some = field(default_factory=Some)
    refused: Some = field(default_factory=Some)
    blank: Some = field(default_factory=Some)
    sendable: int = 0
    zeroes: int = 0


async def read_all(look: ListingInspector, quantity_type: str, problem: Problem, limit: timedelta) -> Tally:
    """Read the listing; row by row if some rows can't be read. Raises StoreRefused when that does not help."""
    try:
        return await _read(look.rows(quantity_type), problem, limit)
    except BadRow as error:
        try:
            tally = await _read(look.rows_apart(), problem, limit)
            with suppress(BadRow):
                refused = await look.refused_skus()
                for one in refused.some:
                    tally.unreadable.add(f"{one.sku} ({one.reason})")
        except StockrelayError:
            # Before `stockrelay migrate`, say.
            raise error from None
        return tally


async def _read(reading: AsyncGenerator[Row, None], problem: Problem, limit: timedelta) -> Tally:
    """Read the listing, for as long as `limit` allows; one page is held at a time."""
    tally = Tally()
    deadline = clock.monotonic() + limit.total_seconds()
    try:
        async with aclosing(reading) as rows:
            async for row in rows:
                _count(tally, row, problem)
                if tally.rows % 1_000 == 0 and clock.monotonic() > deadline:
                    tally.cut = f"cut after {limit.total_seconds():g} s and {tally.rows} rows"
                    break
    except TookTooLong:
        tally.cut = f"cut after {limit.total_seconds():g} s and {tally.rows} rows"
    return tally


def _count(tally: Tally, row: Row, problem: Problem) -> None:
    tally.rows += 1
    if row.sku is None:
        tally.nameless += 1
        return
    if len(row.sku.encode()) > LONGEST_SKU:
        tally.endless += 1
        return
    if row.fault is not None:
        tally.unreadable.add(f"{quoted(row.sku)} ({row.fault or 'not looked at: too many rows fail'})")
        return
    _sample(tally, row.sku)
    if row.is_fractional:
        tally.fractional.add(f"{quoted(row.sku)} ({row.number})")
    if row.number in (None, "NaN"):
        tally.unnumbered.add(quoted(row.sku))
    elif not row.is_sendable:
        tally.unsendable.add(f"{quoted(row.sku)} ({row.number})")
    elif reason := problem(row.identifiers):
        tally.refused.add(f"{quoted(row.sku)} ({reason})")
    else:
        tally.sendable += 1
        tally.zeroes += row.is_zero
        if blank := blank_at_an_end((row.sku, *row.identifiers)):
            tally.blank.add(quoted(blank))


def _sample(tally: Tally, sku: str) -> None:
    """Keep every n-th SKU; whenever that makes too many, every second of them, and from then on half as many."""
    if tally.rows % tally.stride == 0 or not tally.sample:
        tally.sample.append(sku)
    if len(tally.sample) == 4 * CLAIMED:
        tally.sample = tally.sample[::2]
        tally.stride *= 2


async def judge_rows(
    findings: Findings,
    name: str,
    look: ListingInspector,
    listing: ChannelListing,
    tally: Tally,
    rule: GuardRule | None,
) -> None:
    """Say under `name` what the rows are like, and what only the listing as a whole shows."""
    with findings.guarding(name):
        whole, cuts, unlooked = await _compare(look, tally)
        bad = _faults(tally, whole, listing)
        for found, advice in bad:
            findings.failed(name, found, advice)
        doubtful = _doubts(tally, whole, listing)
        if rule is not None and tally.zeroes > rule.most_zeroes(tally.sendable):
            advice = (
                f"if that is wrong, correct channels.{listing.channel}.listing; a first filling like this is held "
                f"until `stockrelay release {listing.channel}`"
            )
            doubtful.append((f"{tally.zeroes:,} of {tally.sendable:,} quantities are 0", advice))
        if unlooked is not None:
            doubtful.append((unlooked, "correct the rows that can't be read, then run this check again"))
        for found, advice in doubtful:
            findings.warn(name, found, advice)
        if cuts:
            advice = "the rest is not known: make the listing faster, or raise database.statement_timeout_s"
            findings.failed(name, "; ".join(cuts), advice)
        elif not tally.rows:
            findings.warn(
                name, "the listing is empty: nothing is sold", "check the conditions of the listing"
            )
        elif not bad and not doubtful:
            zeroes = f"; {tally.zeroes:,} of {tally.sendable:,} quantities are 0" if tally.zeroes else ""
            findings.passed(
                name, f"{tally.rows} rows, each with one SKU, a quantity and valid identifiers{zeroes}"
            )


@dataclass(frozen=True, slots=True)
class _Whole:
    """What only the whole listing shows: SKUs with several rows, with another's identifiers, spelled almost alike."""

    duplicates: Examples
    twins: Examples
    alike: Examples
    names_alike: Examples


async def _compare(look: ListingInspector, tally: Tally) -> tuple[_Whole, list[str], str | None]:
    """What only the whole listing shows; what it could not show in time; what it could not show for rows that fail."""
    none = Examples(0, ())
    if tally.cut is not None:
        return _Whole(none, none, none, none), [tally.cut, "duplicates were not looked for"], None
    shown: list[Examples] = []
    unlooked = None
    try:
        for ask in (look.duplicates, look.twins, look.alike, look.names_alike):
            try:
                shown.append(await ask(_SHOWN))
            except BadRow as error:
                shown.append(none)
                unlooked = f"not all of the SKUs could be compared with one another: {error}"
    except TookTooLong:
        return _Whole(none, none, none, none), ["looking for duplicates was cut by the time limit"], None
    return _Whole(*shown), [], unlooked


def _doubts(tally: Tally, whole: _Whole, listing: ChannelListing) -> list[tuple[str, str]]:
    counted = (
        (
            whole.twins.many if listing.duplicates == "sum" else 0,
            f"SKUs share their identifiers with others, such as {'; '.join(whole.twins.some)}",
            f"the sum of their quantities is sent, as channels.{listing.channel}.duplicates says",
        ),
        (
            whole.names_alike.many,
            f"pairs of identifiers differ only by blanks or capitals, such as {'; '.join(whole.names_alike.some)}",
            "to us they are different: if the marketplace takes them for one, it keeps the number that was sent last",
        ),
        (
            tally.fractional.many,
            f"SKUs have a quantity with a fraction, such as {', '.join(tally.fractional.some)}: it is rounded down",
            "let the listing say whole pieces: floor(...), or another unit",
        ),
        (
            tally.blank.many,
            f"SKUs or their identifiers have blanks at the ends, such as {', '.join(tally.blank.some)}",
            "to a marketplace they are other names: correct the ERP, or use btrim(...) in the listing and in watch.sku",
        ),
        (
            whole.alike.many,
            f"pairs of SKUs differ only by blanks or capitals, such as {'; '.join(whole.alike.some)}",
            "they are different SKUs to us: if they are one product, let the listing give one row for it",
        ),
    )
    return _said(counted)


def _said(counted: Sequence[_Counted]) -> list[tuple[str, str]]:
    return [(f"{many} {found}", advice) for many, found, advice in counted if many]


def _faults(tally: Tally, whole: _Whole, listing: ChannelListing) -> list[tuple[str, str]]:
    return _said((*_shared(whole, listing), *_unsent(tally, listing)))


def _shared(whole: _Whole, listing: ChannelListing) -> Sequence[_Counted]:
    return (
        (
            whole.duplicates.many,
            f"SKUs have more than one row, such as {', '.join(whole.duplicates.some)}",
            "they are parked, not sent: make it one row per SKU (GROUP BY, or a narrower join)",
        ),
        (
            whole.twins.many if listing.duplicates == "park" else 0,
            f"SKUs share their identifiers with others, such as {'; '.join(whole.twins.some)}",
            f'they are parked, not sent: give each its own, or say channels.{listing.channel}.duplicates = "sum"',
        ),
    )


def _unsent(tally: Tally, listing: ChannelListing) -> Sequence[_Counted]:
    return (
        (
            tally.nameless,
            "rows have no SKU (NULL)",
            "they are never sent: leave them out of the listing, or give them a SKU",
        ),
        (
            tally.endless,
            f"rows have a SKU of more than {LONGEST_SKU} bytes",
            "they are never sent: leave them out of the listing, or give them a shorter SKU",
        ),
        (
            tally.unnumbered.many,
            f"SKUs have no quantity (NULL or NaN), such as {', '.join(tally.unnumbered.some)}",
            "they are parked, not sent: let the listing say 0 where nothing may be sold (coalesce)",
        ),
        (
            tally.unreadable.many,
            f"SKUs can't be read, such as {'; '.join(tally.unreadable.some)}",
            "they are parked, not sent; the others are: correct them in the ERP or the listing",
        ),
        (
            tally.unsendable.many,
            f"SKUs have a quantity that can't be sent, such as {', '.join(tally.unsendable.some)}",
            f"they are parked: correct them in the ERP or the listing, or see channels.{listing.channel}.max_quantity",
        ),
        (
            tally.refused.many,
            f"SKUs have identifiers that the marketplace refuses, such as {'; '.join(tally.refused.some)}",
            "they are parked, not sent: correct them in the ERP, or leave them out of the listing",
        ),
    )
