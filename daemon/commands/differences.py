"""`stockrelay differences`."""

import sys
from dataclasses import asdict

import click

from daemon.commands.framework import DONE, FAILED, Command, channels
from daemon.commands.settings_source import SettingsSource, in_database, known_channel, print_json


@click.command(
    cls=Command,
    examples=["differences", "differences --channel tokyo --json"],
    exits={DONE: "it was read, whether or not there are any", FAILED: "the database cannot be reached"},
)
@click.option("--channel", metavar="CHANNEL", shell_complete=channels, help="Only this channel.")
@click.option(
    "--limit",
    metavar="N",
    type=click.IntRange(1, 100_000),
    default=50,
    show_default=True,
    help="The most differences to show.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def differences(source: SettingsSource, *, channel: str | None, limit: int, as_json: bool) -> None:
    """Show the open differences that reconcile has found.

    The last seen first. `ours` is the ERP's number, `theirs` the marketplace's. What was not found at the marketplace,
    or not in the listing, has no number there. `explain SKU` says more about one.
    """
    settings = source.read(log_to=sys.stderr)
    from daemon.store.answers import Answers

    names = [known_channel(settings, channel)] if channel else list(settings.enabled_channels())
    found = in_database(settings, lambda database: Answers(database).open_differences(names, limit))
    rows = [{"channel": one.channel, "sku": one.sku, **asdict(one.difference)} for one in found]
    if as_json:
        print_json(rows)
        return
    from daemon.tables import print_rows

    if not rows:
        click.echo("no open differences")
        return
    print_rows(
        [
            {name: row[name] for name in ("channel", "sku", "kind", "ours", "theirs")}
            | {"seen last": f"{row['last_seen']:%Y-%m-%d %H:%M}", "times": row["times_seen"]}
            for row in rows
        ]
    )
    if len(rows) == limit:
        click.echo(f"the last {limit}; --limit shows more")
