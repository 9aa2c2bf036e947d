"""`stockrelay notify`: whether notifications arrive."""

import asyncio
import sys
from typing import Final

import click

from daemon.commands.framework import FAILED, Group
from daemon.commands.settings_source import SettingsSource, print_json

_NOBODY: Final = "no receivers: notify.urls is empty; docs/notifications.md shows how to write an address"


@click.group(cls=Group)
def notify() -> None:
    """Try the notifications."""


@notify.command(
    "test",
    examples=["notify test", "notify test --language en"],
    exits={FAILED: "an address failed, or there is none"},
)
@click.option(
    "--language",
    type=click.Choice(["zh", "en"]),
    help="The message's language. Default: notify.language.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def test(source: SettingsSource, *, language: str | None, as_json: bool) -> int:
    """Send a test message to every address in notify.urls.

    Prints the result for each, without the address. Needs no database.
    """
    settings = source.read(log_to=sys.stderr)
    from daemon.app import administration
    from daemon.core.errors import StockrelayError

    results = asyncio.run(
        administration.send_test(settings, "en" if language == "en" else "zh" if language else None)
    )
    if not results:
        raise StockrelayError(_NOBODY)
    failed = {name: reason for name, reason in results.items() if reason is not None}
    if as_json:
        print_json([{"receiver": n, "is_delivered": r is None, "reason": r} for n, r in results.items()])
    else:
        width = max(map(len, results))
        for name, reason in results.items():
            click.echo(f"{name:<{width}}  {'delivered' if reason is None else f'failed: {reason}'}")
        if failed:
            click.echo(
                "check the address in notify.urls, what the receiver asks of a message (a keyword, a signature, our "
                "address), and this machine's way to it"
            )
    return 1 if failed else 0
