"""`stockrelay migrate` and `adopt`: what is done to the database by hand."""

import asyncio
import sys

import click

from daemon.commands.manners import FAILED, Command
from daemon.commands.places import Places, print_json


@click.command(
    cls=Command,
    examples=["migrate --sql", "migrate", "migrate --grant-to stockrelay"],
    exits={FAILED: "the database cannot be reached or refuses; nothing is half done"},
)
@click.option("--sql", is_flag=True, help="Print the SQL for review and change nothing.")
@click.option("--grant-to", metavar="ROLE", help="Give this role what the daemon needs in our schema.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def migrate(places: Places, *, sql: bool, grant_to: str | None, as_json: bool) -> None:
    """Create or update our schema and triggers.

    The schema is called `stockrelay`; the triggers stand on the watched tables, and those of tables that are
    no longer watched are taken away. Safe to repeat, and safe when several replicas do it at once. Needs the
    rights of the schema's owner. Where the daemon runs as another role, --grant-to names it; which rights these
    are stands in deploy/roles.sql.
    """
    if sql and as_json:
        raise click.UsageError("--sql prints SQL, not JSON; give one of the two", click.get_current_context())
    settings = places.read(log_to=sys.stderr, takes_placeholders=sql)
    from daemon import app

    if sql:
        click.echo(app.migration_sql(settings, grant_to), nl=False)
        return
    done = asyncio.run(app.migrate(settings, grant_to))
    if as_json:
        print_json({"done": done})
        return
    for line in done:
        click.echo(line)


@click.command(
    cls=Command,
    examples=["adopt"],
    exits={FAILED: "the database cannot be reached, or has no schema of ours"},
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def adopt(places: Places, *, as_json: bool) -> None:
    """Accept this database as the one to push from.

    After a restore, a clone or pg_upgrade the database is not the one that was pushed from before, and the
    daemon waits for this word, so that a test copy never sells. Be sure that no daemon pushes from the other.
    """
    settings = places.read(log_to=sys.stderr)
    from daemon import app

    answer = asyncio.run(app.adopt(settings))
    if as_json:
        print_json(answer)
        return
    click.echo(
        f"adopted: the database with system identifier {answer['system_identifier']} is pushed from now on; every "
        f"number is confirmed with the partners, {answer['confirmed_per_s']:g} per second"
    )
