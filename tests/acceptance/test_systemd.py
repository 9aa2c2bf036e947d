"""The daemon under a service manager: the real process, and a stand-in that speaks systemd's side of the protocol."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.acceptance.harness import Stage
from tests.acceptance.proxy import Proxy
from tests.acceptance.replica import environment
from tests.host.manager import Manager

WATCHDOG_S = 1.0
GRACE_S = 3.0

# The daemon as it is, and two ways for it to get stuck, by signals that it leaves alone. SIGRTMIN: a callback of
# the event loop never returns. SIGRTMAX: a loop does not turn as it promised.
STUCK_ON_DEMAND = """
import gc, signal, time
from daemon.__main__ import main
from daemon.liveness import Liveness

def stall(*_):
    for one in gc.get_objects():
        if isinstance(one, Liveness):
            one.watchdog("stuck-on-demand").beat(-1e9)

signal.signal(signal.SIGRTMIN, lambda *_: time.sleep(600))
signal.signal(signal.SIGRTMAX, stall)
main()
"""


class Unit:
    """The daemon's process, started as systemd starts it."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log

    @property
    def is_running(self) -> bool:
        return self._process.returncode is None

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def ended(self, timeout: float = 30.0) -> int:
        async with asyncio.timeout(timeout):
            return await self._process.wait()

    def log(self) -> str:
        return self._log.read_text("utf-8", errors="replace")


@asynccontextmanager
async def started(
    stage: Stage, manager: Manager, folder: Path, watchdog_s: float | None = WATCHDOG_S
) -> AsyncIterator[Unit]:
    log = folder / "unit.log"
    told = {"NOTIFY_SOCKET": manager.address}
    if watchdog_s is not None:
        told["WATCHDOG_USEC"] = str(int(watchdog_s * 1e6))
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-c", STUCK_ON_DEMAND, "--config", str(stage.config), "run"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            cwd=folder,
            env={**environment(), **told},
        )
    unit = Unit(process, log)
    try:
        yield unit
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.fixture
async def manager() -> AsyncIterator[Manager]:
    with Manager(f"@stockrelay-test-{os.getpid()}") as listening:
        yield listening


async def test_it_is_ready_when_slots_can_be_served_is_fed_and_says_that_it_stops(
    stage18: Stage, manager: Manager, tmp_path: Path
) -> None:
    stage18.configure(run={"grace_s": GRACE_S})
    await stage18.fill(3)
    await stage18.migrate()
    async with started(stage18, manager, tmp_path) as unit:
        await manager.hears("READY", "1")
        await manager.hears("STATUS", "serving")
        seen = len(manager.said)
        await manager.wait_until(lambda: len(manager.heard("WATCHDOG", seen)) >= 3)
        await stage18.converged()
        unit.signal(signal.SIGTERM)
        await manager.hears("STOPPING", "1")
        assert await unit.ended() == 0
    assert manager.heard("READY") == ["1"]
    assert manager.heard("EXTEND_TIMEOUT_USEC")[-1] == f"{int((GRACE_S + 30) * 1e6)}"
    assert "systemd.readiness_reported" in unit.log()


async def test_while_the_database_is_away_it_is_not_ready_and_asks_for_time(
    stage18: Stage, manager: Manager, tmp_path: Path
) -> None:
    await stage18.fill(1)
    await stage18.migrate()
    async with Proxy(stage18.database.server.port) as proxy:
        dsn = stage18.database.dsn.replace(f":{stage18.database.server.port}/", f":{proxy.port}/")
        stage18.configure(database={"dsn": dsn})
        proxy.swallow()
        async with started(stage18, manager, tmp_path) as unit:
            await manager.wait_until(lambda: len(manager.heard("EXTEND_TIMEOUT_USEC")) >= 3)
            (status,) = manager.heard("STATUS")[-1:]
            assert status.startswith("not ready: database: ")
            assert manager.heard("READY") == []
            assert manager.heard("WATCHDOG") == []
            proxy.heal()
            await manager.hears("READY", "1")
            unit.signal(signal.SIGTERM)
            assert await unit.ended() == 0


@pytest.mark.parametrize(
    "how", [signal.SIGRTMIN, signal.SIGRTMAX], ids=["event loop blocked", "loop stalled"]
)
async def test_a_daemon_that_is_stuck_gives_no_sign_of_life(
    stage18: Stage, manager: Manager, tmp_path: Path, how: signal.Signals
) -> None:
    await stage18.migrate()
    async with started(stage18, manager, tmp_path) as unit:
        await manager.hears("WATCHDOG")
        unit.signal(how)
        if how is signal.SIGRTMAX:
            await manager.hears("STATUS", "stalled: stuck-on-demand")
        # What it said before may still be on its way; systemd waits for so long, too.
        seen = await quiet_since(manager, WATCHDOG_S)
        with pytest.raises(AssertionError, match="not said within"):
            await manager.hears("WATCHDOG", since=seen, timeout=2 * WATCHDOG_S)
        assert unit.is_running


async def quiet_since(manager: Manager, seconds: float) -> int:
    """Wait until nothing has been said for so long; return how much was said."""
    while True:
        seen = len(manager.said)
        try:
            await manager.wait_until(lambda seen=seen: len(manager.said) > seen, timeout=seconds)  # type: ignore[misc]
        except AssertionError:
            return seen


async def test_without_a_manager_nobody_is_told(stage18: Stage) -> None:
    await stage18.migrate()
    replica = await stage18.started()
    assert await replica.stop() == 0
    assert not [line for line in replica.read() if line["event"].startswith("systemd.")]
