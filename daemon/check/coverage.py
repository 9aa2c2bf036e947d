"""Whether changes of what the listings read are captured, under the SKUs that the listings have."""

from collections.abc import Mapping, Sequence
from typing import Final

from daemon.app import listings
from daemon.check import listing as listing_checks
from daemon.check import watches
from daemon.check.findings import Findings
from daemon.core.checks import Verdict
from daemon.core.dependencies import judge_reads
from daemon.core.errors import BadRow
from daemon.core.spelling import ADVICE, Spelling, misspelling
from daemon.core.types import ChannelName
from daemon.settings import Settings
from daemon.settings.model import Watch
from daemon.store.dependencies import Dependencies
from daemon.store.inspect import Denied, Inspector
from daemon.store.inspect_listing import ListingInspector
from daemon.store.listing import ChannelListing

_SAMPLE: Final = 200
"""SKUs of a watched table that are looked for in the listings."""

_MANY: Final = 5_000
"""More SKUs than this are not marked one by one (MANY in store/intake.py)."""


def names(settings: Settings) -> list[str]:
    """What these checks are called."""
    return [_reads(channel) for channel in settings.enabled_channels()] + [
        _skus(watch) for watch in settings.watch
    ]


def _reads(channel: ChannelName) -> str:
    return f"reads {channel}"


def _skus(watch: Watch) -> str:
    return f"skus {watch.table}"


async def check_coverage(findings: Findings, settings: Settings, inspector: Inspector) -> None:
    """After the listings and the watched tables themselves were checked."""
    passed = {result.name for result in findings.results if result.verdict is Verdict.PASSED}
    working: dict[ChannelName, ChannelListing] = {}
    for channel, its_listing in listings(settings).items():
        query, *_ = listing_checks.names(channel)
        if query in passed:
            working[channel] = its_listing
            await _check_reads(findings, settings, inspector, its_listing)
        else:
            findings.skip(query, _reads(channel))
    for watch in settings.watch:
        table_name, _ = watches.names(watch)
        if table_name not in passed:
            findings.skip(table_name, _skus(watch))
            continue
        with findings.guarding(_skus(watch)):
            await _check_skus(findings, inspector, watch, working)


async def _check_reads(
    findings: Findings, settings: Settings, inspector: Inspector, listing: ChannelListing
) -> None:
    name = _reads(listing.channel)
    with findings.guarding(name):
        look = ListingInspector(inspector, listing)
        dependencies = Dependencies(inspector.look, settings.run.compared_only)
        try:
            reads = await dependencies.reads(listing, await look.any_sku())
        except BadRow:
            reads = await dependencies.reads(listing, await look.readable_sku())
        findings.add(
            name, judge_reads(reads, settings.run.resync_s), "changes of all that it reads are captured"
        )


async def _check_skus(
    findings: Findings, inspector: Inspector, watch: Watch, working: Mapping[ChannelName, ChannelListing]
) -> None:
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
    spelling = await _spelling(inspector, watch.table, skus[:_SAMPLE], list(working.values()))
    if (found := misspelling(spelling)) is not None:
        findings.warn(name, f"{found}: its changes are found late", ADVICE)
    else:
        findings.passed(
            name, f"{spelling.known} of the {len(skus[:_SAMPLE])} SKUs that were looked at are listed"
        )


async def _spelling(
    inspector: Inspector, table: str, skus: Sequence[str], listings: Sequence[ChannelListing]
) -> Spelling:
    looks = [ListingInspector(inspector, each) for each in listings]
    known = {sku for look in looks for sku in await look.known(skus)} if skus else set[str]()
    unknown = [sku for sku in skus if sku not in known]
    if not unknown or not looks:
        return Spelling(table, len(known), 0)
    for look in looks:
        if (pair := await look.alike_to(unknown)) is not None:
            return Spelling(table, len(known), len(unknown), unknown[0], *pair)
    return Spelling(table, len(known), len(unknown), unknown[0])
