"""The rows of a listing: counted in one pass, and judged."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, NamedTuple

from daemon import clock
from daemon.check.findings import Findings
from daemon.core.errors import BadRow, StockrelayError
from daemon.core.guard import GuardRule
from daemon.core.quoting import blank_at_an_end, quoted
from daemon.store.inspect import TookTooLong
from daemon.store.inspect_listing import Examples, ListingInspector, Row
from daemon.store.listing import EVERYTHING, ChannelListing
from daemon.store.refused import LONGEST_SKU

CLAIMED: Final = 10
"""SKUs that one claim reads at once, about."""
_SHOWN: Final = 3

IdentifiersProblem = Callable[[Sequence[str | None]], str | None]


class _Problem(NamedTuple):
    """`{some}` in `found` stands for examples. A problem that is no fault is a warning."""

    found: str
    advice: str
    is_fault: bool = True


_PARKED: Final = "they are parked, not sent"
_PROBLEMS: Final = {
    "several rows": _Problem(
        "SKUs have more than one row, such as {some}",
        f"{_PARKED}: make it one row per SKU (GROUP BY, or a narrower join)",
    ),
    "twins": _Problem(
        "SKUs share their identifiers with others, such as {some}",
        f'{_PARKED}: give each its own, or say channels.{{channel}}.duplicates = "sum"',
    ),
    "no SKU": _Problem(
        "rows have no SKU (NULL)", "they are never sent: leave them out of the listing, or give them a SKU"
    ),
    "too long": _Problem(
        f"rows have a SKU of more than {LONGEST_SKU} bytes",
        "they are never sent: leave them out of the listing, or give them a shorter SKU",
    ),
    "no quantity": _Problem(
        "SKUs have no quantity (NULL or NaN), such as {some}",
        f"{_PARKED}: let the listing say 0 where nothing may be sold (coalesce)",
    ),
    "unreadable": _Problem(
        "SKUs can't be read, such as {some}",
        f"{_PARKED}; the others are: correct them in the ERP or the listing",
    ),
    "unsendable": _Problem(
        "SKUs have a quantity that can't be sent, such as {some}",
        "they are parked: correct them in the ERP or the listing, or see channels.{channel}.max_quantity",
    ),
    "refused": _Problem(
        "SKUs have identifiers that the marketplace refuses, such as {some}",
        f"{_PARKED}: correct them in the ERP, or leave them out of the listing",
    ),
    "summed": _Problem(
        "SKUs share their identifiers with others, such as {some}",
        "the sum of their quantities is sent, as channels.{channel}.duplicates says",
        is_fault=False,
    ),
    "alike identifiers": _Problem(
        "pairs of identifiers differ only by blanks or capitals, such as {some}",
        "to us they are different: if the marketplace takes them for one, it keeps the number that was sent last",
        is_fault=False,
    ),
    "fractional": _Problem(
        "SKUs have a quantity with a fraction, such as {some}: it is rounded down",
        "let the listing say whole pieces: floor(...), or another unit",
        is_fault=False,
    ),
    "blanks": _Problem(
        "SKUs or their identifiers have blanks at the ends, such as {some}",
        "to a marketplace they are other names: correct the ERP, or use btrim(...) in the listing and in watch.sku",
        is_fault=False,
    ),
    "alike SKUs": _Problem(
        "pairs of SKUs differ only by blanks or capitals, such as {some}",
        "they are different SKUs to us: if they are one product, let the listing give one row for it",
        is_fault=False,
    ),
}
"""What can be wrong with rows, in the order in which it is shown."""


@dataclass(slots=True)
class Tally:
    """The result of a pass over the rows. `cut`: why it ended early; `sample`: SKUs from all over the listing."""

    rows: int = 0
    cut: str | None = None
    sample: list[str] = field(default_factory=list)
    stride: int = 1
    found: dict[str, Examples] = field(default_factory=lambda: dict.fromkeys(_PROBLEMS, Examples(0, ())))
    sendable: int = 0
    zeroes: int = 0

    def add(self, problem: str, example: str = "") -> None:
        many, some = self.found[problem].many, self.found[problem].some
        self.found[problem] = Examples(many + 1, some if many >= _SHOWN else (*some, example))


async def read_all(
    look: ListingInspector, quantity_type: str, problem: IdentifiersProblem, limit: timedelta
) -> Tally:
    """Read the listing; row by row if some rows can't be read. Raises StoreRefused when that does not help."""
    try:
        return await _read(look.rows(quantity_type), problem, limit)
    except BadRow as error:
        try:
            tally = await _read(look.rows_apart(), problem, limit)
            with suppress(BadRow):
                refused = await look.refused_skus()
                for one in refused.some:
                    tally.add("unreadable", f"{one.sku} ({one.reason})")
        except StockrelayError:
            raise error from None  # such as before `stockrelay migrate`
        return tally


async def _read(reading: AsyncGenerator[Row, None], problem: IdentifiersProblem, limit: timedelta) -> Tally:
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


def _count(tally: Tally, row: Row, problem: IdentifiersProblem) -> None:
    tally.rows += 1
    if row.sku is None:
        tally.add("no SKU")
        return
    if len(row.sku.encode()) > LONGEST_SKU:
        tally.add("too long")
        return
    name = quoted(row.sku)
    if row.fault is not None:
        tally.add("unreadable", f"{name} ({row.fault or 'not looked at: too many rows fail'})")
        return
    _sample(tally, row.sku)
    if row.is_fractional:
        tally.add("fractional", f"{name} ({row.number})")
    if row.number in (None, "NaN"):
        tally.add("no quantity", name)
    elif not row.is_sendable:
        tally.add("unsendable", f"{name} ({row.number})")
    elif reason := problem(row.identifiers):
        tally.add("refused", f"{name} ({reason})")
    else:
        tally.sendable += 1
        tally.zeroes += row.is_zero
        if blank := blank_at_an_end((row.sku, *row.identifiers)):
            tally.add("blanks", quoted(blank))


def _sample(tally: Tally, sku: str) -> None:
    """Keep every n-th SKU. When these are too many, drop every second one and double n."""
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
    """Report under `name` what the rows are like, and what only the listing as a whole shows."""
    with findings.guarding(name):
        cuts, failed = await _compare(look, tally, listing)
        before = len(findings.results)
        for key, problem in _PROBLEMS.items():
            if (many := tally.found[key].many) > 0:
                found = f"{many} {problem.found.format(some='; '.join(tally.found[key].some))}"
                report = findings.failed if problem.is_fault else findings.warn
                report(name, found, problem.advice.format(channel=listing.channel))
        zeroes = f"{tally.zeroes:,} of {tally.sendable:,} quantities are 0"
        if rule is not None and tally.zeroes > rule.most_zeroes(tally.sendable):
            advice = (
                f"if that is wrong, correct channels.{listing.channel}.listing; a first filling like this is held "
                f"until `stockrelay release {listing.channel}`"
            )
            findings.warn(name, zeroes, advice)
        if failed is not None:
            findings.warn(name, failed, "correct the rows that can't be read, then run this check again")
        if cuts:
            advice = "the rest is not known: make the listing faster, or raise database.statement_timeout_s"
            findings.failed(name, cuts, advice)
        elif not tally.rows:
            if listing.only == EVERYTHING:
                found, advice = "the listing is empty: nothing is sold", "check the conditions of the listing"
            else:
                found = "no SKU of the listing is chosen: nothing is sent"
                advice = f"correct channels.{listing.channel}.only or only_where"
            findings.warn(name, found, advice)
        elif len(findings.results) == before:
            zeroes = f"; {zeroes}" if tally.zeroes else ""
            found = f"{tally.rows} rows, each with one SKU, a quantity and valid identifiers{zeroes}"
            findings.passed(name, found)


async def _compare(look: ListingInspector, tally: Tally, listing: ChannelListing) -> tuple[str, str | None]:
    """Add what only the whole listing shows; return what there was no time for, and what rows that fail prevented."""
    if tally.cut is not None:
        return f"{tally.cut}; duplicates were not looked for", None
    failed = None
    questions = {
        "several rows": look.duplicates,
        "twins" if listing.duplicates == "park" else "summed": look.twins,
        "alike SKUs": look.alike,
        "alike identifiers": look.names_alike,
    }
    for problem, ask in questions.items():
        try:
            tally.found[problem] = await ask(_SHOWN)
        except BadRow as error:
            failed = f"not all of the SKUs could be compared with one another: {error}"
        except TookTooLong:
            return "looking for duplicates was cut by the time limit", None
    return "", failed
