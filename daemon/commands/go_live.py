"""`stockrelay go-live`: begins to send to a channel that is new to the database."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from daemon.commands.framework import DONE, FAILED, Command, channels
from daemon.commands.operator import as_operator
from daemon.commands.reconcile import progress_shown
from daemon.commands.settings_source import (
    SettingsSource,
    known_channel,
    local_time,
    print_json,
    print_line,
)
from daemon.core.errors import StockrelayError

if TYPE_CHECKING:
    from daemon.app.going_live import Compared, Found
    from daemon.core.types import ChannelName
    from daemon.settings import Settings
    from daemon.store.live import LiveChannel


@click.command(
    cls=Command,
    examples=["go-live tokyo --dry-run", "go-live tokyo", "go-live tokyo --yes --by ann"],
    exits={
        DONE: "it is live, perhaps since before",
        FAILED: "not confirmed, not compared yet, the marketplace could not be read, or in shadow by its settings",
    },
)
@click.argument("channel", shell_complete=channels)
@click.option("--by", metavar="NAME", help="Who decided it. Default: this user.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Show what would be sent, and change nothing.")
@click.option(
    "--without-comparison",
    is_flag=True,
    help="Do not read what the marketplace holds: every number is sent.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON; needs --yes or --dry-run.")
@click.pass_obj
def go_live(
    source: SettingsSource,
    channel: str,
    *,
    by: str | None,
    yes: bool,
    dry_run: bool,
    without_comparison: bool,
    as_json: bool,
) -> None:
    """Begin to send to CHANNEL, which is new to this database.

    Until then it is in shadow: everything is captured and decided, and nothing is sent. Shows what would be sent and
    asks. A marketplace that can be read is read first, and only what differs is sent. Every daemon begins to send at
    once, without a restart; the guard judges the first numbers as it does all others. This is needed once
    for a channel: afterwards, `mode = "shadow"` and `stockrelay pause` stop it.
    """
    settings = source.read(log_to=sys.stderr)
    name = known_channel(settings, channel)
    is_asked = sys.stdin.isatty() and not (yes or dry_run or as_json)
    if not (yes or dry_run or is_asked):
        raise click.UsageError("not on a terminal: give --yes, or --dry-run to look first")
    from daemon.app import going_live

    found = asyncio.run(going_live.look(settings, name))
    if found.live is not None:
        _print(settings, name, found.answer, found.live, as_json=as_json)
        return
    if not dry_run:
        _refuse(settings, name, found)
    with _compared(settings, name, found, is_wanted=not without_comparison) as compared:
        answer = found.answer | compared.as_answer()
        if dry_run:
            _print(settings, name, answer, None, as_json=as_json)
            return
        if compared.has_failed:
            raise StockrelayError(
                f"what {name} holds is not known: {compared.why}; `stockrelay go-live {name} --without-comparison` "
                "goes live all the same, and sends every number"
            )
        if is_asked:
            _print(settings, name, answer, None, as_json=False)
            click.confirm(_question(name, found, compared), abort=True)
        live = as_operator(settings, lambda actions: actions.go_live(name, compared.reading), by)
    _print(settings, name, answer, live, as_json=as_json)
    if not as_json and not found.has_owner:
        click.echo("no daemon serves it at the moment: it begins when one runs (stockrelay run)")


def _refuse(settings: "Settings", name: "ChannelName", found: "Found") -> None:
    """Raise StockrelayError where going live would mean nothing."""
    if settings.enabled_channels()[name].mode == "shadow":
        raise StockrelayError(
            f'channels.{name}.mode is "shadow": nothing would be sent; set it to "live" first'
        )
    if found.facts.compared_at is None:
        raise StockrelayError(
            f"the listing of {name} has not been compared yet, so that what would be sent is not known; "
            "start a daemon: stockrelay run"
        )


@contextmanager
def _compared(
    settings: "Settings", name: "ChannelName", found: "Found", *, is_wanted: bool
) -> "Iterator[Compared]":
    """Compare with what the marketplace holds, and delete what was read at the end."""
    from daemon.app import going_live

    if not is_wanted or found.facts.compared_at is None:
        yield going_live.Compared()
        return
    with progress_shown() as show:
        compared = asyncio.run(going_live.compare(settings, name, show))
    try:
        yield compared
    finally:
        asyncio.run(going_live.forget(settings, compared))


def _question(name: "ChannelName", found: "Found", compared: "Compared") -> str:
    facts, counts = found.facts, compared.counts
    known = "" if counts is None else f" ({counts.equal} of them are there already)"
    others = ""
    if counts is not None and counts.not_listed:
        others = f"\n{counts.not_listed} more are on sale there and not in the listing: their numbers stay as they are."
    return f"{others}\n{facts.listed} SKUs{known}, {facts.zeroes} with 0: send to {name} from now on?"


def _print(
    settings: "Settings",
    name: "ChannelName",
    answer: dict[str, Any],
    live: "LiveChannel | None",
    *,
    as_json: bool,
) -> None:
    about = None if live is None else {"since": live.since, "by": live.by, "origin": live.origin}
    if as_json:
        print_json({"channel": name, "live": about, **answer})
    elif live is not None:
        print_line(f"{name} is live since {local_time(settings, live.since)}, by {live.by} ({live.origin})")
        if answer["guard"] is not None:
            print_line(
                f"nothing is sent yet: the guard holds {answer['held']} numbers: {answer['guard']}\n"
                f"  what to do: put the ERP's data right, or, if they are true, run `stockrelay release {name}`"
            )
    else:
        from daemon.tables import print_answer

        print_answer({"channel": name, **_with_tables(answer)})


def _with_tables(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer with the marketplace's lists beside its counts, where each is printed as a table."""
    there = answer["at_marketplace"]
    if there is None:
        return answer
    counts = {name: value for name, value in there.items() if not isinstance(value, list)}
    not_listed = [{"name": name} for name in there["first_not_listed"]]
    lists = {"first_differing": there["first"], "first_not_listed": not_listed}
    return answer | {"at_marketplace": counts} | lists
