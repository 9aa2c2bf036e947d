"""`stockrelay init`: proposes a configuration for an ERP's database."""

import asyncio
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from daemon.commands.framework import DONE, FAILED, Command
from daemon.commands.settings_source import SettingsSource, print_line
from daemon.core.errors import StockrelayError

if TYPE_CHECKING:
    from daemon.app.proposing import Survey, Tried
    from daemon.core.proposal.values import Proposal


def _complete(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from daemon.app import proposing

    return [
        CompletionItem(name, help=title)
        for name, title in proposing.marketplaces().items()
        if name.startswith(incomplete)
    ]


@click.command(
    cls=Command,
    examples=["init", "init --yes --output /etc/stockrelay/config.toml"],
    exits={
        DONE: "the file was written",
        FAILED: "nothing was written, or no listing in it works; standard error says why",
    },
)
@click.option(
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("config.toml"),
    show_default=True,
    help="The file to write. One that is there is never overwritten.",
)
@click.option("--yes", "is_confirmed", is_flag=True, help="Do not ask: take the likeliest answers.")
@click.option(
    "--marketplace",
    "marketplaces",
    metavar="NAME",
    multiple=True,
    shell_complete=_complete,
    help="A marketplace to send to; may be repeated.",
)
@click.option(
    "--dsn",
    metavar="ADDRESS",
    help="The database: postgresql://USER@HOST:PORT/DATABASE, without a password. "
    "Default: $STOCKRELAY_DATABASE__DSN, or the file database__dsn in the secrets folder.",
)
@click.pass_obj
def init(
    source: SettingsSource,
    *,
    output: Path,
    is_confirmed: bool,
    marketplaces: tuple[str, ...],
    dsn: str | None,
) -> int:
    """Look at the ERP's database, and write a configuration for it.

    Proposes which tables to watch, which column holds the SKU, and what the listings are: for Odoo, ERPNext and Tryton
    by a recipe, otherwise from tables with a SKU and a quantity. What is ambiguous is asked. Each listing is run once
    for its first five rows; one that fails is written as a comment.

    Only reads the database; run it as the role that the daemon will have. The file has every setting with its comment,
    placeholders for credentials, and no password.
    """
    _refuse(output)
    if not is_confirmed and not sys.stdin.isatty():
        raise click.UsageError("there is no terminal to ask on: give --yes", click.get_current_context())
    from daemon.app import proposing
    from daemon.commands import init_questions as questions
    from daemon.settings import database_address

    names = _known(marketplaces, proposing.marketplaces())
    address = questions.address(source, dsn, is_asking=not is_confirmed)
    found = asyncio.run(proposing.survey(address))
    if not found.proposals:
        raise StockrelayError(_nothing(found, output))
    print_line(f"the database {found.database}, as {found.role}: {len(found.tables)} tables and views")
    notes = []
    if is_confirmed:
        proposal = found.proposals[0]
        names = names or proposing.usual_marketplaces()
        identifiers = {name: proposing.identifiers(proposal, name) for name in names}
        if len(found.proposals) > 1:
            notes = [f"The likeliest of {len(found.proposals)} proposals: without --yes, init asks."]
    else:
        proposal = questions.proposal(found.proposals)
        names = names or questions.marketplaces(proposing.marketplaces())
        identifiers = {
            name: questions.missing(proposal, name, proposing.identifiers(proposal, name)) for name in names
        }
    tried = asyncio.run(proposing.try_listings(address, proposal, identifiers))
    _show(proposal, tried)
    if not is_confirmed:
        click.confirm(f"Write {output}?", default=True, abort=True)
    _write(output, proposing.configuration(found, proposal, address, tried, notes))
    return _what_next(output, found, proposal, tried, has_password=bool(database_address.secrets(address)))


def _refuse(output: Path) -> None:
    """Raise StockrelayError, before any question, where the file can't be written."""
    if os.path.lexists(output):
        raise StockrelayError(f"{output} is there already, and is not overwritten: --output names another")
    if not output.absolute().parent.is_dir():
        raise StockrelayError(f"the folder of {output} is not there: make it, or name another with --output")


def _known(names: Sequence[str], known: Mapping[str, str]) -> list[str]:
    for name in names:
        if name not in known:
            what = f"there is no marketplace {name!r}; there is: {', '.join(known)}"
            raise click.UsageError(what, click.get_current_context())
    return list(dict.fromkeys(names))


def _nothing(found: "Survey", output: Path) -> str:
    hidden = sum(not table.is_readable for table in found.tables)
    what = f"no table or view that {found.role} may read has a column for the SKU and one for the quantity"
    if not found.tables:
        what = f"the database {found.database} has no table: is it the right one?"
    elif hidden == len(found.tables):
        what = f"{found.role} may read no table of the database {found.database}"
    elif hidden:
        what += f" ({hidden} of {len(found.tables)} may not be read)"
    if hidden:
        what += "; let their owner GRANT USAGE ON SCHEMA and SELECT ON the tables of stock and products"
    return (
        f"{what}; nothing was written; to write the file by hand: `stockrelay config example > {output}`, and "
        "docs/listings.md"
    )


def _show(proposal: "Proposal", tried: Mapping[str, "Tried"]) -> None:
    from daemon.tables import print_rows

    # The ERP's data belongs on a terminal, and not in the log of a script.
    is_terminal = sys.stdout.isatty()
    if is_terminal:
        print_line(f"stock: {proposal.title}")
    for name, each in tried.items():
        if each.fault is not None:
            print_line(f"the listing of {name} does not work yet: {each.fault}")
        else:
            print_line(f"the listing of {name} works" + ("" if each.rows else ", and has no row"))
        if each.rows and is_terminal:
            print_rows(each.rows)


def _write(output: Path, text: str) -> None:
    try:
        descriptor = os.open(output, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                stream.write(text)
        except BaseException:
            output.unlink()
            raise
    except FileExistsError:
        _refuse(output)
        raise
    except OSError as error:
        raise StockrelayError(
            f"cannot write {output}: {error.strerror}; --output names another file"
        ) from error


def _what_next(
    output: Path, found: "Survey", proposal: "Proposal", tried: Mapping[str, "Tried"], *, has_password: bool
) -> int:
    """Say what to do next, in order."""
    from daemon.app import proposing

    works = [name for name, each in tried.items() if each.fault is None]
    config = "" if output == Path("config.toml") else f" --config {shlex.quote(str(output))}"
    unwatched = [
        table.quoted
        for table in found.tables
        if not table.can_be_watched and table.quoted in {watch.table for watch in proposal.watches}
    ]
    keys = [key for name in works or tried for key in proposing.credentials(name)]
    steps = [f"read {output}: the tables that are watched, and the listings with the comments above them"]
    if len(works) < len(tried):
        off = ", ".join(name for name in tried if name not in works)
        steps.append(f"mend the listing of {off} as its comment says, and set enabled = true there")
    keys += ["the database's password"] if has_password else []
    steps.append(f"fill in {', '.join(keys)}: secrets belong in the environment or the secrets folder")
    if unwatched or not found.can_migrate:
        what = f"put triggers on {', '.join(unwatched)}" if unwatched else "make a schema"
        steps.append(
            f"{found.role} may not {what}, and need not: let a DBA make an owner role, if there is none yet "
            "(docs/database-roles.md)"
        )
        migrate = f"migrate --grant-to {shlex.quote(found.role)}"
        steps.append(
            f"as the owner role (its address in STOCKRELAY_DATABASE__DSN): stockrelay{config} {migrate}"
        )
    else:
        steps.append(f"stockrelay{config} migrate")
    steps.append(f"stockrelay{config} check")
    steps += [f"stockrelay{config} sync {name} --dry-run" for name in works[:1]]
    steps.append(f"stockrelay{config} run")
    steps += [f"stockrelay{config} go-live {name}: nothing is sent before that" for name in works]
    print_line(f"wrote {output}; next:")
    for number, step in enumerate(steps, 1):
        print_line(f"  {number}. {step}")
    if works:
        return DONE
    click.echo(f"stockrelay: no listing works yet: {output} does not load until one is mended", err=True)
    return FAILED
