"""`stockrelay push`: one SKU, now."""

import asyncio
import signal
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import click

from daemon.commands.explain import explained_lines
from daemon.commands.framework import FAILED, INTERRUPTED, Command, channels
from daemon.commands.operator import as_operator
from daemon.commands.settings_source import (
    SettingsSource,
    known_channel,
    local_time,
    print_json,
    print_line,
)
from daemon.core.errors import StockrelayError
from daemon.core.explain.facts import SkuState
from daemon.core.explain.pushing import planned_push, refusal
from daemon.core.outcome import Kind
from daemon.core.types import ChannelName, Sku

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from daemon.app.explaining import ExplainedSku
    from daemon.app.operator_actions import OperatorActions
    from daemon.core.explain.facts import Facts
    from daemon.settings import Settings
    from daemon.store.pushes import PushState

_SENT: Final = frozenset({SkuState.IN_SYNC, SkuState.DELISTED, SkuState.NOT_LISTED, SkuState.SUMMED})
_MOST_ATTEMPTS: Final = 20


@click.command(
    cls=Command,
    examples=["push tokyo SKU-1", "push tokyo SKU-1 --dry-run", "push tokyo SKU-1 --json"],
    exits={
        FAILED: "the marketplace has not acknowledged it (the answer says why), or nothing can be sent",
        INTERRUPTED: "interrupted; the daemon sends the SKU all the same",
    },
)
@click.argument("channel", shell_complete=channels)
@click.argument("sku")
@click.option(
    "--dry-run", is_flag=True, help="Say what would be sent, or why nothing would be, and change nothing."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def push(source: SettingsSource, channel: str, sku: str, *, dry_run: bool, as_json: bool) -> int:
    """Make a running daemon send SKU to CHANNEL now, and wait for the answer.

    The current number is sent even if it is acknowledged already, and a parked SKU is tried again. Rate limit,
    circuit breaker and guard apply as they do to any other.
    """
    settings = source.read(log_to=sys.stderr)
    name = known_channel(settings, channel)
    from daemon.app.explaining import explained

    before = asyncio.run(explained(settings, Sku(sku), name, 0))
    ((facts, explanation),) = before.explained
    if dry_run:
        return _plan(settings, facts, before, as_json=as_json)
    if (reason := refusal(facts)) is not None:
        raise StockrelayError(reason if facts.paused or not facts.has_owner else f"{before.sku}: {reason}")
    if facts.row is None:
        raise StockrelayError(f"{before.sku} is not followed yet: {explanation.next}")
    asked_at, is_over = as_operator(
        settings, lambda actions: _push(actions, name, before.sku, _reporter(settings))
    )
    after = asyncio.run(explained(settings, before.sku, name, _MOST_ATTEMPTS))
    ((facts, explanation),) = after.explained
    mine = [one for one in facts.attempts if asked_at is not None and one.at >= asked_at]
    if as_json:
        print_json({
            "channel": name,
            "sku": before.sku,
            "asked_at": asked_at,
            "is_over": is_over,
            "state": explanation.state,
            "next": explanation.next,
            "attempts": [asdict(one) for one in mine],
        })  # fmt: skip
    else:
        for line in explained_lines(after):
            print_line(line)
    if not is_over:
        return INTERRUPTED
    is_acknowledged = explanation.state in _SENT or any(one.outcome == Kind.APPLIED for one in mine)
    return 0 if asked_at is not None and is_acknowledged else FAILED


def _plan(settings: "Settings", facts: "Facts", found: "ExplainedSku", *, as_json: bool) -> int:
    from daemon.app import building

    planned = planned_push(facts, building.problems_of(settings)[facts.channel], found.times)
    if as_json:
        print_json(
            {
                "channel": facts.channel,
                "sku": found.sku,
                "would_send": planned.would_send,
                **asdict(planned),
            }
        )
    else:
        if found.meaning:
            print_line(found.meaning)
        print_line(f"{facts.channel}, {found.sku}: {planned.why}")
    return 0 if planned.would_send else FAILED


def _reporter(settings: "Settings") -> "Callable[[PushState], None]":
    """Print on standard error why it takes longer, each reason once."""
    said: set[str] = set()

    def report(state: "PushState") -> None:
        if not state.has_owner:
            line = "waiting for a daemon that serves the SKU's slot"
        elif state.trouble is not None:
            line = f"nothing is sent: {state.trouble}"
        elif state.confirmed_at is not None:
            line = f"no clear answer: it is sent once more at {local_time(settings, state.confirmed_at)}"
        else:
            return
        if line not in said:
            said.add(line)
            click.echo(line, err=True)

    return report


async def _push(
    actions: "OperatorActions", name: ChannelName, sku: Sku, on_state: "Callable[[PushState], None]"
) -> "tuple[datetime | None, bool]":
    """Return since when the SKU is due (None: the guard holds it), and whether it was waited for to the end."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return await actions.push(name, sku, on_state, stop)
