"""`stockrelay reconcile`: the nightly comparison by hand."""

import asyncio
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from daemon.commands.csv_file import CsvFile
from daemon.commands.framework import DONE, EARLIEST, FAILED, Command, channels
from daemon.commands.operator import this_operator
from daemon.commands.settings_source import SettingsSource, known_channel, print_json, print_line
from daemon.core.types import ChannelName

if TYPE_CHECKING:
    from collections.abc import Callable

    from daemon.services.reconcile.session import RunProgress

_LISTED: Final = ("opened", "still_open", "contested", "resolved")
_LINE_S: Final = 5.0
_COLUMNS: Final = (
    "channel", "day", "what", "class", "sku", "ours", "theirs", "first_seen", "times_seen", "heals",
)  # fmt: skip


@click.command(
    cls=Command,
    examples=[
        "reconcile --dry-run",
        "reconcile --channel tokyo --date 2026-11-21 --csv differences.csv",
        "reconcile --json",
    ],
    exits={
        DONE: "it was completed, whether or not anything differs",
        FAILED: "it could not be completed; run the command again to go on",
    },
)
@click.option(
    "--date",
    "day",
    metavar="DATE",
    type=click.DateTime(["%Y-%m-%d"]),
    help="The business day. Default: the last that is over.",
)
@click.option(
    "--channel",
    metavar="CHANNEL",
    shell_complete=channels,
    help="This channel alone. Default: all that are enabled.",
)
@click.option("--dry-run", is_flag=True, help="Compare and report; heal nothing and keep nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--csv", "file", type=click.Path(path_type=Path), help="Write the differences to this file as well."
)
@click.pass_obj
def reconcile(
    source: SettingsSource,
    *,
    day: datetime | None,
    channel: str | None,
    dry_run: bool,
    as_json: bool,
    file: Path | None,
) -> int:
    """Compare with what the marketplaces hold, now and by hand.

    What the daemon does every night, with the same settings: a marketplace that compares is asked about all that
    changed on the day, one that can be read is read back. What differs is sent again (unless reconcile.heal is off),
    and the receivers of notifications get the report. A run that was killed half-way resumes when you run the
    command again.
    """
    settings = source.read(log_to=sys.stderr)
    names = [known_channel(settings, channel)] if channel else sorted(settings.enabled_channels())
    from daemon import clock
    from daemon.app.reconciling import reconcile_by_hand

    today = settings.reconcile.schedule.today(clock.now())
    wanted = settings.reconcile.schedule.last_over(clock.now()) if day is None else day.date()
    if wanted > today or wanted < EARLIEST:
        late = f"has not begun yet; today is {today}"
        wrong = late if wanted > today else f"is not between {EARLIEST} and {today}"
        raise click.UsageError(f"--date {wanted} {wrong}", click.get_current_context())
    if file is not None:
        # Fail now, and not after an hour.
        _write_csv(file, {})
    with progress_shown() as show:
        answers = asyncio.run(
            reconcile_by_hand(settings, this_operator(), names, wanted, show, is_dry=dry_run)
        )
    if file is not None:
        _write_csv(file, answers)
    if as_json:
        print_json({"channels": answers})
    else:
        for name, answer in answers.items():
            _print(name, answer)
    return 1 if any(answer["incomplete"] for answer in answers.values()) else 0


@contextmanager
def progress_shown() -> "Iterator[Callable[[ChannelName, RunProgress], None]]":
    """A bar on a terminal, a line now and then elsewhere; both on standard error."""
    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bars(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}

        def show(channel: ChannelName, progress: "RunProgress") -> None:
            name = f"{channel}: {progress.stage}"
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=progress.total)
            bars.update(tasks[name], completed=progress.done, total=progress.total)

        yield show


def _lines() -> "Callable[[ChannelName, RunProgress], None]":
    """Shows progress as a line for each stage, and one every few seconds."""
    shown, shown_at = "", 0.0

    def show(channel: ChannelName, progress: "RunProgress") -> None:
        nonlocal shown, shown_at
        now, stage = time.monotonic(), f"{channel}: {progress.stage}"
        if stage != shown or now - shown_at >= _LINE_S:
            shown, shown_at = stage, now
            of = "" if progress.total is None else f" of {progress.total}"
            click.echo(f"{stage} {progress.done}{of}", err=True)

    return show


def _print(channel: ChannelName, answer: Mapping[str, Any]) -> None:
    from daemon.tables import print_rows

    click.echo(f"\n{channel}, business day {answer['day']}:")
    if "method" in answer:
        counts = [
            f"{answer['checked']} SKUs {_METHODS[answer['method']]}",
            *([f"{answer['agreed']} agree"] if answer["method"] != "assert" else []),
            *(f"{n} {name.replace('_', ' ')}" for name in _LISTED if (n := _many(answer, name))),
            *([f"{n} chunks differ, SKU unknown"] if (n := _many(answer, "unnamed_chunks")) else []),
            *([f"{answer['unsettled']} were just being sent"] if answer["unsettled"] else []),
            *([f"{answer['parked']} are parked"] if answer["parked"] else []),
            *([f"{n} malformed products or SKUs" for n in [answer.get("set_aside")] if n]),
            *([f"{n} on sale without an identifier" for n in [answer.get("without_identifier")] if n]),
            _sent_again(answer),
            f"{answer['took_s']:g} s",
        ]
        click.echo("; ".join(counts))
        rows = [dict(zip(_COLUMNS[2:], row[2:], strict=True)) for row in _rows(channel, answer)]
        if rows:
            print_rows(rows)
        for chunk in answer["unnamed_chunks"]:
            print_line(
                f"chunk {chunk['chunk']}: something differs in {chunk['skus']} SKUs from {chunk['first_sku']} to "
                f"{chunk['last_sku']}; the marketplace says: {chunk['words']}"
            )
        for name, many in answer["more"].items():
            click.echo(f"and {many} more {name.replace('_', ' ')}")
    if answer["incomplete"]:
        print_line(f"not completed: {answer['incomplete']}")


def _sent_again(answer: Mapping[str, Any]) -> str:
    if answer["heal"]:
        return f"{answer['healed']} are sent again"
    if answer["is_shadow"]:
        return f'nothing is sent (mode = "shadow"); {answer["would_heal"]} would be sent again'
    return f"nothing is sent again{f', {n} would be' if (n := answer['would_heal']) else ''}"


_METHODS: Final = {
    "compare": "compared",
    "read_back": "read back",
    "assert": "asserted (its numbers cannot be read back)",
}


def _many(answer: Mapping[str, Any], name: str) -> int:
    return len(answer[name]) + int(answer["more"].get(name, 0))


def _rows(channel: ChannelName, answer: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    for what in _LISTED:
        for item in answer.get(what, ()):
            yield (channel, answer["day"], what, *(item.get(name) for name in _COLUMNS[3:]))


def _write_csv(file: Path, answers: Mapping[ChannelName, Mapping[str, Any]]) -> None:
    with CsvFile(file, _COLUMNS) as stream:
        for channel, answer in answers.items():
            for row in _rows(channel, answer):
                stream.write(row)
