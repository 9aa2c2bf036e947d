"""`stockrelay go-live`: lets a channel be sent to that is new to the database."""

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import click

from daemon.commands.framework import DONE, FAILED, Command, channels
from daemon.commands.operator import operating
from daemon.commands.settings_source import (
    SettingsSource,
    known_channel,
    local_time,
    print_json,
    print_line,
)
from daemon.core.errors import StockrelayError

if TYPE_CHECKING:
    from daemon.core.types import ChannelName
    from daemon.settings import Settings
    from daemon.store.live import LiveChannel


@click.command(
    cls=Command,
    examples=["go-live tokyo --dry-run", "go-live tokyo", "go-live tokyo --yes --by ann"],
    exits={
        DONE: "it is live, and was perhaps before",
        FAILED: "not confirmed, not compared yet, or in shadow by its settings",
    },
)
@click.argument("channel", shell_complete=channels)
@click.option("--by", metavar="NAME", help="Who lets it go live. Default: this user.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Show what would be sent, and change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; needs --yes or --dry-run.")
@click.pass_obj
def go_live(
    source: SettingsSource, channel: str, *, by: str | None, yes: bool, dry_run: bool, as_json: bool
) -> None:
    """Let CHANNEL be sent to, which is new to this database.

    Until then it is in shadow: everything is captured and decided, and nothing is sent. Shows what would be sent and
    asks. Every daemon begins to send at once, without a restart; the guard judges the first numbers as it does all
    others. It is asked once for a channel: afterwards, `mode = "shadow"` and `stockrelay pause` stop it.
    """
    settings = source.read(log_to=sys.stderr)
    name = known_channel(settings, channel)
    is_asked = sys.stdin.isatty() and not (yes or dry_run or as_json)
    if not (yes or dry_run or is_asked):
        raise click.UsageError("not on a terminal: give --yes, or --dry-run to look first")
    from daemon.app import going_live

    found = asyncio.run(going_live.look(settings, name))
    if dry_run or found.live is not None:
        _print(settings, name, found.answer, found.live, as_json=as_json)
        return
    if settings.enabled_channels()[name].mode == "shadow":
        raise StockrelayError(
            f'channels.{name}.mode is "shadow": nothing would be sent; set it to "live" first'
        )
    if found.facts.compared_at is None:
        raise StockrelayError(
            f"the listing of {name} has not been compared yet, so that what would be sent is not known; "
            "start a daemon: stockrelay run"
        )
    if is_asked:
        _print(settings, name, found.answer, None, as_json=False)
        question = (
            f"\n{found.facts.listed} SKUs, {found.facts.zeroes} of them with 0: send to {name} from now on?"
        )
        click.confirm(question, abort=True)
    live = operating(settings, lambda operator: operator.go_live(name), by)
    _print(settings, name, found.answer, live, as_json=as_json)
    if not as_json and not found.has_owner:
        click.echo("no daemon serves it at the moment: it begins when one runs (stockrelay run)")


def _print(
    settings: "Settings",
    name: "ChannelName",
    answer: dict[str, Any],
    live: "LiveChannel | None",
    *,
    as_json: bool,
) -> None:
    about = None if live is None else {"since": live.since, "by": live.by, "from_where": live.from_where}
    if as_json:
        print_json({"channel": name, "live": about, **answer})
    elif live is not None:
        print_line(
            f"{name} is live since {local_time(settings, live.since)}, by {live.by} ({live.from_where})"
        )
    else:
        from daemon.tables import print_answer

        print_answer({"channel": name, **answer})
