"""`stockrelay health`: whether the daemon on this machine is well, for a container's health check and for scripts."""

import math
import sys
from typing import Any

import click

from daemon.commands.framework import DONE, FAILED, Command
from daemon.commands.settings_source import SettingsSource, print_json


@click.command(
    cls=Command,
    examples=["health", "health --ready", "health --ready --json"],
    exits={DONE: "the daemon is well", FAILED: "it is not, or does not answer"},
)
@click.option(
    "--ready", is_flag=True, help="Ask whether it can do its work now, not only whether it is alive."
)
@click.option(
    "--port",
    metavar="N",
    type=click.IntRange(1, 65_535),
    help="Ask this port of this machine. Default: ops.port.",
)
@click.option(
    "--timeout",
    "timeout_s",
    metavar="SECONDS",
    type=click.FloatRange(0, 60, min_open=True),
    default=3.0,
    show_default=True,
    help="How long to wait for the answer.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def health(source: SettingsSource, *, ready: bool, port: int | None, timeout_s: float, as_json: bool) -> int:
    """Say in one line whether the daemon on this machine is well.

    Asks its ops port (ops.host, ops.port). It is alive while its loops run, even if the database or a
    marketplace is down; it is ready (--ready) when it can do its work. Meant for a container's health check, too.
    """
    if math.isnan(timeout_s):
        # Neither above nor below any bound.
        raise click.BadParameter("nan is no number of seconds.", param_hint="--timeout")
    settings = source.read(log_to=sys.stderr)
    from daemon.core.errors import StockrelayError
    from daemon.ops.asking import ask

    port = port or settings.ops.port
    if not settings.ops.enabled:
        raise StockrelayError("ops.enabled = false: the daemon listens on no port; set it to true")
    if port == 0:
        raise StockrelayError(
            "ops.port = 0: the daemon took any free port, named by ops.port_opened in its log; ask it with --port"
        )
    found = ask(settings.ops.host, port, "/readyz" if ready else "/livez", timeout_s)
    if as_json:
        print_json(found.answer)
    else:
        click.echo(_in_one_line(found.answer))
    return DONE if found.is_well else FAILED


def _in_one_line(answer: dict[str, Any]) -> str:
    reasons = [f"{what}: {why}" for what, why in answer.get("reasons", {}).items()]
    reasons += [
        f"{one['loop']} should have turned {one['overdue_s']:g} s ago" for one in answer.get("stalled", ())
    ]
    return ": ".join([str(answer["status"]), "; ".join(reasons)] if reasons else [str(answer["status"])])
