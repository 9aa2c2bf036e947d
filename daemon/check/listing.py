"""The listings: one query a channel, read as the daemon reads it."""

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from daemon.check.findings import Findings
from daemon.check.listing_rows import CLAIMED, IdentifiersProblem, judge_rows, read_all
from daemon.core.errors import StoreRefused
from daemon.core.guard import GuardRule
from daemon.core.listing_cost import ADVICE, costliest, judge_cost
from daemon.core.types import ChannelName
from daemon.store.inspect import Denied, Inspector, TookTooLong
from daemon.store.inspect_listing import ListingInspector
from daemon.store.listing import ChannelListing

_ROW_SECURITY: Final = (
    "the daemon refuses to read where a policy may hide rows: what is hidden would be sent as sold out. Let the "
    "listing read a view whose owner no policy applies to, such as the table's owner (without security_invoker; "
    "not where the table has FORCE ROW LEVEL SECURITY)."
)
_NUMBERS: Final = frozenset({"int2", "int4", "int8", "numeric", "float4", "float8", "money"})


def names(channel: ChannelName) -> tuple[str, str, str]:
    """What the three checks of one listing are called."""
    return f"listing {channel}", f"rows {channel}", f"cost {channel}"


async def check_listing(
    findings: Findings,
    inspector: Inspector,
    listing: ChannelListing,
    problem: IdentifiersProblem,
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
        tally = await read_all(look, quantity_type, problem, limit)
    except StoreRefused as error:
        advice = (
            f"channels.{listing.channel}.listing fails on its data: correct it, then run this check again"
        )
        findings.failed(rows, str(error), advice)
        findings.skip(rows, cost)
        return
    await judge_rows(findings, rows, look, listing, tally, rule)
    if tally.cut is not None and not tally.sample:
        findings.skip(rows, cost)
    else:
        await _check_cost(findings, cost, look, tally.sample, rate_per_s)


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


async def _check_cost(
    findings: Findings, name: str, look: ListingInspector, sample: Sequence[str], rate_per_s: float
) -> None:
    """Read single SKUs and a claim's worth of them; `sample` are SKUs from all over the listing."""
    if not sample:
        findings.passed(name, "nothing is listed")
        return
    with findings.guarding(name):
        try:
            singles = dict.fromkeys((sample[0], sample[len(sample) // 2], sample[-1]))
            one = costliest([await look.cost([sku]) for sku in singles])
            many = await look.cost(sample[:CLAIMED])
        except TookTooLong as error:
            findings.failed(name, f"{error}, and the daemon would be cut as well", ADVICE)
            return
        findings.results.append(judge_cost(name, one, many, rate_per_s))
