"""`stockrelay release`."""

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import click

from daemon.commands.framework import DONE, FAILED, Command, channels
from daemon.commands.settings_source import SettingsSource, known_channel, local_time, print_json
from daemon.core.types import ChannelName

if TYPE_CHECKING:
    from daemon.settings import Settings


@click.command(
    cls=Command,
    examples=["release tokyo"],
    exits={DONE: "they are sent, or none were held", FAILED: "the database cannot be reached"},
)
@click.argument("channel", shell_complete=channels)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def release(source: SettingsSource, channel: str, *, as_json: bool) -> None:
    """Send the numbers of CHANNEL that the guard holds.

    They are due at once. For the next guard.window_s, further numbers are sent without asking, so that the rest of the
    same import is not held again.
    """
    settings = source.read(log_to=sys.stderr)
    name = known_channel(settings, channel)
    answer = asyncio.run(_release(settings, name))
    if as_json:
        print_json(answer)
    elif answer["held_since"] is None:
        click.echo(f"{name}: nothing is held")
    else:
        click.echo(
            f"{name}: {answer['numbers']} numbers that were held since "
            f"{local_time(settings, answer['held_since'])} are sent now; "
            f"further ones pass until {local_time(settings, answer['passes_until'])}"
        )


async def _release(settings: "Settings", channel: ChannelName) -> dict[str, Any]:
    from daemon import app
    from daemon.store.guard import Guard

    async with app.opened(settings) as database:
        guard = Guard(database)
        released = await guard.release(channel, settings.guard.window)
        state = await guard.state(channel)
    passes_until = state.passes_until
    return {
        "channel": channel,
        "numbers": 0 if released is None else released.numbers,
        "held_since": released and released.held_since and released.held_since.isoformat(),
        "passes_until": passes_until and passes_until.isoformat(),
    }
