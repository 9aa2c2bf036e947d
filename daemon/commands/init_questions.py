"""What `stockrelay init` asks on a terminal."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from daemon.commands.settings_source import SettingsSource, print_line

if TYPE_CHECKING:
    from daemon.core.proposal.values import Proposal

_PROMPT = "The database's address (postgresql://USER@HOST:PORT/DATABASE, without the password)"


def address(source: SettingsSource, dsn: str | None, *, is_asking: bool) -> str:
    """The database's address: the option's, the environment's or the secrets folder's, or what is typed.

    Raises UsageError, ConfigError.
    """
    from daemon.settings import database_address

    given = dsn or database_address.given_address(source.secrets_dir)
    if given is None and not is_asking:
        raise click.UsageError(
            "which database? give its address as STOCKRELAY_DATABASE__DSN", click.get_current_context()
        )
    found: str = given or click.prompt(_PROMPT)
    database_address.usable_address(found)
    if dsn is not None and database_address.secrets(dsn):
        raise click.UsageError(
            "--dsn has a password, which other users of this machine can see: give the whole address as "
            "STOCKRELAY_DATABASE__DSN, or let a password file (passfile=, ~/.pgpass) have the password",
            click.get_current_context(),
        )
    if given is None and not database_address.secrets(found):
        question = "Its password (Enter: none, or a password file has it)"
        if password := click.prompt(question, default="", show_default=False, hide_input=True):
            found = database_address.with_password(found, password)
    source.hide(database_address.secrets(found))
    return found


def proposal(found: Sequence["Proposal"]) -> "Proposal":
    """The one to write."""
    if len(found) == 1:
        print_line(f"found: {found[0].title}")
        return found[0]
    print_line("What holds the stock?")
    return found[_number([each.title for each in found])]


def marketplaces(titles: Mapping[str, str]) -> list[str]:
    """The marketplaces to send to."""
    names = list(titles)
    for number, name in enumerate(names, 1):
        print_line(f"  {number}. {titles[name]}")
    while True:
        typed = (
            click.prompt("Which marketplaces? Numbers, with commas", default="1").replace(",", " ").split()
        )
        if typed and all(each.isdecimal() and 0 < int(each) <= len(names) for each in typed):
            return list(dict.fromkeys(names[int(each) - 1] for each in typed))


def missing(
    which: "Proposal", marketplace: str, identifiers: Mapping[str, str | None]
) -> dict[str, str | None]:
    """The identifiers, those that no column looked like by the column that the operator names."""
    answered = dict(identifiers)
    columns = [column for column in which.source.columns if column.kind == "text"] if which.source else []
    for name, written in identifiers.items():
        if written is None and columns:
            print_line(f"Which column is {name} of {marketplace}?")
            number = _number([*(column.quoted for column in columns), "none of these"])
            answered[name] = which.expression(columns[number]) if number < len(columns) else None
    return answered


def _number(lines: Sequence[str]) -> int:
    for number, line in enumerate(lines, 1):
        print_line(f"  {number}. {line}")
    typed: int = click.prompt("Number", type=click.IntRange(1, len(lines)), default=1)
    return typed - 1
