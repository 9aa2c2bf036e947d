"""`stockrelay simulate`: both marketplaces on one port."""

import asyncio
import signal
import sys

import click

from daemon.commands.manners import DONE, FAILED, WRONG_CONFIGURATION, Command
from daemon.core.errors import StockrelayError


@click.command(
    cls=Command,
    examples=["simulate", "simulate --host 0.0.0.0 --port 8080"],
    exits={
        DONE: "stopped by SIGTERM, SIGHUP or Ctrl-C",
        FAILED: "the port cannot be listened on",
        WRONG_CONFIGURATION: None,
    },
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=8480, show_default=True, help="0: any free port."
)
def simulate(host: str, port: int) -> None:
    """Play both marketplaces, strict to their documents.

    Neither has a test environment. Point base_url at http://127.0.0.1:PORT/serviceGate (Sekorm) and
    http://127.0.0.1:PORT (Ymatou). State, journal and faults on demand are under /_sim/: docs/simulator.md.
    """
    from daemon import logs

    logs.configure("info", "auto", stream=sys.stderr)
    try:
        asyncio.run(_simulate(host, port))
    except OSError as error:
        raise StockrelayError(
            f"cannot listen on {host}:{port}: {error.strerror}; is the port taken?"
        ) from error


async def _simulate(host: str, port: int) -> None:
    from daemon.simulator import SimulatorSettings, banner, serve

    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    settings = SimulatorSettings()
    await serve(host, port, settings, stop, on_started=lambda url: click.echo(banner(url, settings)))
