"""Looks up what is known of one SKU at each channel, and explains it."""

from collections.abc import Sequence
from dataclasses import dataclass

from daemon.app.building import guard_rule, listings, opened, operators_zone, problems_of
from daemon.app.sku_names import sku_sold_as
from daemon.core.explain.explanation import Explanation, explain_sku
from daemon.core.explain.facts import ExplainSettings, Facts
from daemon.core.times import TimeFormat
from daemon.core.types import ChannelName, Sku
from daemon.settings import Settings
from daemon.store.answers import Answers
from daemon.store.listing import ChannelListing


@dataclass(frozen=True, slots=True)
class ExplainedSku:
    """The SKU at each channel. `asked` is the name that was asked for; `meaning` says how it led to the SKU."""

    asked: str
    sku: Sku
    meaning: str | None
    times: TimeFormat
    explained: Sequence[tuple[Facts, Explanation]]


async def explained(
    settings: Settings, asked: Sku, channel: ChannelName | None, attempts: int
) -> ExplainedSku:
    """Explain a SKU at one channel or at all. Raises StockrelayError where none is known by that name."""
    wanted = {name: listing for name, listing in listings(settings).items() if channel in (None, name)}
    problems = problems_of(settings)
    async with opened(settings) as database:
        answers = Answers(database)
        sku, meaning = asked, None
        found = await _facts(settings, answers, wanted, sku, attempts)
        if not any(_is_known(facts) for facts in found):
            sku, meaning = await sku_sold_as(answers, wanted, asked)
            found = await _facts(settings, answers, wanted, sku, attempts)
    times = TimeFormat(found[-1].now, operators_zone(settings))
    each = [(facts, explain_sku(facts, problems[facts.channel], times)) for facts in found]
    return ExplainedSku(asked, sku, meaning, times, each)


async def _facts(
    settings: Settings,
    answers: Answers,
    listings: dict[ChannelName, ChannelListing],
    sku: Sku,
    attempts: int,
) -> list[Facts]:
    found = []
    for name, listing in listings.items():
        channel = settings.enabled_channels()[name]
        explain_settings = ExplainSettings(
            settings.debounce.max_wait,
            channel.timeout,
            channel.settle,
            settings.run.resync,
            guard_rule(settings),
            is_shadow=channel.mode == "shadow",
        )
        found.append(await answers.facts(listing, sku, explain_settings, attempts))
    return found


def _is_known(facts: Facts) -> bool:
    # A listing that fails may know it; the explanation says so.
    return bool(facts.row or facts.listed or facts.attempts or facts.differences or facts.listing_problem)
