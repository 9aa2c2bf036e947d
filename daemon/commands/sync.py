"""`stockrelay sync`: one-time initialisation of a channel."""

import asyncio
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from daemon.commands.framework import INTERRUPTED, Command, channels
from daemon.commands.settings_source import SettingsSource, known_channel, print_json

if TYPE_CHECKING:
    from rich.progress import Progress

    from daemon.core.types import ChannelName
    from daemon.services.sync import Stage
    from daemon.settings import Settings
    from daemon.store.sync import SyncSummary


@click.command(
    cls=Command,
    examples=["sync tokyo --dry-run", "sync tokyo", "sync tokyo --json 2>sync.log"],
    exits={INTERRUPTED: "interrupted; give the command again to go on"},
)
@click.argument("channel", shell_complete=channels)
@click.option("--dry-run", is_flag=True, help="Show what would be sent, and change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def sync(source: SettingsSource, channel: str, *, dry_run: bool, as_json: bool) -> int:
    """Send the whole listing to CHANNEL, once.

    For a new channel, or one whose contents are unknown: every number is sent, even if it was acknowledged
    before, many SKUs a call, at the channel's rate and behind the changes that happen meanwhile. Parked SKUs are
    left alone. A running daemon does the sending and this command watches; without one, it sends itself.

    Ctrl-C and kills lose nothing: run it again and it resumes where it stopped.
    """
    settings = source.read(log_to=sys.stderr)
    name = known_channel(settings, channel)
    if dry_run:
        return _show_plan(settings, name, as_json=as_json)
    has_bar = sys.stderr.isatty()
    if not has_bar:
        from daemon import logs

        # No terminal to draw a bar on: the log says how far it is.
        logs.configure(settings.log.level, settings.log.format, stream=sys.stderr, secrets=settings.secrets())
    summary, is_resumed = asyncio.run(_sync(settings, name, has_bar=has_bar))
    counts = asdict(summary)
    answer = {
        "channel": name,
        "is_finished": counts.pop("is_finished"),
        "is_resumed": is_resumed,
        "took_s": round(counts.pop("took").total_seconds(), 1),
        **counts,
        "reasons": list(counts["reasons"]),
    }
    if as_json:
        print_json(answer)
    else:
        from daemon.tables import print_answer

        print_answer(answer)
        if summary.in_doubt:
            click.echo("in doubt: the daemon asks again for these; nothing is left to do by hand")
        if not summary.is_finished:
            click.echo(f"interrupted: run `stockrelay sync {name}` again to go on, or leave it to the daemon")
    return 0 if summary.is_finished else INTERRUPTED


def _show_plan(settings: "Settings", name: "ChannelName", *, as_json: bool) -> int:
    from daemon.app import sync_planning

    plan = asyncio.run(sync_planning.plan_sync(settings, name))
    if as_json:
        print_json(plan)
    else:
        from daemon.tables import print_answer

        zeroes = f"{plan['zeroes']:,} of {plan['sendable']:,} quantities are 0"
        if plan.pop("held_as_first_filling"):
            zeroes += f": a first filling is held until they are right, or `stockrelay release {name}`"
        print_answer(plan | {"zeroes": zeroes})
    return 0


async def _sync(settings: "Settings", name: "ChannelName", *, has_bar: bool) -> "tuple[SyncSummary, bool]":
    from daemon.app import syncing

    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    if not has_bar:
        return await syncing.sync(settings, name, lambda _stage: None, stop)
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        return await syncing.sync(settings, name, _drawing(bar, name), stop)


def _drawing(bar: "Progress", name: "ChannelName") -> "Callable[[Stage], None]":
    reading = bar.add_task("reading the listing", total=None, note="")
    sending = bar.add_task(f"sending to {name}", total=None, visible=False, note="")

    def draw(stage: "Stage") -> None:
        if stage.progress is None:
            bar.update(reading, completed=stage.read)
            return
        progress = stage.progress
        note = f"{progress.confirming} to confirm" if progress.confirming else ""
        if not progress.holders:
            note = "waiting for a daemon that owns the channel's slots"
        elif progress.trouble is not None:
            note = f"nothing is sent: {progress.trouble}"
        bar.update(reading, visible=False)
        bar.update(
            sending,
            visible=True,
            total=progress.total,
            completed=max(0, progress.total - progress.waiting),
            note=note,
        )

    return draw
