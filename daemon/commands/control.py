"""`stockrelay pause` and `resume`."""

import asyncio
import getpass
import socket
import sys
from typing import TYPE_CHECKING, Any

import click

from daemon.commands.framework import DONE, FAILED, Command, channels
from daemon.commands.settings_source import SettingsSource, known_channel, local_time, print_json, print_line
from daemon.core.types import ChannelName

if TYPE_CHECKING:
    from daemon.settings import Settings


@click.command(
    cls=Command,
    examples=["pause tokyo --reason 'their maintenance, until 06:00'", "pause tokyo --by ann --json"],
    exits={DONE: "it is paused, and was perhaps before", FAILED: "the database cannot be reached"},
)
@click.argument("channel", shell_complete=channels)
@click.option("--reason", metavar="TEXT", default="", help="Why; shown by status, explain and the log.")
@click.option("--by", metavar="NAME", help="Who pauses. Default: this user and machine.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def pause(source: SettingsSource, channel: str, *, reason: str, by: str | None, as_json: bool) -> None:
    """Send nothing to CHANNEL until `resume`.

    What is in flight ends as it would have. Changes are still captured and gathered, and nothing is lost:
    after `stockrelay resume CHANNEL` the newest number of each SKU is sent. The pause is kept in the database: every
    replica honours it, and a restart does not end it. Pausing twice keeps the first time and the last reason.
    """
    settings = source.read(log_to=sys.stderr)
    name = known_channel(settings, channel)
    answer = asyncio.run(_pause(settings, name, by or _whoami(), reason))
    if as_json:
        print_json(answer)
        return
    in_flight = answer["in_flight"]
    print_line(
        f"{name} is paused since {local_time(settings, answer['since'])} by {answer['by']}"
        + (f": {answer['reason']}" if answer["reason"] else "")
    )
    if in_flight:
        click.echo(f"in flight: {in_flight}; what was claimed before ends as it would have")
    click.echo(f"to go on: stockrelay resume {name}")


@click.command(
    cls=Command,
    examples=["resume tokyo"],
    exits={DONE: "it goes on, and was perhaps not paused", FAILED: "the database cannot be reached"},
)
@click.argument("channel", shell_complete=channels)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def resume(source: SettingsSource, channel: str, *, as_json: bool) -> None:
    """Go on with a paused CHANNEL.

    What has gathered meanwhile is sent at the channel's rate, sell-outs first, each SKU with its newest number.
    """
    settings = source.read(log_to=sys.stderr)
    name = known_channel(settings, channel)
    answer = asyncio.run(_resume(settings, name))
    if as_json:
        print_json(answer)
    elif answer["was_paused_since"] is None:
        click.echo(f"{name} was not paused")
    else:
        since = local_time(settings, answer["was_paused_since"])
        print_line(f"{name} goes on; it was paused since {since} by {answer['was_paused_by']}")


async def _pause(settings: "Settings", channel: ChannelName, by: str, reason: str) -> dict[str, Any]:
    from daemon import app
    from daemon.store.control import Pauses

    async with app.opened(settings) as database:
        pause, in_flight = await Pauses(database).pause(channel, by, reason)
    return {
        "channel": channel,
        "since": pause.since.isoformat(),
        "by": pause.by,
        "reason": pause.reason,
        "in_flight": in_flight,
    }


async def _resume(settings: "Settings", channel: ChannelName) -> dict[str, Any]:
    from daemon import app
    from daemon.store.control import Pauses

    async with app.opened(settings) as database:
        pause = await Pauses(database).resume(channel)
    return {
        "channel": channel,
        "was_paused_since": pause and pause.since.isoformat(),
        "was_paused_by": pause and pause.by,
        "reason": pause and pause.reason,
    }


def _whoami() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user often has no name
        user = "somebody"
    return f"{user}@{socket.gethostname()}"
