"""`stockrelay pause`, `resume` and `release`."""

import sys

import click

from daemon.commands.framework import DONE, FAILED, Command, channels
from daemon.commands.operator import as_operator, as_operator_on, print_shadow
from daemon.commands.settings_source import (
    SettingsSource,
    known_channel,
    local_time,
    print_json,
    print_line,
)


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
    pause, in_flight = as_operator(settings, lambda actions: actions.pause(name, reason), by)
    if as_json:
        print_json({
            "channel": name,
            "since": pause.since,
            "by": pause.by,
            "reason": pause.reason,
            "in_flight": in_flight,
        })  # fmt: skip
        return
    why = f": {pause.reason}" if pause.reason else ""
    print_line(f"{name} is paused since {local_time(settings, pause.since)} by {pause.by}{why}")
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
    pause, shadow = as_operator_on(settings, name, lambda actions: actions.resume(name))
    if as_json:
        print_json({
            "channel": name,
            "was_paused_since": pause and pause.since,
            "was_paused_by": pause and pause.by,
            "reason": pause and pause.reason,
            "shadow": shadow,
        })  # fmt: skip
        return
    if pause is None:
        click.echo(f"{name} was not paused")
    else:
        print_line(f"{name} goes on; it was paused since {local_time(settings, pause.since)} by {pause.by}")
    print_shadow(name, shadow)


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
    (released, passes_until), shadow = as_operator_on(settings, name, lambda actions: actions.release(name))
    numbers, held_since = (released.numbers, released.held_since) if released else (0, None)
    if as_json:
        print_json({
            "channel": name,
            "numbers": numbers,
            "held_since": held_since,
            "passes_until": passes_until,
            "shadow": shadow,
        })  # fmt: skip
        return
    if held_since is None or passes_until is None:
        click.echo(f"{name}: nothing is held")
    else:
        done = "are sent now" if shadow is None else "are held no longer"
        click.echo(
            f"{name}: {numbers} numbers that were held since {local_time(settings, held_since)} {done}; "
            f"further ones pass until {local_time(settings, passes_until)}"
        )
    print_shadow(name, shadow)
