"""`stockrelay migrate`, `adopt` and `uninstall`: what is done to the database by hand."""

import asyncio
import sys

import click

from daemon.commands.framework import DONE, FAILED, Command
from daemon.commands.settings_source import SettingsSource, print_json, print_line
from daemon.core.errors import StoreRefused


@click.command(
    cls=Command,
    examples=["migrate --sql", "migrate", "migrate --grant-to stockrelay"],
    exits={FAILED: "the database cannot be reached or refuses; nothing is half done"},
)
@click.option("--sql", is_flag=True, help="Print the SQL for review and change nothing.")
@click.option("--grant-to", metavar="ROLE", help="Give this role what the daemon needs in our schema.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def migrate(source: SettingsSource, *, sql: bool, grant_to: str | None, as_json: bool) -> None:
    """Create or update our schema and triggers.

    The schema is called `stockrelay`; the triggers stand on the watched tables, and those of tables that are
    no longer watched are taken away. Safe to repeat, and safe when several replicas do it at once. Needs the
    rights of the schema's owner. Where the daemon runs as another role, name it with --grant-to;
    deploy/roles.sql lists the rights.
    """
    if sql and as_json:
        raise click.UsageError("--sql prints SQL, not JSON; give one of the two", click.get_current_context())
    settings = source.read(log_to=sys.stderr, takes_placeholders=sql)
    from daemon.app import administration

    if sql:
        click.echo(administration.migration_sql(settings, grant_to), nl=False)
        return
    done = asyncio.run(administration.migrate(settings, grant_to))
    if as_json:
        print_json({"done": done})
        return
    for line in done:
        click.echo(line)


@click.command(
    cls=Command,
    examples=["adopt"],
    exits={FAILED: "the database cannot be reached, has no schema of ours, or a subscription writes it"},
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def adopt(source: SettingsSource, *, as_json: bool) -> None:
    """Accept this database as the one to push from.

    After a restore, pg_upgrade, a logical cutover or CREATE DATABASE ... TEMPLATE the database is not the one that was
    pushed from before, and `stockrelay run` refuses it until this command has run, so that a test copy never sells.
    Make sure that no daemon still pushes from the original database: Stockrelay cannot detect that. Every number is
    sent again, except for parked SKUs. Refused while a subscription writes our schema.
    """
    settings = source.read(log_to=sys.stderr)
    from daemon.app import administration

    answer = asyncio.run(administration.adopt(settings))
    if as_json:
        print_json(answer)
        return
    click.echo(
        f"adopted: the database with system identifier {answer['system_identifier']} is pushed from now on; every "
        f"number is confirmed with the marketplaces, {answer['confirmed_per_s']:g} per second"
    )


@click.command(
    cls=Command,
    examples=["uninstall", "uninstall --yes --json"],
    exits={
        DONE: "nothing of ours is left, and perhaps nothing was there before",
        FAILED: "it was refused or not confirmed, or a table stayed locked; standard error says what is left",
    },
)
@click.option("--yes", "is_confirmed", is_flag=True, help="Do not ask.")
@click.option("--force", "is_forced", is_flag=True, help="Even while daemons run.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON. Needs --yes.")
@click.pass_obj
def uninstall(source: SettingsSource, *, is_confirmed: bool, is_forced: bool, as_json: bool) -> int:
    """Take our triggers and our schema out of the database.

    The ERP may go on working meanwhile: the triggers are taken off table by table, waiting for each only briefly, and
    the schema goes last, with the ledger and the history in it. If a table stays locked, the command names the
    holder; run it again later. The ERP's tables, the numbers at the marketplaces and the two roles stay; it prints the
    SQL that removes the roles. Stop the daemons first. Needs the rights of the schema's owner.
    """
    if not is_confirmed and (as_json or not sys.stdin.isatty()):
        raise click.UsageError("there is no terminal to ask on: give --yes", click.get_current_context())
    settings = source.read(log_to=sys.stderr)
    from daemon.app.building import connect_options
    from daemon.store import uninstall as removal

    options = connect_options(settings, is_direct=True)
    if not is_confirmed:
        found = asyncio.run(removal.inspect(options, is_forced=is_forced))
        if found is not None and found.refusal is not None:
            raise StoreRefused(found.refusal)
        if found is not None:
            print_line(
                f"from the database {found.database}: {', '.join(found.parts)}, with the ledger and the history"
            )
            if not click.confirm("Remove all of it?"):
                click.echo("nothing was removed", err=True)
                return FAILED
    done = asyncio.run(removal.uninstall(options, is_forced=is_forced))
    if as_json:
        print_json({"removed": done.parts, "roles_sql": done.roles_sql})
        return DONE
    for part in done.parts:
        print_line(f"removed {part}")
    if not done.parts:
        click.echo("nothing was removed: there is no schema stockrelay in this database")
    if done.roles_sql is not None:
        print_line(f"the roles stay; if nothing else uses them, as a DBA: {done.roles_sql}")
    return DONE
