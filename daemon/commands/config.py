"""`stockrelay config show`, `schema` and `example`."""

import sys

import click

from daemon.commands.framework import FAILED, WRONG_CONFIGURATION, Group
from daemon.commands.settings_source import SettingsSource, print_json


@click.group(cls=Group)
def config() -> None:
    """Look at the settings."""


@config.command(examples=["config show", "config show --json | jq .channels.tokyo.rate_per_s"])
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def show(source: SettingsSource, *, as_json: bool) -> None:
    """Print the settings in force, defaults included, secrets masked.

    A line for each key, as it is called in the file and in messages.
    """
    answer = source.read(log_to=sys.stderr, takes_placeholders=True).masked()
    if as_json:
        print_json(answer)
    else:
        from daemon.tables import print_settings

        print_settings(answer)


@config.command(
    examples=["config schema > stockrelay.schema.json"], exits={FAILED: None, WRONG_CONFIGURATION: None}
)
def schema() -> None:
    """Print the JSON Schema of the settings.

    For editors that check and complete TOML files by a schema. Needs no configuration.
    """
    from daemon.app import configuration

    print_json(configuration.settings_schema())


@config.command(examples=["config example > config.toml"], exits={FAILED: None, WRONG_CONFIGURATION: None})
def example() -> None:
    """Print the complete configuration file, with comments.

    It has an example's values; `stockrelay init` writes one that fits a database. Needs no configuration.
    """
    from daemon.settings.example import example as example_file

    click.echo(example_file(), nl=False)
