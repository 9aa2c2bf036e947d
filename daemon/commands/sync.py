"""`stockrelay sync`: the listing, or a part of it, is sent once."""

import asyncio
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from daemon import clock
from daemon.commands.attempts import moment
from daemon.commands.csv_file import CsvFile
from daemon.commands.framework import FAILED, INTERRUPTED, Command, channels
from daemon.commands.operator import print_shadow, this_operator
from daemon.commands.settings_source import SettingsSource, known_channel, print_json
from daemon.core.sync_filter import SyncFilter, described

if TYPE_CHECKING:
    from typing import TextIO

    from rich.progress import Progress

    from daemon.app.syncing import SyncResult
    from daemon.core.sync_plan import PlannedRow
    from daemon.core.types import ChannelName
    from daemon.services.sync import Stage
    from daemon.settings import Settings
    from daemon.store.sync import SyncRow


@click.command(
    cls=Command,
    examples=[
        "sync tokyo --dry-run",
        "sync tokyo",
        "sync tokyo --sku SKU-1 --sku SKU-2",
        "sync tokyo --where \"brand_name = 'AMS'\" --since 2h --csv plan.csv",
        "sync tokyo --json 2>sync.log",
    ],
    exits={
        FAILED: "it failed, or the listing does not have a SKU that was named",
        INTERRUPTED: "interrupted; give the command again to go on",
    },
)
@click.argument("channel", shell_complete=channels)
@click.option(
    "--sku", "skus", multiple=True, metavar="SKU", help="Only this SKU; may be given several times."
)
@click.option(
    "--skus-from",
    type=click.File(),
    metavar="FILE",
    help="Only the SKUs in this file, one a line; -: standard input.",
)
@click.option(
    "--where", metavar="SQL", help="Only SKUs for which this condition over the listing's columns is true."
)
@click.option(
    "--since",
    metavar="TIME",
    help="Only SKUs whose number changed or was sent since then, or that wait to be sent: 90s, 30m, 2h, 7d, or a date "
    "or time.",
)
@click.option(
    "--resume", is_flag=True, help="Go on with the sync that is open, for the SKUs that it was begun for."
)
@click.option("--dry-run", is_flag=True, help="Show what would be sent, and change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--csv",
    "file",
    type=click.Path(path_type=Path),
    help="Write every SKU, with what became of it, to this file as well.",
)
@click.pass_obj
def sync(
    source: SettingsSource,
    channel: str,
    *,
    skus: tuple[str, ...],
    skus_from: "TextIO | None",
    where: str | None,
    since: str | None,
    resume: bool,
    dry_run: bool,
    as_json: bool,
    file: Path | None,
) -> int:
    """Send the listing to CHANNEL, once: all of it, or a part.

    For a new channel, or one whose contents are unknown: every number is sent, even if it was acknowledged
    before, many SKUs a call, at the channel's rate and behind the changes that happen meanwhile. Parked SKUs are
    left alone. A running daemon does the sending and this command watches; without one, it sends itself.

    --sku, --skus-from, --where and --since choose SKUs of the listing; where several are given, those that all of them
    choose.

    Ctrl-C and kills lose nothing: run it again and it resumes where it stopped, with the same SKUs.
    """
    settings = source.read(log_to=sys.stderr)
    name = known_channel(settings, channel)
    wanted = _wanted(settings, (*skus, *_lines(skus_from)), skus_from is not None, where, since)
    if resume and (dry_run or not wanted.is_everything):
        raise click.UsageError("--resume goes on with the SKUs of the open sync: give it alone")
    columns = _identifier_columns(settings, name)
    with (
        nullcontext()
        if file is None
        else CsvFile(file, ("sku", *columns, "quantity", "result", "reason")) as csv
    ):
        if dry_run:
            return _show_plan(settings, name, wanted, csv, as_json=as_json)
        return _send(settings, name, None if resume else wanted, csv, as_json=as_json)


def _identifier_columns(settings: "Settings", name: "ChannelName") -> Sequence[str]:
    """Return the columns of the listing that hold the marketplace's identifiers."""
    from daemon.app import building

    return building.listings(settings)[name].identifier_columns


def _lines(stream: "TextIO | None") -> list[str]:
    return [] if stream is None else [line for text in stream if (line := text.rstrip("\r\n"))]


def _wanted(
    settings: "Settings", skus: Sequence[str], is_from_file: bool, where: str | None, since: str | None
) -> SyncFilter:
    """Return what the options choose. Raises UsageError."""
    if is_from_file and not skus:
        raise click.UsageError("--skus-from holds no SKU")
    condition = None
    if where is not None:
        from daemon.settings import rules

        try:
            condition = rules.condition(where)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--where") from None
    at = None
    if since is not None:
        from daemon.app import building

        now, zone = clock.now(), building.operators_zone(settings)
        at = moment(since, now, zone)
        if at < now - settings.history.keep:
            days = settings.history.keep_days
            raise click.BadParameter(
                f"{since!r} is before what is kept: history.keep_days is {days}", param_hint="--since"
            )
    return SyncFilter(frozenset(skus) if skus else None, condition, at)


def _send(
    settings: "Settings",
    name: "ChannelName",
    wanted: SyncFilter | None,
    csv: CsvFile | None,
    *,
    as_json: bool,
) -> int:
    has_bar = sys.stderr.isatty()
    if not has_bar:
        from daemon import logs

        # No terminal to draw a bar on: the log says how far it is.
        logs.configure(settings.log.level, settings.log.format, stream=sys.stderr, secrets=settings.secrets())
    result = asyncio.run(_sync(settings, name, wanted, csv, has_bar=has_bar))
    counts = asdict(result.summary)
    answer = {
        "channel": name,
        "is_finished": counts.pop("is_finished"),
        "is_resumed": result.is_resumed,
        "filter": None if result.filter is None else described(result.filter),
        "not_in_listing": list(result.missing),
        "took_s": round(counts.pop("took").total_seconds(), 1),
        **counts,
        "reasons": list(counts["reasons"]),
    }
    if as_json:
        print_json(answer)
    else:
        _print_result(name, answer)
    if not answer["is_finished"]:
        return INTERRUPTED
    return FAILED if result.missing else 0


def _print_result(name: "ChannelName", answer: "dict[str, Any]") -> None:
    from daemon.tables import print_answer

    is_everything = answer["filter"] is None
    print_answer({
        key: value
        for key, value in answer.items()
        if not (is_everything and key in ("filter", "not_in_listing"))
    })  # fmt: skip
    if answer["in_doubt"]:
        click.echo("in doubt: the daemon asks again for these; nothing is left to do by hand")
    if not answer["is_finished"]:
        again = "" if is_everything else " --resume"
        click.echo(
            f"interrupted: run `stockrelay sync {name}{again}` again to go on, or leave it to the daemon"
        )


def _show_plan(
    settings: "Settings", name: "ChannelName", wanted: SyncFilter, csv: CsvFile | None, *, as_json: bool
) -> int:
    from daemon.app import sync_planning

    columns = len(_identifier_columns(settings, name))

    def write(row: "PlannedRow") -> None:
        if csv is not None:
            names = (*row.identifiers, *(None,) * columns)[:columns]
            csv.write((row.sku, *names, row.quantity, row.result, row.reason))

    plan = asyncio.run(sync_planning.plan_sync(settings, name, wanted, write))
    if as_json:
        print_json(plan)
    else:
        from daemon.tables import print_answer

        shadow = plan.pop("shadow")
        zeroes = f"{plan['zeroes']:,} of {plan['sendable']:,} quantities are 0"
        if plan.pop("held_as_first_filling"):
            zeroes += f": a first filling is held until they are right, or `stockrelay release {name}`"
        print_answer(plan | {"zeroes": zeroes})
        print_shadow(name, shadow)
    return FAILED if plan.get("not_in_listing") else 0


async def _sync(
    settings: "Settings",
    name: "ChannelName",
    wanted: SyncFilter | None,
    csv: CsvFile | None,
    *,
    has_bar: bool,
) -> "SyncResult":
    from daemon.app import syncing

    columns = len(_identifier_columns(settings, name))

    def write(rows: "Sequence[SyncRow]") -> None:
        assert csv is not None
        for row in rows:
            names = (*row.identifiers, *(None,) * columns)[:columns]
            csv.write((row.sku, *names, row.quantity, row.result, row.reason))

    on_rows = None if csv is None else write
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    if not has_bar:
        return await syncing.sync(settings, this_operator(), name, wanted, lambda _stage: None, on_rows, stop)
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns_shown = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns_shown, console=Console(stderr=True)) as bar:
        return await syncing.sync(settings, this_operator(), name, wanted, _drawing(bar, name), on_rows, stop)


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
