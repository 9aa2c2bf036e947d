"""The listings: one query a channel, read as the daemon reads it."""

import re
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from daemon import clock
from daemon.check.findings import Findings
from daemon.check.listing_cost import CLAIMED, check_cost
from daemon.core.errors import BadRow, StockrelayError, StoreRefused
from daemon.core.guard import GuardRule
from daemon.core.quoting import blank_at_an_end, quoted
from daemon.core.types import ChannelName
from daemon.store.inspect import Denied, Inspector, TookTooLong
from daemon.store.inspect_listing import Examples, ListingInspector, Row
from daemon.store.listing import ChannelListing
from daemon.store.refused import LONGEST_SKU

_SHOWN: Final = 3
_ROW_SECURITY: Final = (
    "the daemon refuses to read where a policy may hide rows: what is hidden would be sent as sold out. Let the "
    "listing read a view whose owner no policy applies to, such as the table's owner (without security_invoker; "
    "not where the table has FORCE ROW LEVEL SECURITY)."
)
_NUMBERS: Final = frozenset({"int2", "int4", "int8", "numeric", "float4", "float8", "money"})

Problem = Callable[[Sequence[str | None]], str | None]


def names(channel: ChannelName) -> tuple[str, str, str]:
    """What the three checks of one listing are called."""
    return f"listing {channel}", f"rows {channel}", f"cost {channel}"


async def check_listing(
    findings: Findings,
    inspector: Inspector,
    listing: ChannelListing,
    problem: Problem,
    limit: timedelta,
    rate_per_s: float,
    rule: GuardRule | None,
) -> None:
    """The query, its rows, and what it costs to look one SKU up."""
    query, rows, cost = names(listing.channel)
    look = ListingInspector(inspector, listing)
    try:
        fault = await _fault(look, listing)
    except StoreRefused as error:
        await _tell_failure(findings, look, listing, error)
        findings.skip(query, rows, cost)
        return
    if fault is not None:
        findings.failed(query, *fault)
        findings.skip(query, rows, cost)
        return
    findings.passed(query, f"has {', '.join(_wanted(listing))}")
    try:
        quantity_type = dict((await look.shape()).columns)["quantity"]
        tally = await _read_all(look, quantity_type, problem, limit)
    except StoreRefused as error:
        advice = (
            f"channels.{listing.channel}.listing fails on its data: correct it, then run this check again"
        )
        findings.failed(rows, str(error), advice)
        findings.skip(rows, cost)
        return
    await _judge_rows(findings, look, listing, tally, rule)
    if tally.cut is not None and not tally.sample:
        findings.skip(rows, cost)
    else:
        await check_cost(findings, cost, look, tally.sample, rate_per_s)


def _wanted(listing: ChannelListing) -> tuple[str, ...]:
    return ("sku", *listing.identifier_columns, "quantity")


async def _fault(look: ListingInspector, listing: ChannelListing) -> tuple[str, str] | None:
    """What is wrong with the query itself, and what to do. Raises StoreRefused with the server's words."""
    key = f"channels.{listing.channel}.listing"
    if not await look.is_one_statement():
        return "it holds several statements", f"{key} is one SELECT: put the others elsewhere"
    shape = await look.shape()
    if shape.has_parameters:
        return "it has a parameter ($1)", f"{key} is run as it stands: write a value in its place"
    types = dict(shape.columns)
    present = [name for name, _ in shape.columns]
    if missing := [column for column in _wanted(listing) if column not in present]:
        return (
            f"it has no column {', '.join(missing)}; it has {', '.join(present) or 'none'}",
            f"name the columns in {key}: SELECT ... AS {missing[0]}",
        )
    if doubled := sorted({name for name in present if present.count(name) > 1}):
        return f"it has the column {', '.join(doubled)} twice", f"name each column of {key} once"
    if types["quantity"] not in _NUMBERS:
        return (
            f"its column quantity is of type {types['quantity']}, not a number",
            f"make it a number in {key}: (...)::integer AS quantity",
        )
    await look.try_listing()
    return None


async def _tell_failure(
    findings: Findings, look: ListingInspector, listing: ChannelListing, error: StoreRefused
) -> None:
    name, _, _ = names(listing.channel)
    key = f"channels.{listing.channel}.listing"
    advice = f"correct {key}; it is a single SELECT, and psql shows where it fails"
    if "could not determine data type of parameter" in str(error):
        findings.failed(
            name, "it has a parameter ($1)", f"{key} is run as it stands: write a value in its place"
        )
        return
    if hidden := re.search(r'row-level security policy for table "(.*)"', str(error)):
        with findings.guarding(name):
            policies = await look.policies(hidden[1])
            known = "; ".join(f"{policy} on {table}" for table, policy in policies)
            findings.failed(name, str(error), f"{_ROW_SECURITY} Policies there: {known or 'none is visible'}")
        return
    if isinstance(error, Denied):
        with findings.guarding(name):
            grants = await look.unreadable()
            advice = "as their owner: " + " ".join(grants) if grants else "grant what the message names"
            findings.failed(name, str(error), advice)
        return
    findings.failed(name, str(error), advice)


@dataclass(slots=True)
class _Some:
    """How many there were, and the first of them."""

    many: int = 0
    some: list[str] = field(default_factory=list)

    def add(self, example: str) -> None:
        self.many += 1
        if len(self.some) < _SHOWN:
            self.some.append(example)


@dataclass(slots=True)
class _Tally:
    """What a pass over the rows came to. `cut`: why it ended early; `sample`: SKUs from all over the listing."""

    rows: int = 0
    cut: str | None = None
    sample: list[str] = field(default_factory=list)
    stride: int = 1
    nameless: int = 0
    endless: int = 0
    unnumbered: _Some = field(default_factory=_Some)
    unsendable: _Some = field(default_factory=_Some)
    unreadable: _Some = field(default_factory=_Some)
    fractional: _Some = field(default_factory=_Some)
    refused: _Some = field(default_factory=_Some)
    blank: _Some = field(default_factory=_Some)
    sendable: int = 0
    zeroes: int = 0


async def _read_all(look: ListingInspector, quantity_type: str, problem: Problem, limit: timedelta) -> _Tally:
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


async def _read(reading: AsyncGenerator[Row, None], problem: Problem, limit: timedelta) -> _Tally:
    """Read the listing, for as long as `limit` allows; one page is held at a time."""
    tally = _Tally()
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


def _count(tally: _Tally, row: Row, problem: Problem) -> None:
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


def _sample(tally: _Tally, sku: str) -> None:
    """Keep every n-th SKU; whenever that makes too many, every second of them, and from then on half as many."""
    if tally.rows % tally.stride == 0 or not tally.sample:
        tally.sample.append(sku)
    if len(tally.sample) == 4 * CLAIMED:
        tally.sample = tally.sample[::2]
        tally.stride *= 2


async def _judge_rows(
    findings: Findings, look: ListingInspector, listing: ChannelListing, tally: _Tally, rule: GuardRule | None
) -> None:
    _, name, _ = names(listing.channel)
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


async def _compare(look: ListingInspector, tally: _Tally) -> tuple[_Whole, list[str], str | None]:
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


def _doubts(tally: _Tally, whole: _Whole, listing: ChannelListing) -> list[tuple[str, str]]:
    counted = (
        (
            whole.twins.many if listing.duplicates == "sum" else 0,
            f"SKUs share their identifiers with others, such as {'; '.join(whole.twins.some)}",
            f"the sum of their quantities is sent, as channels.{listing.channel}.duplicates says",
        ),
        (
            whole.names_alike.many,
            f"pairs of identifiers differ only by blanks or capitals, such as {'; '.join(whole.names_alike.some)}",
            "to us they are different: if the partner takes them for one, it keeps the number that was sent last",
        ),
        (
            tally.fractional.many,
            f"SKUs have a quantity with a fraction, such as {', '.join(tally.fractional.some)}: it is rounded down",
            "let the listing say whole pieces: floor(...), or another unit",
        ),
        (
            tally.blank.many,
            f"SKUs or their identifiers have blanks at the ends, such as {', '.join(tally.blank.some)}",
            "to a partner they are other names: correct the ERP, or use btrim(...) in the listing and in watch.sku",
        ),
        (
            whole.alike.many,
            f"pairs of SKUs differ only by blanks or capitals, such as {'; '.join(whole.alike.some)}",
            "they are different SKUs to us: if they are one product, let the listing give one row for it",
        ),
    )
    return [(f"{many} {found}", advice) for many, found, advice in counted if many]


def _faults(tally: _Tally, whole: _Whole, listing: ChannelListing) -> list[tuple[str, str]]:
    channel = listing.channel
    counted = (
        (
            whole.duplicates.many,
            f"SKUs have more than one row, such as {', '.join(whole.duplicates.some)}",
            "they are parked, not sent: make it one row per SKU (GROUP BY, or a narrower join)",
        ),
        (
            whole.twins.many if listing.duplicates == "park" else 0,
            f"SKUs share their identifiers with others, such as {'; '.join(whole.twins.some)}",
            f'they are parked, not sent: give each its own, or say channels.{channel}.duplicates = "sum"',
        ),
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
            f"they are parked: correct them in the ERP or the listing, or see channels.{channel}.max_quantity",
        ),
        (
            tally.refused.many,
            f"SKUs have identifiers that the partner refuses, such as {'; '.join(tally.refused.some)}",
            "they are parked, not sent: correct them in the ERP, or leave them out of the listing",
        ),
    )
    return [(f"{many} {found}", advice) for many, found, advice in counted if many]
