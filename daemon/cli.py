"""The commands, and the exit code of each error. What a command does is imported when it is called."""

import asyncio
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Final

import click

from daemon import __version__
from daemon.commands import attempts, control, explain, notify, parked, reconcile, sync
from daemon.commands.places import Places, print_json
from daemon.commands.release import release
from daemon.core.checks import Verdict
from daemon.core.errors import StockrelayError

INTERRUPTED: Final = 130
USAGE: Final = 2


def invoke(args: list[str]) -> int:
    """Run one command: 0 done, 1 failed, 2 usage, 78 configuration wrong, 130 interrupted."""
    try:
        code = cli.main(args, prog_name="stockrelay", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return USAGE if isinstance(error, click.UsageError) else error.exit_code
    except StockrelayError as error:
        click.echo(f"stockrelay: {error}", err=True)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt, asyncio.CancelledError):
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (`| head`) has seen enough; without this, Python complains once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code if isinstance(code, int) else 0


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--config",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The TOML file to read. Default: $STOCKRELAY_CONFIG, else ./config.toml, "
    "else /etc/stockrelay/config.toml.",
)
@click.option(
    "--secrets-dir",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="A folder with one file for each secret, such as channels__sekorm__app_secret. "
    "Default: $STOCKRELAY_SECRETS_DIR.",
)
@click.version_option(__version__, prog_name="stockrelay", message="%(prog)s %(version)s")
@click.pass_context
def cli(context: click.Context, config: Path | None, secrets_dir: Path | None) -> None:
    """Keep marketplaces told of what an ERP's PostgreSQL says may be sold.

    \b
    New here:        stockrelay demo
    Setting it up:   stockrelay check, then stockrelay migrate, then stockrelay run

    Every setting can also come from the environment (STOCKRELAY_CHANNELS__SEKORM__APP_SECRET) or from a
    file in the secrets folder. The environment goes before the secrets folder, and that before the TOML file.

    \b
    Exit codes: 0 done, 1 failed, 2 wrong usage, 78 configuration wrong (a restart cannot help).
    """
    context.obj = Places(config, secrets_dir)


@cli.command()
@click.pass_obj
def run(places: Places) -> int:
    """Run the daemon until SIGTERM or SIGINT.

    Stock changes are captured, gathered and sent to every enabled channel. Any number of replicas may run;
    each channel is owned by one of them. When told to stop, what is in flight is finished within run.grace_s.
    """
    settings = places.read()
    from daemon import app

    return asyncio.run(app.run(settings))


@cli.command()
@click.option("--forever", is_flag=True, help="Keep going until Ctrl-C instead of ending with a verdict.")
@click.option(
    "--skus",
    metavar="N",
    type=click.IntRange(10, 100_000),
    default=300,
    show_default=True,
    help="How many SKUs.",
)
def demo(*, forever: bool, skus: int) -> int:
    """Show everything at work, on its own.

    Starts a PostgreSQL of its own with a sample ERP, both marketplaces as simulators and the daemon, lets a
    shop's worth of changes happen, and compares ERP and marketplaces SKU by SKU. Exit code 0: they agree.
    """
    from daemon.demo import run_demo

    return asyncio.run(run_demo(forever=forever, skus=skus))


@cli.command()
@click.option("--sql", is_flag=True, help="Print the SQL for review and change nothing.")
@click.option("--grant-to", metavar="ROLE", help="Give this role what the daemon needs in our schema.")
@click.pass_obj
def migrate(places: Places, *, sql: bool, grant_to: str | None) -> None:
    """Create or update our schema and triggers.

    The schema is called `stockrelay`; the triggers stand on the watched tables, and those of tables that are
    no longer watched are taken away. Safe to repeat, and safe when several replicas do it at once. Needs the
    rights of the schema's owner. Where the daemon runs as another role, --grant-to names it; which rights these
    are stands in deploy/roles.sql.
    """
    settings = places.read(log_to=sys.stderr)
    from daemon import app

    asyncio.run(app.migrate(settings, sql=sql, grant_to=grant_to))


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def check(places: Places, *, as_json: bool) -> int:
    """Find what keeps the daemon from working.

    A table of what was looked at and what to do about it: configuration, database rights, schema, triggers,
    listing queries, clock, and whether each marketplace can be reached and takes the credentials. Changes
    nothing. Exit code 1: at least one check failed.
    """
    settings = places.read(log_to=sys.stderr)
    from daemon.check import run_checks

    results = asyncio.run(run_checks(settings))
    rows = [asdict(result) for result in results]
    if as_json:
        print_json(rows)
    else:
        from daemon.tables import print_checks

        print_checks(results)
    return 1 if any(result.verdict is Verdict.FAILED for result in results) else 0


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def status(places: Places, *, as_json: bool) -> None:
    """Show how every channel stands.

    Who owns it, whether it is paused or in trouble, backlog and the age of its oldest change, what is in flight,
    in doubt, held and parked, the sync that runs, the last reconcile and the differences that are open.

    Reads the database, so it answers from any machine that has the configuration, running daemon or not.
    """
    settings = places.read(log_to=sys.stderr)
    from daemon import app, clock

    answer = asyncio.run(app.status(settings))
    if as_json:
        print_json(answer)
    else:
        from daemon.core.moments import Moments
        from daemon.tables import print_status

        print_status(answer, Moments(clock.now(), app.operators_zone(settings)))


@cli.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=8480, show_default=True, help="0: any free port."
)
def simulate(host: str, port: int) -> None:
    """Play both marketplaces, strict to their documents.

    Neither has a test environment. Point base_url at http://127.0.0.1:PORT/serviceGate (Sekorm) and
    http://127.0.0.1:PORT (Ymatou). State, journal and faults on demand are under /_sim/.
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
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    settings = SimulatorSettings()
    await serve(host, port, settings, stop, on_started=lambda url: click.echo(banner(url, settings)))


@cli.command()
@click.pass_obj
def adopt(places: Places) -> None:
    """Accept this database as the one to push from.

    After a restore, a clone or pg_upgrade the database is not the one that was pushed from before, and the
    daemon waits for this word, so that a test copy never sells. Be sure that no daemon pushes from the other.
    """
    settings = places.read(log_to=sys.stderr)
    from daemon import app

    asyncio.run(app.adopt(settings))


@cli.group()
def config() -> None:
    """Look at the settings."""


@config.command("show")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def config_show(places: Places, *, as_json: bool) -> None:
    """Print the settings in force, defaults included, secrets masked."""
    answer = places.read(log_to=sys.stderr).masked()
    if as_json:
        print_json(answer)
    else:
        from daemon.tables import print_settings

        print_settings(answer)


@config.command("schema")
def config_schema() -> None:
    """Print the JSON Schema of the settings."""
    from daemon.settings import Settings

    print_json(Settings.model_json_schema())


for command in (
    attempts.attempts,
    control.pause,
    control.resume,
    explain.explain,
    notify.notify,
    parked.parked,
    reconcile.reconcile,
    release,
    sync.sync,
):
    cli.add_command(command)
