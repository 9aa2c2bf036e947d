"""Whether changes of what the listings read are captured, under the SKUs that the listings have."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from daemon.app.building import listings
from daemon.check import listing as listing_checks
from daemon.check import watches
from daemon.check.findings import Findings
from daemon.core.dependencies import Reads, judge_reads
from daemon.core.errors import BadRow
from daemon.core.finding import Verdict
from daemon.core.spelling import ADVICE, Spelling, is_inconclusive, misspelling
from daemon.core.types import ChannelName
from daemon.settings import Settings, Watch
from daemon.store.dependencies import Dependencies
from daemon.store.inspect import Denied, Inspector, Table
from daemon.store.inspect_listing import ListingInspector
from daemon.store.listing import EVERYTHING, ChannelListing

_SAMPLE: Final = 200
"""SKUs of a watched table that are looked for in the listings."""

_MORE: Final = 100_000
"""Rows of it that are looked at before a listing is said to know none of its SKUs."""

_MANY: Final = 5_000
"""More SKUs than this are not marked one by one (MANY in store/intake.py)."""


def names(settings: Settings) -> list[str]:
    return [_reads(channel) for channel in settings.enabled_channels()] + [
        _skus(watch) for watch in settings.watch
    ]


def _reads(channel: ChannelName) -> str:
    return f"reads {channel}"


def _skus(watch: Watch) -> str:
    return f"skus {watch.table}"


async def check_coverage(findings: Findings, settings: Settings, inspector: Inspector) -> None:
    """After the listings and the watched tables themselves were checked."""
    passed = {result.check for result in findings.results if result.verdict is Verdict.PASSED}
    working: dict[ChannelName, ChannelListing] = {}
    reads: dict[ChannelName, Reads] = {}
    for channel, its_listing in listings(settings).items():
        query, *_ = listing_checks.names(channel)
        if query not in passed:
            findings.skip(query, _reads(channel))
            continue
        working[channel] = its_listing
        with findings.guarding(_reads(channel)):
            reads[channel] = await _read_by(settings, inspector, its_listing)
            found = judge_reads(reads[channel], settings.run.resync_s)
            findings.add(_reads(channel), found, "changes of all that it reads are captured")
    for watch in settings.watch:
        table_name, _ = watches.names(watch)
        if table_name not in passed:
            findings.skip(table_name, _skus(watch))
            continue
        readers = [working[channel] for channel, each in reads.items() if watch.table in each.watches]
        with findings.guarding(_skus(watch)):
            await _check_skus(findings, inspector, watch, readers, list(working.values()))


async def _read_by(settings: Settings, inspector: Inspector, listing: ChannelListing) -> Reads:
    look = ListingInspector(inspector, listing)
    dependencies = Dependencies(inspector.look, settings.run.compared_only)
    try:
        return await dependencies.reads(listing, await look.any_sku())
    except BadRow:
        return await dependencies.reads(listing, await look.readable_sku())


async def _check_skus(
    findings: Findings,
    inspector: Inspector,
    watch: Watch,
    readers: Sequence[ChannelListing],
    working: Sequence[ChannelListing],
) -> None:
    """`readers` are the listings that read the table: each of them has to know some of its SKUs."""
    name = _skus(watch)
    table = await inspector.table(watch.table)
    assert table is not None, "it was found before"
    try:
        if watch.skus is not None:
            skus = await inspector.sample_fan_out(table, watch.skus, _MANY + 1)
        else:
            skus = await inspector.sample_skus(table, watch.sku, _SAMPLE)
    except Denied:
        findings.passed(
            name, "not compared with the listings: this role may not read the table, and need not"
        )
        return
    if len(skus) > _MANY:
        many = f"ten of its rows stand for more than {_MANY} SKUs: a change of them has everything compared"
        findings.warn(name, many, "let watch.skus be narrower, if everything is compared too often")
        return
    known: set[str] = set()
    wrong = []
    # The few rows of a fan-out say nothing about one listing that is a part of the catalogue.
    by_each = [[each] for each in readers] if watch.skus is None else []
    for group in by_each or [list(working)]:
        spelling = await _spelling(inspector, watch, table, skus[:_SAMPLE], group, known)
        if (found := misspelling(spelling)) is not None:
            wrong.append(found)
    if wrong:
        findings.warn(name, f"{'; '.join(wrong)}: its changes are found late", ADVICE)
    else:
        findings.passed(
            name, f"{len(known)} of the {len(skus[:_SAMPLE])} SKUs that were looked at are listed"
        )


async def _spelling(
    inspector: Inspector,
    watch: Watch,
    table: Table,
    skus: Sequence[str],
    listings: Sequence[ChannelListing],
    all_known: set[str],
) -> Spelling:
    """What the table calls SKUs, by these listings together. `all_known` gets those that they know."""
    # Also the SKUs that a channel leaves out: their names say how the listing spells them.
    looks = [ListingInspector(inspector, replace(each, only=EVERYTHING)) for each in listings]
    known = {sku for look in looks for sku in await look.known(skus)} if skus else set[str]()
    all_known |= known
    unknown = [sku for sku in skus if sku not in known]
    channel = listings[0].channel if len(listings) == 1 else None
    spelling = Spelling(watch.table, len(known), len(unknown), channel=channel)
    if not unknown or not looks:
        return spelling
    spelling = replace(spelling, example=unknown[0])
    for look in looks:
        if (pair := await look.alike_to(unknown)) is not None:
            return replace(spelling, alike=pair[0], listed=pair[1])
    if channel is None or watch.skus is not None or not is_inconclusive(spelling):
        return spelling
    more = await inspector.sample_skus(table, watch.sku, _MORE, _MORE)
    return replace(spelling, is_part=await looks[0].has_some(more))
