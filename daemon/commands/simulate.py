"""`stockrelay simulate`: the marketplaces on one port."""

import asyncio
import signal
import sys
from typing import TYPE_CHECKING

import click

from daemon.commands.framework import DONE, FAILED, WRONG_CONFIGURATION, Command
from daemon.core.errors import StockrelayError

if TYPE_CHECKING:
    from daemon.simulator import SimulatorSettings


@click.command(
    cls=Command,
    examples=["simulate", "simulate --host 0.0.0.0 --port 8080", "simulate --shop tokyo=MARKETPLACE"],
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
@click.option(
    "--shop",
    "shops",
    multiple=True,
    metavar="NAME=MARKETPLACE",
    help="A further shop, with credentials of its own. May be given again.",
)
def simulate(host: str, port: int, shops: tuple[str, ...]) -> None:
    """Play the marketplaces, strict to their documents.

    There is one shop at each, and those of --shop. The command prints the base_url and the credentials of every shop.
    State, journal and faults on demand are under /_sim/: docs/simulator.md.
    """
    from daemon.simulator import SimulatorSettings

    settings = SimulatorSettings()
    for shop in shops:
        settings = _with_shop(settings, shop)
    from daemon import logs

    logs.configure("info", "auto", stream=sys.stderr)
    try:
        asyncio.run(_simulate(host, port, settings))
    except OSError as error:
        raise StockrelayError(
            f"cannot listen on {host}:{port}: {error.strerror}; is the port taken?"
        ) from error


def _with_shop(settings: "SimulatorSettings", given: str) -> "SimulatorSettings":
    from daemon.settings.channels import name_problem

    name, _, marketplace = given.partition("=")
    known = sorted({shop.marketplace for shop in settings.shops.values()})
    if not name or name in settings.shops or marketplace not in known:
        what = f"{given!r}: write NAME=MARKETPLACE, with a new name and one of {', '.join(known)}"
        raise click.BadParameter(what, param_hint="--shop")
    if wrong := name_problem(name):
        raise click.BadParameter(f"{name!r} {wrong}", param_hint="--shop")
    return settings.with_shop(name, marketplace)


async def _simulate(host: str, port: int, settings: "SimulatorSettings") -> None:
    from daemon.simulator import banner, serve

    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await serve(host, port, settings, stop, on_started=lambda url: click.echo(banner(url, settings)))
