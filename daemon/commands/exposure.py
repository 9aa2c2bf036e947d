"""`stockrelay exposure`."""

import csv
import sys
from collections.abc import Mapping, Sequence
from datetime import date, tzinfo
from typing import TYPE_CHECKING, Any, Final

import click

from daemon import clock
from daemon.commands.attempts import moment
from daemon.commands.framework import DONE, FAILED, Command, channels
from daemon.commands.settings_source import SettingsSource, in_database, known_channel, print_json
from daemon.core import exposure as core
from daemon.core.types import ChannelName, Sku

if TYPE_CHECKING:
    from daemon.store.database import Database
    from daemon.store.exposure import SumsByDay

_SHOWN: Final = 20
_COLUMNS: Final = ("day", "channel", "sku", "kind", "reason", "unit_seconds")


@click.command(
    cls=Command,
    examples=[
        "exposure",
        "exposure tokyo --since 30d --csv",
        "exposure --sku SKU-1 --since 2026-11-21 --json",
    ],
    exits={DONE: "it was read, whether or not there was exposure", FAILED: "the database cannot be reached"},
)
@click.argument("channel", metavar="[CHANNEL]", required=False, shell_complete=channels)
@click.option(
    "--since",
    metavar="TIME",
    default="7d",
    show_default=True,
    help="From the business day of then on: 2h, 7d, or a time such as 2026-11-21.",
)
@click.option("--sku", metavar="SKU", help="Only this SKU, in the ERP's words.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV: a row for each day, SKU, kind and reason.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def exposure(
    source: SettingsSource, *, channel: str | None, since: str, sku: str | None, as_csv: bool, as_json: bool
) -> None:
    """Show for how long marketplaces could sell too much, or too little.

    In unit-seconds: units times the seconds for which they were wrong. `over`: the marketplace could sell more than
    the ERP had, from the commit of the change to the acknowledgement of the new number. `lost`: it could sell less.
    What was held by the guard or parked is shown separately.

    Kept for history.keep_days days. docs/exposure.md has the definition.
    """
    settings = source.read(log_to=sys.stderr)
    from daemon.app import building

    if as_csv and as_json:
        raise click.UsageError("--csv and --json exclude each other")
    zone = building.operators_zone(settings)
    names = [known_channel(settings, channel)] if channel else list(settings.enabled_channels())
    first = moment(since, clock.now(), zone).astimezone(zone).date()
    found = in_database(settings, lambda database: _read(database, names, zone, first, sku))
    if as_csv:
        _print_csv(found)
    elif as_json:
        print_json({name: _as_json(sums) for name, sums in found.items()})
    else:
        _print_tables(found, first)


async def _read(
    database: "Database", names: Sequence[ChannelName], zone: tzinfo, first: date, sku: str | None
) -> dict[ChannelName, "SumsByDay"]:
    from daemon.store.exposure import Exposure

    one = Exposure(database, zone)
    return {name: await one.since(name, first, sku=None if sku is None else Sku(sku)) for name in names}


def _print_csv(found: Mapping[ChannelName, "SumsByDay"]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for channel, sums in found.items():
        for (day, sku), one in sorted(sums.items()):
            for kind, values in (("over", one.over), ("lost", one.lost)):
                for reason, value in core.by_reason(values).items():
                    writer.writerow((day, channel, sku, kind, reason, round(value, 3)))


def _as_json(sums: "SumsByDay") -> list[dict[str, Any]]:
    return [
        {
            "day": day,
            "sku": sku,
            **{
                kind: {reason: round(value, 3) for reason, value in core.by_reason(values).items()}
                for kind, values in (("over", one.over), ("lost", one.lost))
            },
        }
        for (day, sku), one in sorted(sums.items())
    ]


def _print_tables(found: Mapping[ChannelName, "SumsByDay"], first: date) -> None:
    from daemon.tables import bold, print_rows

    for channel, by_day in found.items():
        sums = core.by_sku(by_day)
        over, lost = (core.split(one) for one in core.kinds(core.total(sums.values())))
        click.echo(bold(f"{channel}, since {first}, in unit-seconds"))
        click.echo(f"over: {over.automatic:,.1f}, and {over.held_or_parked:,.1f} held or parked")
        click.echo(f"lost: {lost.automatic:,.1f}, and {lost.held_or_parked:,.1f} held or parked")
        worst = core.worst(sums, _SHOWN)
        if worst:
            print_rows([{"sku": sku, **_row(sums[sku])} for sku in worst])
        if len(sums) > len(worst):
            click.echo(f"the worst {len(worst)} of {len(sums)} SKUs; --csv prints all of them")
        click.echo()


def _row(sums: core.Sums) -> dict[str, Any]:
    return {
        "over": round(sum(sums.over), 1),
        "reasons": core.in_words(sums.over),
        "lost": round(sum(sums.lost), 1),
        "reasons (lost)": core.in_words(sums.lost),
    }
