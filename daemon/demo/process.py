"""The daemon as an operator runs it: a process of its own, with a configuration file and a log."""

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final

import daemon
from daemon.core.errors import StockrelayError
from daemon.demo import erp
from daemon.demo.guarded import ProcessGuard
from daemon.simulator import SimulatorSettings
from daemon.simulator.marketplaces.sekorm import SekormShop
from daemon.simulator.marketplaces.ymatou.settings import YmatouShop

_STOP_S: Final = 20.0
_MIGRATE_S: Final = 60.0
_TAIL: Final = 2000


@dataclass(slots=True)
class LogSummary:
    """How many lines of each level the daemon wrote, and which warnings and errors they were."""

    lines: int = 0
    levels: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        counts = f"{self.lines} lines, {self.levels['warning']} warnings, {self.levels['error']} errors"
        named = ", ".join(f"{event} x{count}" for event, count in self.events.most_common(5))
        return f"{counts} ({named})" if named else counts


def configuration(dsn: str, url: str, marketplaces: SimulatorSettings, rate_per_s: int, receiver: str) -> str:
    """Return the daemon's TOML file for the sample ERP at `dsn` and the simulator at `url`; notifications go to
    `receiver`."""
    watches = "\n".join(f'[[watch]]\ntable = "{table}"\nsku = "{sku}"\n' for table, sku in erp.WATCHES)
    return f"""\
[database]
dsn = "{dsn}"

{watches}
[debounce]
quiet_s = 0.5
max_wait_s = 2.0
[run]
lease_s = 5

[channels.sekorm]
base_url = "{url}/serviceGate"
account = "{marketplaces.of(SekormShop).account}"
app_secret = "{marketplaces.of(SekormShop).app_secret}"
first_start = "live"
rate_per_s = {rate_per_s}
settle_s = 15
listing = '''
{erp.SEKORM_LISTING}
'''
[channels.ymatou]
base_url = "{url}"
app_id = "{marketplaces.of(YmatouShop).app_id}"
app_secret = "{marketplaces.of(YmatouShop).app_secret}"
auth_code = "{marketplaces.of(YmatouShop).auth_code}"
first_start = "live"
rate_per_s = {rate_per_s}
settle_s = 15
listing = '''
{erp.YMATOU_LISTING}
'''
[notify]
urls = ["{receiver}"]
[ops]
port = 0
[log]
format = "json"
"""


class DaemonProcess:
    """`python -m daemon` with one configuration. It dies with us, whatever ends us.

    `folder` is ours alone and goes with the demo; `log` receives the daemon's output and stays.
    """

    def __init__(self, folder: Path, log: Path) -> None:
        self._folder = folder
        self._config = folder / "config.toml"
        self.log = log
        self._guard = ProcessGuard(folder, signal.SIGKILL)
        self._process: asyncio.subprocess.Process | None = None

    def configure(self, text: str) -> None:
        self._config.write_text(text, "utf-8")

    async def migrate(self) -> None:
        """Create schema and triggers. Raises StockrelayError with the command's words when that fails."""
        process = await self._spawn("migrate")
        try:
            async with asyncio.timeout(_MIGRATE_S):
                code = await process.wait()
        finally:
            await self._end(process)
        if code:
            raise StockrelayError(f"stockrelay migrate failed with exit code {code}:\n{self._tail()}")

    async def start(self) -> None:
        """Start `run`; what becomes of it is seen by `check`."""
        self._process = await self._spawn("run")

    async def wait(self) -> int:
        """Return the exit code once the daemon has ended, for whatever reason."""
        return 0 if self._process is None else await self._process.wait()

    def check(self) -> None:
        """Raise StockrelayError with the end of the log when the daemon is gone."""
        if self._process is None or self._process.returncode is not None:
            code = None if self._process is None else self._process.returncode
            raise StockrelayError(
                f"the daemon ended by itself with exit code {code}; its log ends:\n{self._tail()}"
            )

    async def stop(self) -> int:
        """Stop the daemon as systemd does and return its exit code; 0 when it was not running."""
        process, self._process = self._process, None
        return await self._end(process) if process is not None else 0

    async def close(self) -> None:
        """Stop what still runs, then let the guard go."""
        await self.stop()
        self._guard.release()

    def summary(self) -> LogSummary:
        """Count the lines of the log."""
        found = LogSummary()
        with self.log.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                found.lines += 1
                try:
                    entry = json.loads(line)
                except ValueError:
                    continue
                level = entry.get("level", "") if isinstance(entry, dict) else ""
                found.levels[level] += 1
                if level in {"warning", "error", "critical"}:
                    found.events[entry.get("event", "?")] += 1
        return found

    async def _spawn(self, command: str) -> asyncio.subprocess.Process:
        with self.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "daemon", "--config", str(self._config), command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                env=_environment(),
                start_new_session=True,  # Ctrl-C is for us, and we stop it in order
            )
        self._guard.watch(process.pid)
        return process

    async def _end(self, process: asyncio.subprocess.Process) -> int:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), timedelta(seconds=_STOP_S).total_seconds())
            except TimeoutError:
                process.kill()
        code = await process.wait()
        self._guard.watch(None)
        return code

    def _tail(self) -> str:
        return self.log.read_text("utf-8", errors="replace")[-_TAIL:].strip()


def _environment() -> dict[str, str]:
    """Return our environment without the operator's settings, and with the way to this very package."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STOCKRELAY_")}
    assert daemon.__file__ is not None
    places = (str(Path(daemon.__file__).parents[1]), kept.get("PYTHONPATH", ""))
    return {**kept, "PYTHONPATH": os.pathsep.join(filter(None, places))}
