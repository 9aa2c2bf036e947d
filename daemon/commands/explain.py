"""`stockrelay explain`."""

import asyncio
import sys
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from daemon.commands.explain_lines import part_lines
from daemon.commands.explain_past import moment_of, past_explained
from daemon.commands.framework import FAILED, Command, channels
from daemon.commands.settings_source import SettingsSource, known_channel, print_json
from daemon.core.explain.explanation import Explanation
from daemon.core.explain.facts import Facts
from daemon.core.types import Sku

if TYPE_CHECKING:
    from daemon.app.explaining import ExplainedSku


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
    help="Explain a time in the past, from what was recorded: 30m or 2h (ago), or a time such as 2026-11-21T14:30:05 "
    "(in the zone of reconcile.timezone unless it names another).",
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
    if at is not None:
        past = asyncio.run(past_explained(settings, Sku(sku), wanted, attempts, moment_of(settings, at)))
        as_object, lines = past.as_json, past.lines
    else:
        from daemon.app.explaining import explained

        found = asyncio.run(explained(settings, Sku(sku), wanted, attempts))
        as_object, lines = partial(_answer_json, found), partial(explained_lines, found)
    if as_json:
        print_json(as_object())
        return
    for line in lines():
        click.echo(line)


def explained_lines(answer: "ExplainedSku") -> Iterator[str]:
    from daemon.logs import visible
    from daemon.tables import bold

    yield f"{bold(visible(answer.sku))}, {answer.times.full(answer.times.now)}"
    if answer.meaning:
        yield visible(answer.meaning)
    for facts, explanation in answer.explained:
        yield ""
        yield f"{bold(facts.channel)}: {explanation.state}"
        yield from part_lines(explanation.parts)


def _answer_json(answer: "ExplainedSku") -> dict[str, Any]:
    return {
        "asked": answer.asked,
        "sku": answer.sku,
        "meaning": answer.meaning,
        "now": answer.times.now,
        "channels": {facts.channel: _as_json(facts, explanation) for facts, explanation in answer.explained},
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
