"""One daemon process as an operator runs it, and its log."""

import asyncio
import atexit
import contextlib
import json
import os
import signal as signals
import sys
import time
from collections.abc import Callable
from datetime import datetime
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Final, NamedTuple

import daemon
from daemon.demo.guarded import ProcessGuard
from tests.acceptance.forked import Forked, Forker

LOOK_S: Final = 0.02
"""How often a log that is waited for is read."""
_TAIL: Final = 3000
_ROOT: Final = Path(daemon.__file__ or "").parents[1]

Line = dict[str, Any]


class Done(NamedTuple):
    """The result of a command."""

    code: int
    out: str
    err: str


def environment(**variables: str) -> dict[str, str]:
    """Return this environment with no settings of an operator's but these, and the way to this very package."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STOCKRELAY_")}
    return {**kept, "PYTHONPATH": str(_ROOT), **variables}


def arguments(config: Path, *words: str) -> list[str]:
    """Return the command line of one command."""
    return [str(forker().command), "--config", str(config), *words]


def unforked(config: Path, *words: str) -> list[str]:
    """Return the command line by which the program is loaded anew, as a supervisor of services would have it."""
    return [sys.executable, "-P", "-m", "daemon", "--config", str(config), *words]


async def unheard(config: Path, *words: str) -> Forked:
    """Start one command; nobody reads what it says."""
    with Path(os.devnull).open("wb") as null:  # noqa: ASYNC230 - no file of a disk
        return await forker().start(
            ["--config", str(config), *words],
            null.fileno(),
            null.fileno(),
            config.parent,
            environment(),
            is_session=False,
        )


async def command(config: Path, *words: str, **variables: str) -> Done:
    """Run one command to its end, with these variables in its environment."""
    with TemporaryFile() as out, TemporaryFile() as err:
        process = await forker().start(
            ["--config", str(config), *words],
            out.fileno(),
            err.fileno(),
            config.parent,
            environment(**variables),
            is_session=False,
        )
        try:
            async with asyncio.timeout(60):
                code = await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        out.seek(0)
        err.seek(0)
        return Done(code, out.read().decode(), err.read().decode())


@cache
def forker() -> Forker:
    """The one of this test process."""
    made = Forker(_ROOT)
    atexit.register(made.close)
    return made


def at(line: Line) -> float:
    """Return when a line was written, in unix seconds."""
    return datetime.fromisoformat(line["timestamp"]).timestamp()


class Replica:
    """`stockrelay run` with one configuration. It may be started again after its end; its log goes on.

    A guard ends the process when the tests themselves are killed. `is_forked` False: the program is loaded anew, as a
    supervisor of services would have it.
    """

    is_forked = True

    def __init__(self, name: str, config: Path, folder: Path, **variables: str) -> None:
        self.name = name
        self._variables = variables
        self._config = config
        self._out = folder / "out.jsonl"
        self._err = folder / "err.txt"
        self._process: Forked | asyncio.subprocess.Process | None = None
        self._guard = ProcessGuard(folder, signals.SIGKILL)
        self._read_to = 0
        self.lines: list[Line] = []
        self.not_json: list[str] = []
        self.kills = 0

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    def words(self) -> list[str]:
        """The command line that is started."""
        return unforked(self._config, "run")

    async def start(self, to: int | None = None) -> None:
        """Start the process; what becomes of it is in the log, unless that goes `to` another descriptor."""
        assert not self.is_running
        with self._out.open("ab") as out, self._err.open("ab") as err:
            if self.is_forked:
                self._process = await forker().start(
                    ["--config", str(self._config), "run"],
                    out.fileno() if to is None else to,
                    err.fileno(),
                    self._config.parent,
                    environment(**self._variables),
                    is_session=True,
                )
            else:
                self._process = await asyncio.create_subprocess_exec(
                    *self.words(),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=out if to is None else to,
                    stderr=err,
                    cwd=self._config.parent,
                    env=environment(**self._variables),
                    start_new_session=True,
                )
        self._guard.watch(self._process.pid)

    async def wait(self, timeout: float = 30.0) -> int:
        """Wait for the process to end by itself; return its exit code."""
        assert self._process is not None
        async with asyncio.timeout(timeout):
            code = await self._process.wait()
        self._guard.watch(None)
        return code

    async def stop(self, number: signals.Signals = signals.SIGTERM, timeout: float = 30.0) -> int:
        """Send a signal, as systemd does, and return the exit code."""
        assert self._process is not None
        self._process.send_signal(number)
        return await self.wait(timeout)

    def signal(self, number: signals.Signals) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    async def kill(self) -> None:
        """SIGKILL: nothing is said, nothing is finished."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self.wait()
        self.kills += 1

    def suspend(self) -> None:
        """SIGSTOP: the process stands still wherever it is; its connections stay open."""
        os.kill(self.pid, signals.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signals.SIGCONT)

    async def close(self) -> None:
        """End what still runs, and the guard."""
        if self.is_running:
            await self.kill()
        self._guard.release()

    # The log

    def read(self) -> list[Line]:
        """Read what has been written since; return all lines."""
        if not self._out.exists():
            return self.lines
        with self._out.open("rb") as file:
            file.seek(self._read_to)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._read_to += len(whole)
        for raw in whole.splitlines():
            try:
                line = json.loads(raw)
            except ValueError:
                line = None
            if isinstance(line, dict) and "event" in line:
                self.lines.append(line)
            else:
                self.not_json.append(raw.decode(errors="replace"))
        return self.lines

    def mark(self) -> int:
        """Return where the log ends now, for `since`."""
        return len(self.read())

    def find(self, event: str, since: int = 0, **fields: object) -> list[Line]:
        """Return the lines of an event that have these fields."""
        return [
            line
            for line in self.read()[since:]
            if line["event"] == event and all(line.get(name) == value for name, value in fields.items())
        ]

    async def wait_for(
        self, event: str, *, since: int = 0, times: int = 1, timeout: float = 30.0, **fields: object
    ) -> Line:
        """Wait for a line of the log (the `times`-th of its kind) and return it. A process that ends has failed."""
        await self.wait_until(
            lambda: len(self.find(event, since, **fields)) >= times, f"{event} {fields or ''}", timeout
        )
        return self.find(event, since, **fields)[times - 1]

    async def wait_until(self, is_so: Callable[[], bool], what: str, timeout: float = 30.0) -> None:
        """Wait until something is so that the process does."""
        deadline = time.monotonic() + timeout
        while not is_so():
            if not self.is_running:
                raise AssertionError(f"replica {self.name} ended while {what} was awaited\n{self.tail()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"replica {self.name}: no {what} within {timeout:g} s\n{self.tail()}")
            await asyncio.sleep(LOOK_S)

    def errors(self) -> str:
        """Return what was written to standard error."""
        return self._err.read_text("utf-8", errors="replace") if self._err.exists() else ""

    def text(self) -> str:
        """Return all that was written."""
        return (self._out.read_text("utf-8", errors="replace") if self._out.exists() else "") + self.errors()

    def tail(self) -> str:
        """Return the end of what was written, for a failure's message."""
        out = self._out.read_text("utf-8", errors="replace") if self._out.exists() else ""
        return f"its log ends:\n{out[-_TAIL:]}\nstandard error ends:\n{self.errors()[-_TAIL:]}"
