"""The commands, and the exit code of each error. What a command does is imported when it is called."""

import asyncio
import os
import sys
from pathlib import Path

import click

from daemon import __version__
from daemon.commands.attempts import attempts
from daemon.commands.audit import audit
from daemon.commands.completion import completion
from daemon.commands.config import config
from daemon.commands.control import pause, release, resume
from daemon.commands.database import adopt, migrate, uninstall
from daemon.commands.differences import differences
from daemon.commands.explain import explain
from daemon.commands.exposure import exposure
from daemon.commands.framework import DONE, FAILED, INTERRUPTED, USAGE, WRONG_CONFIGURATION, Group, usage_line
from daemon.commands.go_live import go_live
from daemon.commands.health import health
from daemon.commands.init import init
from daemon.commands.mcp import mcp
from daemon.commands.notify import notify
from daemon.commands.parked import parked
from daemon.commands.push import push
from daemon.commands.reconcile import reconcile
from daemon.commands.settings_source import SettingsSource, print_json
from daemon.commands.simulate import simulate
from daemon.commands.sync import sync
from daemon.core.errors import StockrelayError
from daemon.core.finding import Verdict


def invoke(args: list[str]) -> int:
    """Run one command: 0 done, 1 failed, 2 usage, 78 configuration wrong, 130 interrupted."""
    source = SettingsSource()
    try:
        code = cli.main(args, prog_name="stockrelay", standalone_mode=False, obj=source)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return USAGE
    except click.UsageError as error:
        click.echo(usage_line(error), err=True)
        return USAGE
    except click.ClickException as error:
        click.echo(f"stockrelay: {error.format_message()}", err=True)
        return error.exit_code
    except StockrelayError as error:
        click.echo(f"stockrelay: {source.describe(error)}", err=True)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt, asyncio.CancelledError):
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (`| head`) has seen enough; without this, Python complains once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:  # noqa: BLE001 - Python would print the message, whatever it quotes
        source.log_unexpected(error)
        kind = type(error).__name__
        click.echo(
            f"stockrelay: an unexpected error ({kind}); please report what the log says",
            err=True,
        )
        return FAILED
    return code if isinstance(code, int) else DONE


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--config",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The TOML file to read. Default: $STOCKRELAY_CONFIG, else ./config.toml, "
    "else /etc/stockrelay/config.toml. May also be given after the command, like --secrets-dir.",
)
@click.option(
    "--secrets-dir",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="A folder with one file for each secret, such as channels__tokyo__app_secret. "
    "Default: $STOCKRELAY_SECRETS_DIR.",
)
@click.option("--read-only", "is_read_only", is_flag=True, hidden=True)
@click.version_option(__version__, prog_name="stockrelay", message="%(prog)s %(version)s")
@click.pass_obj
def cli(source: SettingsSource, config: Path | None, secrets_dir: Path | None, *, is_read_only: bool) -> None:
    """Keep marketplaces' stock in step with an ERP's PostgreSQL database.

    \b
    New here:       stockrelay demo
    Setting it up:  stockrelay init, stockrelay migrate, stockrelay check
    Running it:     stockrelay run, stockrelay go-live
    One command:    stockrelay COMMAND --help

    Every setting can also come from the environment (STOCKRELAY_CHANNELS__TOKYO__APP_SECRET) or from a
    file in the secrets folder. The environment overrides the secrets folder, which overrides the TOML file.

    Answers go to standard output, in JSON with --json; errors go to standard error, in one line that says what to
    do. Colours are used on terminals only, and not with NO_COLOR.

    \b
    Exit codes: 0 done, 1 failed, 2 wrong usage, 78 configuration wrong (a retry
    cannot help), 130 interrupted.
    """
    source.set_paths(config, secrets_dir)
    if is_read_only:
        source.make_read_only()


@cli.command(
    examples=["run", "--config /etc/stockrelay/config.toml run"],
    exits={
        DONE: "stopped in order by SIGTERM or Ctrl-C",
        FAILED: "a part of it failed; start it again",
        WRONG_CONFIGURATION: "the configuration is wrong; a restart cannot help",
    },
)
@click.pass_obj
def run(source: SettingsSource) -> int:
    """Run the daemon until SIGTERM or SIGINT.

    Stock changes are captured, gathered and sent to every enabled channel. Any number of replicas may run;
    each of a channel's 16 slots (parts of its SKUs) is owned by one of them. On a stop signal the daemon finishes
    the requests in flight within run.grace_s.

    On SIGHUP it reads its configuration again. Settings that can change at run time (log level, rates, receivers,
    secrets) take effect at once; the log names those that need a restart. A wrong configuration is refused, and the
    old one stays.

    Under systemd (Type=notify) it reports when it is ready, and feeds the watchdog while its loops run.
    `stockrelay health` asks the same from outside.
    """
    settings = source.read()
    from daemon.app import running

    return asyncio.run(running.run(settings, source.log, source.reread))


@cli.command(
    examples=["demo", "demo --skus 2000", "demo --forever"],
    exits={
        DONE: "ERP and marketplaces agree",
        FAILED: "they do not, or it could not be shown",
        WRONG_CONFIGURATION: None,
        INTERRUPTED: "interrupted before the verdict",
    },
)
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
    shop's worth of changes happen, and compares ERP and marketplaces SKU by SKU. Needs no
    configuration.
    """
    from daemon.demo import run_demo

    return asyncio.run(run_demo(forever=forever, skus=skus))


@cli.command(
    examples=["check", "check --json | jq '.[] | select(.verdict == \"failed\")'"],
    exits={DONE: "nothing failed; there may be warnings", FAILED: "at least one check failed"},
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def check(source: SettingsSource, *, as_json: bool) -> int:
    """Find what keeps the daemon from working.

    Prints a table of checks and what to do about each: configuration, database rights, schema, triggers,
    listing queries, clock, and whether each marketplace can be reached and accepts the credentials. Changes
    nothing.
    """
    settings = source.read(log_to=sys.stderr)
    from daemon.check import run_checks

    results = asyncio.run(run_checks(settings, source.exposed_files()))
    if as_json:
        print_json(
            [
                {"name": one.check, "verdict": one.verdict, "found": one.found, "advice": one.advice}
                for one in results
            ]
        )
    else:
        from daemon.tables import print_checks

        print_checks(results)
    return 1 if any(result.verdict is Verdict.FAILED for result in results) else 0


@cli.command(
    examples=["status", "status --watch", "status --json | jq '.channels[].backlog'"],
    exits={DONE: "it was read, whatever it says", FAILED: "the database cannot be reached"},
)
@click.option("--watch", "is_watched", is_flag=True, help="Redraw it in place until q or Ctrl-C.")
@click.option(
    "--interval",
    "interval_s",
    metavar="SECONDS",
    type=click.FloatRange(1, 3600),
    help="With --watch: how often to read.  [default: 5]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def status(source: SettingsSource, *, is_watched: bool, interval_s: float | None, as_json: bool) -> None:
    """Show the state of every channel.

    Its owner, whether it is paused or in trouble, backlog and the age of its oldest change, what is in flight,
    in doubt, held and parked, a running sync, the last reconcile and the differences that are open.

    Reads the database, so it answers from any machine that has the configuration, running daemon or not.

    With --watch, space pauses, s sorts the channels, and q ends. A database that is lost is shown, and read again when
    it is back. Where nothing can be redrawn (a pipe, a file), one status follows the other.
    """
    if is_watched and as_json:
        raise click.UsageError("--watch shows no JSON; give one of the two", click.get_current_context())
    if interval_s is not None and not is_watched:
        raise click.UsageError("--interval goes with --watch", click.get_current_context())
    settings = source.read(log_to=sys.stderr)
    from daemon import clock
    from daemon.app import building, status

    if is_watched:
        from daemon.commands.watch import watch

        zone = building.operators_zone(settings)
        asyncio.run(watch(lambda: status.status(settings), zone, interval_s or 5.0))
        return
    answer = asyncio.run(status.status(settings))
    if as_json:
        print_json(answer)
    else:
        from daemon.core.times import TimeFormat
        from daemon.tables import print_status

        print_status(answer, TimeFormat(clock.now(), building.operators_zone(settings)))


cli.add_section("Begin here", demo, simulate)
cli.add_section("Set up", init, config, migrate, check, go_live, sync, adopt, uninstall)
cli.add_section("Run", run)
cli.add_section("Look", status, health, explain, attempts, exposure, parked, audit, differences, mcp)
cli.add_section("Act", push, pause, resume, release, reconcile, notify)
cli.add_section("Shell", completion)
