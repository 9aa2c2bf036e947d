"""`stockrelay attempts`."""

import re
import sys
from datetime import datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any, Final

import click

from daemon import clock
from daemon.commands.framework import DONE, EARLIEST, FAILED, LATEST, Command, channels
from daemon.commands.settings_source import SettingsSource, in_database, known_channel, print_json
from daemon.core.explain.facts import named
from daemon.core.outcome import GONE, SHADOW, Kind
from daemon.core.types import Sku

if TYPE_CHECKING:
    from daemon.store.answer_rows import LoggedAttempt

_OUTCOMES: Final = (*(kind.value for kind in Kind), GONE, SHADOW)
_AGO: Final = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_A_DAY: Final = timedelta(days=1)


@click.command(
    cls=Command,
    examples=[
        "attempts --sku SKU-1",
        "attempts --channel tokyo --outcome refused --since 7d",
        "attempts --since 2026-11-21T08:30 --limit 1000 --json",
    ],
    exits={DONE: "it was read, whether or not there is an attempt", FAILED: "the database cannot be reached"},
)
@click.option("--channel", metavar="CHANNEL", shell_complete=channels, help="Only this channel.")
@click.option("--sku", metavar="SKU", help="Only this SKU, in the ERP's words.")
@click.option(
    "--since",
    metavar="TIME",
    help="From then on: 90s, 30m, 2h, 7d, or a time such as 2026-11-21 or 2026-11-21T08:30 "
    "(in the zone of reconcile.timezone unless it says another). Default: a day; with --sku, all that is kept.",
)
@click.option(
    "--outcome", metavar="WORD", multiple=True, type=click.Choice(_OUTCOMES), help="May be repeated."
)
@click.option(
    "--limit",
    metavar="N",
    type=click.IntRange(1, 1_000_000),
    default=50,
    show_default=True,
    help="The most attempts to show.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def attempts(
    source: SettingsSource,
    *,
    channel: str | None,
    sku: str | None,
    since: str | None,
    outcome: tuple[str, ...],
    limit: int,
    as_json: bool,
) -> None:
    """Show what was sent, and what the marketplaces said.

    The newest first. An attempt stands here when its outcome is known.

    \b
    applied   the marketplace acknowledged it
    refused   the marketplace refused this SKU
    trouble   the marketplace refused the channel, not the SKU
    not_sent  nothing reached the marketplace
    unknown   no clear answer: it may have arrived, or may yet arrive
    gone      a 0 for a SKU that left the listing was refused: it is not offered

    Kept for history.keep_days days.
    """
    settings = source.read(log_to=sys.stderr)
    from daemon.app import building
    from daemon.store.answers import Answers

    zone = building.operators_zone(settings)
    now = clock.now()
    begin = moment(since, now, zone) if since else None if sku else now - _A_DAY
    channels = [known_channel(settings, channel)] if channel else list(settings.enabled_channels())
    found = in_database(
        settings,
        lambda database: Answers(database).attempts(
            channels, sku=None if sku is None else Sku(sku), since=begin, outcomes=outcome, limit=limit
        ),
    )
    if as_json:
        print_json([_as_json(one) for one in found])
        return
    from daemon.tables import print_rows

    if not found:
        click.echo("no attempts" + (f" since {begin.astimezone(zone):%Y-%m-%d %H:%M:%S %Z}" if begin else ""))
        return
    print_rows([_as_row(one, zone) for one in found])
    if len(found) == limit:
        click.echo(f"the newest {limit}; --limit shows more")


def moment(text: str, now: datetime, zone: tzinfo, option: str = "--since") -> datetime:
    """What a time on the command line means. Raises BadParameter (exit code 2)."""
    try:
        if match := _AGO.fullmatch(text.strip()):
            time = now - timedelta(seconds=float(match[1]) * _UNITS[match[2]])
        else:
            time = datetime.fromisoformat(text.strip())
    except OverflowError:
        time = None
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is no time; write 90s, 30m, 2h, 7d, 2026-11-21 or 2026-11-21T08:30",
            param_hint=option,
        ) from None
    if time is None or not EARLIEST <= time.date() <= LATEST:
        raise click.BadParameter(
            f"{text!r} is not between {EARLIEST} and {LATEST}",
            param_hint=option,
        )
    return time if time.tzinfo else time.replace(tzinfo=zone)


def _as_json(one: "LoggedAttempt") -> dict[str, Any]:
    attempt = one.attempt
    return {
        "at": attempt.at,
        "attempt": attempt.attempt_id,
        "channel": one.channel,
        "sku": one.sku,
        "identifiers": list(attempt.identifiers),
        "quantity": attempt.quantity,
        "outcome": attempt.outcome,
        "duration_ms": None if attempt.duration_ms is None else round(attempt.duration_ms, 1),
        "reason": attempt.reason,
    }


def _as_row(one: "LoggedAttempt", zone: tzinfo) -> dict[str, Any]:
    attempt = one.attempt
    return {
        "at": f"{attempt.at.astimezone(zone):%Y-%m-%d %H:%M:%S.%f}"[:-3],
        "channel": one.channel,
        "sku": one.sku,
        "as": named(attempt.identifiers),
        "quantity": attempt.quantity,
        "outcome": attempt.outcome,
        "ms": None if attempt.duration_ms is None else round(attempt.duration_ms),
        "reason": attempt.reason,
    }
