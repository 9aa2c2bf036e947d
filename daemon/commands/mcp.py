"""`stockrelay mcp`: read-only answers for a chat program."""

import asyncio
import importlib.util
import sys

import click

from daemon.commands.framework import DONE, FAILED, Command
from daemon.commands.settings_source import SettingsSource
from daemon.core.errors import StockrelayError


@click.command(
    cls=Command,
    examples=["mcp", "--config /etc/stockrelay/config.toml mcp"],
    exits={DONE: "the chat program has closed it", FAILED: "the extra `mcp` is not installed"},
)
@click.pass_obj
def mcp(source: SettingsSource) -> None:
    """Answer questions asked in a chat program, over standard input and output.

    Speaks the Model Context Protocol, and listens on no port. A chat program that starts it can ask for status,
    explain, attempts, differences, exposure and parked SKUs, and for nothing else: nothing is changed, and the sessions
    in the database are read-only. No answer holds a secret. docs/mcp.md says how to add it to a chat program.
    """
    if importlib.util.find_spec("mcp") is None:
        raise StockrelayError("the extra is not installed: pip install 'stockrelay[mcp]'")
    source.read(log_to=sys.stderr)
    from daemon.commands.mcp_server import serve

    asyncio.run(serve(source.arguments()))
