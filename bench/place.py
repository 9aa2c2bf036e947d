"""Where everything is measured: a PostgreSQL server as in production, a database a measurement, the real daemon."""

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import asyncpg
import psutil

from bench.programs import Program, answer_of, running
from daemon.demo.postgres import PostgresServer
from daemon.simulator import SimulatorSettings
from daemon.simulator.marketplaces.sekorm import SekormShop

SERVER: Final[Mapping[str, str]] = {
    "fsync": "on",
    "synchronous_commit": "on",
    "shared_buffers": "256MB",
    # No checkpoint falls into one variant and not into the other.
    "max_wal_size": "8GB",
    "checkpoint_timeout": "1h",
    "autovacuum_naptime": "10min",
}
CONDITIONS: Final = "fsync and synchronous_commit on"

Connection = asyncpg.Connection


@dataclass(frozen=True, slots=True)
class Size:
    """How much is done: the whole, or enough to see that it works. `pages`: how many operators' pages are open in the
    additional rows of some measurements; 0: there are no such rows."""

    rounds: int
    seconds: float
    scale: float
    pages: int = 0


WHOLE: Final = Size(rounds=9, seconds=2.0, scale=1.0)
QUICK: Final = Size(rounds=2, seconds=2.0, scale=0.1)


@dataclass(slots=True)
class Place:
    """The server of one run."""

    server: PostgresServer
    size: Size

    def database(self, name: str) -> str:
        """Make a database; return its address."""
        self.server.run_sql(f"CREATE DATABASE {name}")
        return self.server.dsn(name)

    @property
    def server_cpu_s(self) -> float:
        """What the server has used: its live processes, and those that it has waited for."""
        pid = self.server.pid
        assert pid is not None
        postmaster = psutil.Process(pid)
        times = postmaster.cpu_times()
        used = times.user + times.system + times.children_user + times.children_system
        for child in postmaster.children(recursive=True):
            try:
                own = child.cpu_times()
            except psutil.NoSuchProcess:
                continue
            used += own.user + own.system
        return float(used)


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[Connection]:
    """A connection of the measurement's own."""
    connection: Connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


@dataclass(slots=True)
class DaemonSetup:
    """The daemon's configuration for one measurement, as a file."""

    config: Path

    async def migrate(self) -> None:
        """Install schema and triggers, as an operator does."""
        await answer_of(("-c", _MIGRATE, str(self.config)), timeout_s=60)

    @asynccontextmanager
    async def run(self) -> AsyncIterator[Program]:
        """Run the daemon; its log goes to a file, one line a push."""
        async with running("daemon", ("-m", "daemon", "--config", str(self.config), "run")) as program:
            yield program


# The command prints for people; its words are dropped.
_MIGRATE: Final = (
    "import contextlib, io, sys; from daemon.cli import invoke\n"
    "out = io.StringIO()\n"
    "with contextlib.redirect_stdout(out): code = invoke(['--config', sys.argv[1], 'migrate'])\n"
    "sys.exit(code)"
)


@contextmanager
def daemon_setup(
    dsn: str,
    url: str,
    listing: str,
    more: Mapping[str, Mapping[str, Any]] | None = None,
    **channel: object,
) -> Iterator[DaemonSetup]:
    """The configuration of a daemon that watches erp.stock and sends to Sekorm at `url`, without debounce.
    `more`: other sections."""
    account = SimulatorSettings().of(SekormShop)
    sections: dict[str, dict[str, Any]] = {
        "database": {"dsn": dsn},
        "[watch]": {"table": "erp.stock", "sku": "sku"},
        "debounce": {"quiet_s": 0, "max_wait_s": 0},
        "channels.sekorm": {
            "base_url": f"{url}/serviceGate",
            "account": account.account,
            "app_secret": account.app_secret,
            "listing": listing,
            "first_start": "live",
            **channel,
        },
        "ops": {"port": 0},
        "log": {"level": "info", "format": "json"},
        **{name: dict(values) for name, values in (more or {}).items()},
    }
    with TemporaryDirectory(prefix="stockrelay-bench-") as folder:
        config = Path(folder, "config.toml")
        config.write_text(_toml(sections), "utf-8")
        yield DaemonSetup(config)


def _toml(sections: Mapping[str, Mapping[str, Any]]) -> str:
    parts = []
    for name, values in sections.items():
        parts += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items()), ""]
    return "\n".join(parts)
