"""`stockrelay explain`."""

import asyncio
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click

from daemon.commands.explain_lines import part_lines
from daemon.commands.explain_past import PastExplained, moment_of, past_explained
from daemon.commands.framework import FAILED, Command, channels
from daemon.commands.settings_source import SettingsSource, known_channel, print_json
from daemon.commands.sku_names import namesake
from daemon.core.explain.explanation import Explanation, explain_sku
from daemon.core.explain.facts import ExplainSettings, Facts
from daemon.core.times import TimeFormat
from daemon.core.types import ChannelName, Sku

if TYPE_CHECKING:
    from daemon.settings import Settings
    from daemon.store.answers import Answers
    from daemon.store.listing import ChannelListing


@click.command(
    cls=Command,
    examples=[
        "explain SKU-1",
        "explain SKU-1 --channel tokyo --attempts 20",
        "explain SKU-1 --at '2026-11-21 14:30:05'",
        "explain SKU-1 --json",
    ],
    exits={FAILED: "the SKU is unknown (similar ones are named), or it could not be read"},
)
@click.argument("sku")
@click.option(
    "--channel",
    metavar="CHANNEL",
    shell_complete=channels,
    help="Only this channel. Default: every enabled one.",
)
@click.option(
    "--attempts",
    metavar="N",
    type=click.IntRange(0, 100),
    default=5,
    show_default=True,
    help="How many of the last attempts to show.",
)
@click.option(
    "--at",
    "at",
    metavar="TIME",
    help="What was so then, from what was recorded: 30m or 2h ago, or a time such as 2026-11-21T14:30:05 "
    "(in the zone of reconcile.timezone unless it says another).",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def explain(
    source: SettingsSource, sku: str, *, channel: str | None, attempts: int, at: str | None, as_json: bool
) -> None:
    """Tell why a marketplace shows what it shows for SKU.

    For each channel, in order: the ERP's number now, the listing's row and what is made of it, what the ledger
    knows (acknowledged, waiting, in flight, in doubt, parked, held), the last attempts with the marketplace's words,
    what reconcile saw, and what happens next, by the rules that the daemon goes by.

    With --at: which number the ERP had when it was read last before that time, what the marketplace held by what was
    sent and answered, what was in doubt, and where the record is silent. It reaches back history.keep_days days.

    SKU is the ERP's name. A marketplace's own name of it is taken, too. Reads only, and
    works whether a daemon runs or not.
    """
    settings = source.read(log_to=sys.stderr)
    wanted = None if channel is None else known_channel(settings, channel)
    if at is None:
        answer: Explained | PastExplained = asyncio.run(explained(settings, Sku(sku), wanted, attempts))
    else:
        answer = asyncio.run(past_explained(settings, Sku(sku), wanted, attempts, moment_of(settings, at)))
    if as_json:
        print_json(answer.as_json())
        return
    for line in answer.lines():
        click.echo(line)


@dataclass(frozen=True, slots=True)
class Explained:
    """What is printed. `asked` is what stood on the command line; `meaning` says how it led to the SKU."""

    asked: str
    sku: Sku
    meaning: str | None
    times: TimeFormat
    explained: Sequence[tuple[Facts, Explanation]]

    def lines(self) -> Iterator[str]:
        from daemon.logs import visible
        from daemon.tables import bold

        yield f"{bold(visible(self.sku))}, {self.times.full(self.times.now)}"
        if self.meaning:
            yield visible(self.meaning)
        for facts, explanation in self.explained:
            yield ""
            yield f"{bold(facts.channel)}: {explanation.state}"
            yield from part_lines(explanation.parts)

    def as_json(self) -> dict[str, Any]:
        return {
            "asked": self.asked,
            "sku": self.sku,
            "meaning": self.meaning,
            "now": self.times.now,
            "channels": {
                facts.channel: _as_json(facts, explanation) for facts, explanation in self.explained
            },
        }


def _as_json(facts: Facts, explanation: Explanation) -> dict[str, Any]:
    known = asdict(facts)
    return {
        "state": explanation.state,
        "next": explanation.next,
        "explanation": {part.about: list(part.lines) for part in explanation.parts},
        "listing": {
            "query": f"channels.{facts.channel}.listing",
            "problem": facts.listing_problem,
            "rows": known["listing"],
            "found": 0 if facts.listed is None else facts.listed.rows,
            "identifiers": known["listed"] and dict(zip(facts.columns, known["listed"]["identifiers"], strict=False)),
            "quantity": known["listed"] and known["listed"]["quantity"],
        },
        "ledger": known["row"],
        "attempts": known["attempts"],
        "differences": known["differences"],
        "operations": known["operations"],
        "guard": known["guard"],
        "paused": known["paused"],
        "trouble": known["trouble"],
        "has_owner": facts.has_owner,
        "successor": facts.successor,
        "twins": known["twins"],
    }  # fmt: skip


async def explained(
    settings: "Settings", asked: Sku, channel: ChannelName | None, attempts: int
) -> Explained:
    from daemon.app import building
    from daemon.store.answers import Answers

    listings = {
        name: listing for name, listing in building.listings(settings).items() if channel in (None, name)
    }
    problems = building.problems_of(settings)
    async with building.opened(settings) as database:
        answers = Answers(database)
        sku, meaning = asked, None
        found = await _facts(settings, answers, listings, sku, attempts)
        if not any(_is_known(facts) for facts in found):
            sku, meaning = await namesake(answers, listings, asked)
            found = await _facts(settings, answers, listings, sku, attempts)
        times = TimeFormat(found[-1].now, building.operators_zone(settings))
        explained = [(facts, explain_sku(facts, problems[facts.channel], times)) for facts in found]
    return Explained(asked, sku, meaning, times, explained)


async def _facts(
    settings: "Settings",
    answers: "Answers",
    listings: "dict[ChannelName, ChannelListing]",
    sku: Sku,
    attempts: int,
) -> list[Facts]:
    from daemon.app import building

    found = []
    for name, listing in listings.items():
        channel = settings.enabled_channels()[name]
        explain_settings = ExplainSettings(
            settings.debounce.max_wait,
            channel.timeout,
            channel.settle,
            settings.run.resync,
            building.guard_rule(settings),
            is_shadow=channel.mode == "shadow",
        )
        found.append(await answers.facts(listing, sku, explain_settings, attempts))
    return found


def _is_known(facts: Facts) -> bool:
    # A listing that fails may know it; the explanation says so.
    return bool(facts.row or facts.listed or facts.attempts or facts.differences or facts.listing_problem)
