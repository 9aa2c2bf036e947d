"""What the service manager is told, over a real socket of its kind."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import structlog

from daemon.liveness import Stalled
from daemon.services.sdnotify import SystemdNotifier
from daemon.settings import ServiceManager, take_service_manager
from tests.host.manager import Manager

WATCHDOG = timedelta(seconds=0.4)
STOP = timedelta(seconds=17)
LOOKS = 4
"""So many signs of life could have come meanwhile."""


class Daemon:
    """What the notifier goes by; `looks` counts how often it asked."""

    def __init__(self) -> None:
        self.against: dict[str, str] = {}
        self.stuck: list[Stalled] = []
        self.looks = 0
        self.stop = asyncio.Event()
        self._looked = asyncio.Event()

    def reasons(self) -> dict[str, str]:
        return self.against

    def stalled(self) -> list[Stalled]:
        self.looks += 1
        self._looked.set()
        return self.stuck

    async def is_looked_at(self, seconds: float) -> None:
        """Wait until the notifier has looked for so long."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        async with asyncio.timeout(30):
            while loop.time() < end:
                self._looked.clear()
                await self._looked.wait()


@asynccontextmanager
async def notifying(manager: Manager, watchdog: timedelta | None = WATCHDOG) -> AsyncIterator[Daemon]:
    daemon = Daemon()
    notifier = SystemdNotifier(
        ServiceManager(manager.address, watchdog), daemon.reasons, daemon.stalled, STOP
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(notifier.run(daemon.stop))
        try:
            yield daemon
        finally:
            daemon.stop.set()


@pytest.fixture(params=["path", "abstract"])
async def manager(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Manager]:
    name = f"@stockrelay-test-{os.getpid()}" if request.param == "abstract" else tmp_path / "notify"
    with Manager(name) as listening:
        yield listening


async def test_ready_is_said_once_and_only_when_nothing_is_against_it(manager: Manager) -> None:
    async with notifying(manager) as daemon:
        daemon.against = {"database": "no answer\nREADY=1"}
        await manager.hears("STATUS", "not ready: database: no answer\\nREADY=1")
        await daemon.is_looked_at(WATCHDOG.total_seconds())
        assert manager.heard("READY") == []
        assert manager.heard("WATCHDOG") == []
        daemon.against = {}
        await manager.hears("READY", "1")
        await manager.hears("STATUS", "serving")
        daemon.against = {"schema": "is newer"}
        await manager.hears("STATUS", "not ready: schema: is newer")
        daemon.against = {}
        await manager.hears("STATUS", "serving", since=len(manager.said))
    assert manager.heard("READY") == ["1"]


async def test_while_it_starts_it_asks_for_more_time_instead(manager: Manager) -> None:
    async with notifying(manager) as daemon:
        daemon.against = {"database": "is away"}
        assert await manager.hears("EXTEND_TIMEOUT_USEC") == "400000"
        seen = len(manager.said)
        await manager.hears("EXTEND_TIMEOUT_USEC", since=seen)
        daemon.stuck = [Stalled("intake", 3.0)]
        await manager.hears("STATUS", "stalled: intake")
        seen = len(manager.said)
        await daemon.is_looked_at(LOOKS * WATCHDOG.total_seconds() / 2)
        assert manager.heard("EXTEND_TIMEOUT_USEC", seen) == []
        assert manager.heard("READY") == []


async def test_signs_of_life_stop_while_something_is_stalled_and_come_back(manager: Manager) -> None:
    async with notifying(manager) as daemon:
        await manager.wait_until(lambda: len(manager.heard("WATCHDOG")) >= 3)
        daemon.stuck = [Stalled("dispatch-sekorm", 12.4), Stalled("intake", 2.0)]
        await manager.hears("STATUS", "stalled: dispatch-sekorm, intake")
        seen = len(manager.said)
        await daemon.is_looked_at(LOOKS * WATCHDOG.total_seconds() / 2)
        daemon.stuck = [Stalled("dispatch-sekorm", 13.4), Stalled("intake", 3.0)]
        await daemon.is_looked_at(WATCHDOG.total_seconds() / 2)
        assert manager.said[seen:] == []
        daemon.stuck = []
        await manager.hears("WATCHDOG", "1", since=seen)
        await manager.hears("STATUS", "serving", since=seen)


async def test_without_a_watchdog_there_are_no_signs_of_life(manager: Manager) -> None:
    async with notifying(manager, watchdog=None) as daemon:
        await manager.hears("STATUS", "serving")
        await daemon.is_looked_at(1.2)
    assert manager.said[:2] == [{"READY": "1"}, {"STATUS": "serving"}]
    assert [sorted(message) for message in manager.said[2:]] == [
        ["EXTEND_TIMEOUT_USEC", "STATUS", "STOPPING"]
    ]


async def test_stopping_is_said_with_the_time_that_it_may_take(manager: Manager) -> None:
    async with notifying(manager) as daemon:
        await manager.hears("READY")
        daemon.stop.set()
        await manager.hears("STOPPING", "1")
    assert manager.said[-1]["EXTEND_TIMEOUT_USEC"] == "17000000"


async def test_a_manager_that_comes_late_is_told_all_the_same(tmp_path: Path) -> None:
    manager = Manager(tmp_path / "late")
    with structlog.testing.capture_logs() as lines:
        async with notifying(manager) as daemon:
            await daemon.is_looked_at(WATCHDOG.total_seconds())
            with manager:
                await manager.hears("READY", "1")
                await manager.hears("WATCHDOG", "1")
                daemon.stop.set()
                await manager.hears("STOPPING")
    warnings = [line for line in lines if line["event"] == "systemd.socket_unreachable"]
    assert len(warnings) == 1, "a state is told once"
    assert warnings[0]["address"] == manager.address


@pytest.fixture
def environ() -> dict[str, str]:
    return {
        "NOTIFY_SOCKET": "/run/systemd/notify",
        "WATCHDOG_USEC": "30000000",
        "WATCHDOG_PID": str(os.getpid()),
        "PATH": "/bin",
    }


def test_what_the_manager_left_is_taken_and_not_passed_on(environ: dict[str, str]) -> None:
    assert take_service_manager(environ) == ServiceManager("/run/systemd/notify", timedelta(seconds=30))
    assert environ == {"PATH": "/bin"}
    assert take_service_manager(environ) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [("WATCHDOG_PID", "1"), ("WATCHDOG_USEC", "0"), ("WATCHDOG_USEC", "soon"), ("WATCHDOG_USEC", "")],
)
def test_a_watchdog_that_is_not_meant_for_us_is_not_fed(
    environ: dict[str, str], name: str, value: str
) -> None:
    environ[name] = value
    assert take_service_manager(environ) == ServiceManager("/run/systemd/notify", None)
