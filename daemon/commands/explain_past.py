"""The answer of `stockrelay explain --at`."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from daemon import clock
from daemon.commands.attempts import moment
from daemon.commands.explain_lines import part_lines
from daemon.commands.settings_source import local_time
from daemon.core.explain.explanation import Part
from daemon.core.explain.past import Past, SkuHistory, reconstruct
from daemon.core.explain.past_words import explain_past
from daemon.core.times import TimeFormat
from daemon.core.types import ChannelName, Sku

if TYPE_CHECKING:
    from daemon.settings import Settings


@dataclass(frozen=True, slots=True)
class PastExplained:
    """What is printed of a moment that has passed."""

    asked: str
    sku: Sku
    meaning: str | None
    times: TimeFormat
    moment: datetime
    explained: Sequence[tuple[SkuHistory, Past, tuple[Part, ...]]]

    def lines(self) -> Iterator[str]:
        from daemon.logs import visible
        from daemon.tables import bold

        there = self.moment.astimezone(self.times.zone)
        moment = f"{there:%Y-%m-%d %H:%M:%S}.{there.microsecond // 1000:03} {there:%Z (UTC%z)}"
        yield f"{bold(visible(self.sku))} at {moment}, {self.times.away(self.moment)}"
        if self.meaning:
            yield visible(self.meaning)
        for history, _, parts in self.explained:
            yield ""
            yield f"{bold(history.channel)}:"
            yield from part_lines(parts)

    def as_json(self) -> dict[str, Any]:
        return {
            "asked": self.asked,
            "sku": self.sku,
            "meaning": self.meaning,
            "at": self.moment,
            "now": self.times.now,
            "channels": {
                history.channel: _past_json(history, past, parts) for history, past, parts in self.explained
            },
        }


def _past_json(history: SkuHistory, past: Past, parts: Sequence[Part]) -> dict[str, Any]:
    return {
        "explanation": {part.about: list(part.lines) for part in parts},
        "erp": past.erp and asdict(past.erp),
        "erp_next": past.erp_next and asdict(past.erp_next),
        "marketplace": [
            {
                "identifiers": list(held.identifiers),
                "quantities": list(held.quantities),
                "is_certain": held.is_certain,
                "acknowledged": held.acknowledged and asdict(held.acknowledged),
                "unclear": [asdict(one) for one in held.unclear],
            }
            for held in past.marketplace
        ],
        "ledger": asdict(past.ledger),
        "differences": [asdict(one) for one in history.differences],
        "attempts": [asdict(one) for one in history.attempts],
        "later_attempts": [asdict(one) for one in history.later],
        "attempts_begin": history.begins,
        "readings_begin": history.readings_begin,
    }


def moment_of(settings: "Settings", at: str) -> datetime:
    """What `--at` means. Raises BadParameter (exit code 2)."""
    from daemon.app import building

    now = clock.now()
    if re.fullmatch(r"\d{4}-?\d{2}-?\d{2}", at.strip()):
        raise click.BadParameter(
            f"{at!r} is a day: add the time, as in {at.strip()}T14:30:05", param_hint="--at"
        )
    wanted = moment(at, now, building.operators_zone(settings), "--at")
    if wanted > now:
        raise click.BadParameter(
            f"{at!r} is yet to come: it is {local_time(settings, now)}", param_hint="--at"
        )
    return wanted


async def past_explained(
    settings: "Settings", asked: Sku, channel: ChannelName | None, attempts: int, moment: datetime
) -> PastExplained:
    """Look up what is recorded of a SKU around a moment. Raises StockrelayError where nothing is known of it."""
    from daemon.app import building
    from daemon.app.sku_names import sku_sold_as
    from daemon.store.answers import Answers
    from daemon.store.past import PastAnswers

    channels = settings.enabled_channels()
    listings = {
        name: listing for name, listing in building.listings(settings).items() if channel in (None, name)
    }
    zone = building.operators_zone(settings)
    async with building.opened(settings) as database:
        past = PastAnswers(database)

        async def histories(sku: Sku) -> list[SkuHistory]:
            return [await past.history(name, sku, moment, channels[name].settle) for name in listings]

        sku, meaning = asked, None
        found = await histories(sku)
        if not any(one.is_known for one in found):
            sku, meaning = await sku_sold_as(Answers(database), listings, asked)
            found = await histories(sku)
    reconstructed = [(one, reconstruct(one)) for one in found]
    explained = [(one, then, explain_past(one, then, zone, attempts)) for one, then in reconstructed]
    return PastExplained(asked, sku, meaning, TimeFormat(found[-1].now, zone), moment, explained)
