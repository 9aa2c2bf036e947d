"""A service that fails is run again, alone."""

import asyncio
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from daemon.app.supervising import Supervisor
from daemon.core.errors import ConfigError
from daemon.services.readiness import SLOTS, Readiness


class Service:
    """Fails with each of these errors in turn, then runs until it is told to stop."""

    def __init__(self, *errors: Exception) -> None:
        self._errors = list(errors)
        self.runs = 0
        self.is_steady = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        self.runs += 1
        if self._errors:
            raise self._errors.pop(0)
        self.is_steady.set()
        await stop.wait()


@pytest.fixture
def readiness() -> Readiness:
    return Readiness(lambda: False, 60.0)


async def test_a_service_that_fails_is_run_again_and_the_others_go_on(readiness: Readiness) -> None:
    failing = Service(OverflowError("date value out of range"), ExceptionGroup("slots", [KeyError("x")]))
    healthy = Service()
    stop = asyncio.Event()
    supervisor = Supervisor(readiness, timedelta(milliseconds=1))
    with capture_logs() as lines:
        async with asyncio.TaskGroup() as group:
            group.create_task(supervisor.run("reconcile-ymatou", failing.run, stop))
            group.create_task(supervisor.run("intake-sekorm", healthy.run, stop))
            await failing.is_steady.wait()
            stop.set()
    assert (failing.runs, healthy.runs) == (3, 1)
    assert [(line["event"], line["service"], line["failures"]) for line in lines] == [
        ("run.service_failed", "reconcile-ymatou", 1),
        ("run.service_failed", "reconcile-ymatou", 2),
    ]
    assert all(line["exc_info"] for line in lines)


async def test_a_service_that_waits_to_be_run_again_is_named_by_readiness_and_can_be_stopped(
    readiness: Readiness,
) -> None:
    stop = asyncio.Event()
    running = asyncio.create_task(
        Supervisor(readiness, timedelta(hours=1)).run("guard", Service(KeyError("x")).run, stop)
    )
    async with asyncio.timeout(5):
        while "service guard" not in readiness.reasons():  # noqa: ASYNC110 - readiness tells nobody
            await asyncio.sleep(0)
    assert "KeyError" in readiness.reasons()["service guard"]
    stop.set()
    await running
    assert "service guard" not in readiness.reasons()


@pytest.mark.parametrize("is_grouped", [False, True])
async def test_what_cannot_be_helped_ends_the_process(readiness: Readiness, *, is_grouped: bool) -> None:
    error: Exception = ConfigError("database.dsn: wrong")
    service = Service(ExceptionGroup("all", [error]) if is_grouped else error)
    with pytest.raises((ConfigError, ExceptionGroup)):
        await Supervisor(readiness).run("guard", service.run, asyncio.Event())
    assert service.runs == 1


async def test_running_a_service_again_does_not_say_that_it_has_what_it_lacks(readiness: Readiness) -> None:
    stop = asyncio.Event()
    service = Service(KeyError("x"))
    running = asyncio.create_task(
        Supervisor(readiness, timedelta(milliseconds=1)).run(SLOTS, service.run, stop)
    )
    async with asyncio.timeout(5):
        await service.is_steady.wait()
    assert SLOTS in readiness.reasons()
    stop.set()
    await running
