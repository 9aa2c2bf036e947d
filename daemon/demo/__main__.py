"""`python -m daemon.demo`: an empty PostgreSQL for trying things out, until Ctrl-C; nothing of it is kept."""

import signal

import click

from daemon.core.errors import StockrelayError
from daemon.demo.postgres import PostgresServer


@click.command()
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=5433, show_default=True, help="0: any free one."
)
def main(port: int) -> None:
    """Run the demo's PostgreSQL with an empty database `shop`, on this machine alone, until Ctrl-C."""
    try:
        with PostgresServer(port=port) as server:
            server.run_sql("CREATE DATABASE shop")
            click.echo(f"PostgreSQL {server.major} is ready at {server.dsn('shop')}")
            click.echo(f"psql is in {server.bin_dir}")
            click.echo("Ctrl-C ends it and removes everything.")
            # Blocked only now: PostgreSQL and its guard would have inherited it.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
            signal.sigwait({signal.SIGINT, signal.SIGTERM})
    except StockrelayError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main(prog_name="python -m daemon.demo")
