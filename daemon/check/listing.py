"""The listings: one query a channel, read as the daemon reads it."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from daemon.app.building import guard_rule
from daemon.check.findings import CheckFailed, Findings
from daemon.check.listing_rows import CLAIMED, judge_rows, read_all
from daemon.core.errors import StoreRefused
from daemon.core.listing_cost import ADVICE, costliest, judge_cost
from daemon.core.quoting import quoted
from daemon.core.types import ChannelName
from daemon.marketplaces.registry import spec_of
from daemon.settings import Settings
from daemon.store.inspect import Denied, Inspector, TookTooLong
from daemon.store.inspect_listing import ListingInspector
from daemon.store.listing import EVERYTHING, ChannelListing

_ROW_SECURITY: Final = (
    "the daemon refuses to read where a policy may hide rows: what is hidden would be sent as sold out. Let the "
    "listing read a view whose owner no policy applies to, such as the table's owner (without security_invoker; "
    "not where the table has FORCE ROW LEVEL SECURITY)."
)
_SHOWN: Final = 3
_NUMBERS: Final = frozenset({"int2", "int4", "int8", "numeric", "float4", "float8", "money"})


def names(channel: ChannelName) -> tuple[str, str, str]:
    return f"listing {channel}", f"rows {channel}", f"cost {channel}"


async def check_listing(
    findings: Findings, settings: Settings, inspector: Inspector, listing: ChannelListing
) -> None:
    """The query, its rows, and what it costs to look one SKU up."""
    query, rows, cost = names(listing.channel)
    look = ListingInspector(inspector, listing)
    try:
        quantity_type = await _check_query(inspector, listing)
    except (CheckFailed, StoreRefused) as error:
        failed = error if isinstance(error, CheckFailed) else await _explained(look, listing, error)
        findings.failed(query, str(failed), failed.advice)
        findings.skip(query, rows, cost)
        return
    await _check_named(findings, query, inspector, listing)
    channel = settings.channels[listing.channel]
    try:
        problem = spec_of(channel).problem
        tally = await read_all(look, quantity_type, problem, settings.database.statement_timeout)
    except StoreRefused as error:
        advice = (
            f"channels.{listing.channel}.listing fails on its data: correct it, then run this check again"
        )
        findings.failed(rows, str(error), advice)
        findings.skip(rows, cost)
        return
    await judge_rows(findings, rows, look, listing, tally, guard_rule(settings))
    if tally.cut is not None and not tally.sample:
        findings.skip(rows, cost)
    else:
        await _check_cost(findings, cost, look, tally.sample, channel.rate_per_s)


def _wanted(listing: ChannelListing) -> tuple[str, ...]:
    return ("sku", *listing.identifier_columns, "quantity")


def _parameter(key: str) -> CheckFailed:
    return CheckFailed("it has a parameter ($1)", f"{key} is run as it stands: write a value in its place")


async def _check_query(inspector: Inspector, chosen: ChannelListing) -> str:
    """Try the query itself, and then what is chosen of it; return the type of its quantity. Raises CheckFailed,
    StoreRefused."""
    key = f"channels.{chosen.channel}.listing"
    listing = replace(chosen, only=EVERYTHING)
    look = ListingInspector(inspector, listing)
    if not await look.is_one_statement():
        raise CheckFailed("it holds several statements", f"{key} is one SELECT: put the others elsewhere")
    shape = await look.shape()
    if shape.has_parameters:
        raise _parameter(key)
    present = [name for name, _ in shape.columns]
    if missing := [column for column in _wanted(listing) if column not in present]:
        found = f"it has no column {', '.join(missing)}; it has {', '.join(present) or 'none'}"
        raise CheckFailed(found, f"name the columns in {key}: SELECT ... AS {missing[0]}")
    if doubled := sorted({name for name in present if present.count(name) > 1}):
        raise CheckFailed(f"it has the column {', '.join(doubled)} twice", f"name each column of {key} once")
    quantity_type = dict(shape.columns)["quantity"]
    if quantity_type not in _NUMBERS:
        found = f"its column quantity is of type {quantity_type}, not a number"
        raise CheckFailed(found, f"make it a number in {key}: (...)::integer AS quantity")
    await look.try_listing()
    if chosen.only.where is not None:
        await _check_condition(ListingInspector(inspector, chosen), chosen.channel, present)
    return quantity_type


async def _check_condition(look: ListingInspector, channel: ChannelName, columns: Sequence[str]) -> None:
    """Try the condition that chooses SKUs of a listing with these columns. Raises CheckFailed."""
    try:
        await look.try_choice()
    except StoreRefused as error:
        raise CheckFailed(
            f"channels.{channel}.only_where fails: {error}",
            f"write an SQL condition over the columns of channels.{channel}.listing: {', '.join(columns)}",
        ) from error


async def _check_named(findings: Findings, name: str, inspector: Inspector, listing: ChannelListing) -> None:
    """The query works: name the SKUs that the configuration chooses and it does not have."""
    named, key = sorted(listing.only.skus or ()), f"channels.{listing.channel}.only"
    with findings.guarding(name):
        look = ListingInspector(inspector, replace(listing, only=EVERYTHING))
        known = await look.known(named) if named else set[str]()
        if unknown := [quoted(sku) for sku in named if sku not in known]:
            some = ", ".join(unknown[:_SHOWN])
            found = f"{len(unknown)} of the {len(named)} SKUs of {key} are not in it, such as {some}"
            advice = f"spell them in {key} as the listing does; one that it gets later is sent then"
            findings.warn(name, found, advice)
        else:
            findings.passed(name, f"has {', '.join(_wanted(listing))}")


async def _explained(look: ListingInspector, listing: ChannelListing, error: StoreRefused) -> CheckFailed:
    key = f"channels.{listing.channel}.listing"
    if "could not determine data type of parameter" in str(error):
        return _parameter(key)
    advice = f"correct {key}; it is a single SELECT, and psql shows where it fails"
    if hidden := re.search(r'row-level security policy for table "(.*)"', str(error)):
        policies = await look.inspector.policies(hidden[1])
        known = "; ".join(f"{policy} on {table}" for table, policy in policies)
        advice = f"{_ROW_SECURITY} Policies there: {known or 'none is visible'}"
    elif isinstance(error, Denied):
        grants = await look.unreadable()
        advice = "as their owner: " + " ".join(grants) if grants else "grant what the message names"
    return CheckFailed(str(error), advice)


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
            raise CheckFailed(f"{error}, and the daemon would be cut as well", ADVICE) from error
        findings.results.append(judge_cost(name, one, many, rate_per_s))
