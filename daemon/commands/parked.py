"""`stockrelay parked list`, `retry` and `discard`."""

import sys
from typing import TYPE_CHECKING, Any

import click

from daemon.commands.framework import DONE, FAILED, Group, channels
from daemon.commands.operator import as_operator_on, print_shadow
from daemon.commands.settings_source import SettingsSource, in_database, known_channel, print_json, print_line
from daemon.core.errors import StockrelayError
from daemon.core.types import ChannelName, Sku

if TYPE_CHECKING:
    from daemon.settings import Settings
    from daemon.store.database import Database
    from daemon.store.listing import ChannelListing


@click.group(cls=Group)
def parked() -> None:
    """Look at SKUs that wait for a person.

    A SKU is parked when it cannot be sent: the marketplace refuses it, its identifiers or its number are wrong, or it
    keeps failing while others pass. It does not hold up others. A change of its row in the listing (other
    identifiers, one row instead of two, a number instead of NULL) tries it again by itself.
    """


@parked.command(
    "list",
    examples=["parked list", "parked list tokyo --limit 500 --json"],
    exits={DONE: "it was read, whether or not any is parked", FAILED: "the database cannot be reached"},
)
@click.argument("channel", required=False, shell_complete=channels)
@click.option(
    "--limit",
    metavar="N",
    type=click.IntRange(1, 100_000),
    default=50,
    show_default=True,
    help="The most SKUs to show per channel.",
)
@click.option("--all", "with_discarded", is_flag=True, help="Those that were discarded, too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def list_parked(
    source: SettingsSource, channel: str | None, *, limit: int, with_discarded: bool, as_json: bool
) -> None:
    """Show parked SKUs and why, the newest first.

    Of CHANNEL, or of every channel. SKUs of the listing that can't be followed at all (of more than 1,000 bytes, or no
    text in the database's encoding) are named, too: the listing is read for that.
    """
    settings = source.read(log_to=sys.stderr)
    channels = [known_channel(settings, channel)] if channel else list(settings.enabled_channels())
    answer = in_database(
        settings, lambda database: _list(settings, database, channels, limit, with_discarded=with_discarded)
    )
    if as_json:
        print_json(answer)
        return
    from daemon.tables import print_rows

    rows = [
        {
            "channel": name,
            "sku": one["sku"],
            "since": one["since"][:19].replace("T", " "),
            **({"discarded": one["discarded"]} if with_discarded else {}),
            "reason": one["reason"],
        }
        for name, found in answer.items()
        for one in found["skus"]
    ]
    if rows:
        print_rows(rows)
    for name, found in answer.items():
        line = f"{name}: {found['parked'] - found['discarded']} parked"
        if found["discarded"]:
            line += f", and {found['discarded']} discarded (--all shows them)"
        click.echo(line)
        _print_refused(name, found["refused"])


def _print_refused(channel: str, refused: dict[str, Any]) -> None:
    if refused["problem"] is not None:
        print_line(f"{channel}: SKUs that can't be followed were not looked for: {refused['problem']}")
    elif refused["count"]:
        shown = "; ".join(f"{one['sku']} ({one['reason']})" for one in refused["skus"])
        print_line(
            f"{channel}: {refused['count']} SKUs of the listing can't be followed, and are not sent: {shown}"
        )


@parked.command(
    examples=["parked retry tokyo SKU-1 SKU-2", "parked retry tokyo --all"],
    exits={FAILED: "a named SKU is not parked (the others are tried), or the database cannot be reached"},
)
@click.argument("channel", shell_complete=channels)
@click.argument("skus", metavar="[SKU]...", nargs=-1)
@click.option("--all", "is_all", is_flag=True, help="Every parked SKU of the channel.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def retry(source: SettingsSource, channel: str, skus: tuple[str, ...], *, is_all: bool, as_json: bool) -> int:
    """Try parked SKUs of CHANNEL again.

    With --all, at half the channel's rate, so that new changes are not behind them. A SKU that is still wrong is
    parked again, with the reason.
    """
    if is_all == bool(skus):
        raise click.UsageError("name the SKUs, or give --all", click.get_current_context())
    settings = source.read(log_to=sys.stderr)
    name = known_channel(settings, channel)
    named = None if is_all else [Sku(sku) for sku in skus]
    done, shadow = as_operator_on(settings, name, lambda actions: actions.retry(name, named))
    return _say(name, "retried", done, skus, shadow, as_json=as_json)


@parked.command(
    examples=["parked discard tokyo SKU-1"],
    exits={FAILED: "a named SKU is not parked (the others are left), or the database cannot be reached"},
)
@click.argument("channel", shell_complete=channels)
@click.argument("skus", metavar="SKU...", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def discard(source: SettingsSource, channel: str, skus: tuple[str, ...], *, as_json: bool) -> int:
    """Leave parked SKUs of CHANNEL as they are, knowingly.

    Nothing is forgotten and nothing is sent: they stay parked, and the list, the status and the
    notifications leave them out. When the data changes, such a SKU is tried like any other, and if it is parked
    again it is shown again. `parked retry` takes a discard back.
    """
    settings = source.read(log_to=sys.stderr)
    name = known_channel(settings, channel)
    named = [Sku(sku) for sku in skus]
    done, shadow = as_operator_on(settings, name, lambda actions: actions.discard(name, named))
    return _say(name, "discarded", done, skus, shadow, as_json=as_json)


def _say(
    channel: ChannelName,
    done: str,
    skus: list[Sku],
    asked: tuple[str, ...],
    shadow: str | None,
    *,
    as_json: bool,
) -> int:
    others = [sku for sku in dict.fromkeys(asked) if sku not in skus]
    if as_json:
        print_json({"channel": channel, done: skus, "not_parked": others, "shadow": shadow})
    else:
        print_line(
            f"{channel}: {done} {len(skus)}" + (f" ({', '.join(skus)})" if 0 < len(skus) <= 20 else "")
        )
        print_shadow(channel, shadow)
    if others:
        raise StockrelayError(
            f"not parked for {channel}: {', '.join(others)}; `stockrelay explain SKU` shows the state of a SKU"
        )
    return 0


async def _list(
    settings: "Settings",
    database: "Database",
    channels: list[ChannelName],
    limit: int,
    *,
    with_discarded: bool,
) -> dict[str, Any]:
    from daemon.app import building
    from daemon.store.parked import Parked

    answer: dict[str, Any] = {}
    listings, zone = building.listings(settings), building.operators_zone(settings)
    for name in channels:
        store = Parked(database, name)
        total, discarded = await store.count()
        answer[name] = {
            "parked": total,
            "discarded": discarded,
            "refused": await _refused(database, listings[name]),
            "skus": [
                {
                    "sku": one.sku,
                    "since": one.since.astimezone(zone).isoformat(timespec="seconds"),
                    "discarded": one.is_discarded,
                    "reason": one.reason,
                }
                for one in await store.all(limit, with_discarded=with_discarded)
            ],
        }
    return answer


async def _refused(database: "Database", listing: "ChannelListing") -> dict[str, Any]:
    from daemon.store.refused import refused_skus

    try:
        async with (
            database.connection(f"{listing.channel}: reading the listing") as connection,
            database.reading(connection),
        ):
            found = await refused_skus(connection, listing)
    except StockrelayError as error:
        return {"count": None, "problem": str(error), "skus": []}
    skus = [{"sku": one.sku, "reason": one.reason} for one in found.some]
    return {"count": found.many, "problem": None, "skus": skus}
