"""`stockrelay audit`."""

import sys
from collections.abc import Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import click

from daemon.commands.framework import DONE, FAILED, Group
from daemon.commands.settings_source import SettingsSource, in_database, print_json, print_line
from daemon.core.audit import Head, parsed_head

if TYPE_CHECKING:
    from daemon.settings import Settings
    from daemon.store.database import Database


@click.group(cls=Group)
def audit() -> None:
    """Verify the attempt log.

    The attempt log is written by one function of the schema, which stamps each batch with the server's time and links
    it by hash to the one before.
    """


@audit.command(
    examples=["audit verify", "audit verify --head HEAD"],
    exits={DONE: "nothing was changed", FAILED: "something was changed, or the database cannot be reached"},
)
@click.option(
    "--head",
    "heads",
    metavar="HEAD",
    multiple=True,
    help="A head that the daemon's log has recorded (audit.head_recorded); the attempt log must still hold it. "
    "May be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def verify(source: SettingsSource, *, heads: tuple[str, ...], as_json: bool) -> int:
    """Recompute the hashes of the attempt log and name what was changed.

    Finds attempts that were altered, removed or added by anything but the daemon's own writing. The owner of the
    schema could rewrite the hashes as well: compare with heads that were logged before (--head). A head whose day is
    older than history.keep_days is listed as not verified, and is no failure.
    """
    settings = source.read(log_to=sys.stderr)
    known = [_head(text) for text in heads]
    found = in_database(settings, lambda database: _verify(settings, database, known))
    if as_json:
        print_json(found)
    else:
        for line in (*found["broken"], *found["not_kept"]):
            print_line(line)
        much = f"{found['days']} days, {found['batches']} batches, {found['attempts']} attempts"
        result = "the log is not what was written" if found["broken"] else "nothing was changed"
        click.echo(f"verified {much}: {result}")
    return FAILED if found["broken"] else DONE


def _head(text: str) -> Head:
    head = parsed_head(text)
    if head is None:
        raise click.BadParameter(
            "write it as audit.head_recorded logs it: DAY:CHAIN:NUMBER:HASH", param_hint="--head"
        )
    return head


async def _verify(settings: "Settings", database: "Database", heads: Sequence[Head]) -> dict[str, Any]:
    from daemon.store.audit import Audit

    audit = Audit(database)
    days = batches = attempts = 0
    broken: list[str] = []
    not_kept: list[str] = []
    async with aclosing(audit.verify()) as verified:
        async for one in verified:
            days, batches, attempts = days + 1, batches + one.batches, attempts + one.attempts
            broken += [str(each) for each in one.breaks]
    for head in heads:
        place = f"{head.day}: chain {head.chain}, batch {head.number}"
        is_held = await audit.holds(head, settings.history.keep)
        if is_held is None:
            kept = f"history.keep_days is {settings.history.keep_days}"
            not_kept.append(f"{place}: no longer kept ({kept}), so not verified")
        elif not is_held:
            broken.append(f"{place}: not the one that was recorded")
    counts = {"days": days, "batches": batches, "attempts": attempts}
    return counts | {"broken": broken, "not_kept": not_kept}
