"""A reload that fails leaves the daemon as it was, and able to reload."""

import asyncio
import io
from collections.abc import Iterator, Sequence

import pytest
from structlog.testing import capture_logs

from daemon import logs
from daemon.app import watching
from daemon.app.reloading import Reloading
from daemon.services.notify import Receiver
from daemon.settings import Settings
from tests.channels import SEKORM
from tests.unit.test_reload import settings

BEFORE, WRONG, AFTER = (settings(channels__sekorm__rate_per_s=rate) for rate in ("5", "7", "9"))


class Taker:
    """Keeps the rate that it was given last; refuses one that is `refused`."""

    def __init__(self, refused: float = 0.0) -> None:
        self.rate = 5.0
        self.has_taken = asyncio.Event()
        self._refused = refused

    def __call__(self, now: Settings, _told: Sequence[Receiver]) -> None:
        rate = now.channels[SEKORM].rate_per_s
        if rate == self._refused:
            raise OSError("a certificate is gone")
        self.rate = rate
        self.has_taken.set()


@pytest.fixture
def log_state() -> logs.Log:
    return logs.configure("info", "json", io.StringIO())


async def test_a_reload_that_fails_half_way_is_taken_back_and_the_next_one_works(log_state: logs.Log) -> None:
    given: Iterator[Settings | Exception] = iter([KeyError("unforeseen"), WRONG, AFTER])

    def reread() -> Settings:
        found = next(given)
        if isinstance(found, Exception):
            raise found
        return found

    reloading = Reloading(BEFORE, reread, log_state)
    first, second = Taker(), Taker(refused=7.0)
    reloading.follow(first)
    reloading.follow(second)
    with capture_logs() as lines:
        task = asyncio.create_task(reloading.run())
        reloading.request()
        async with asyncio.timeout(5):
            while not lines:  # noqa: ASYNC110 - the log tells nobody
                await asyncio.sleep(0)
            reloading.request()
            await second.has_taken.wait()
            assert (first.rate, second.rate, reloading.settings) == (5.0, 5.0, BEFORE)
            second.has_taken.clear()
            reloading.request()
            await second.has_taken.wait()
        task.cancel()
    assert (first.rate, second.rate, reloading.settings.channels[SEKORM].rate_per_s) == (9.0, 9.0, 9.0)
    assert [(line["event"], "exc_info" in line) for line in lines] == [
        ("run.configuration_refused", True),
        ("run.configuration_refused", True),
        ("run.configuration_reloaded", False),
    ]


async def test_a_part_that_watches_the_daemon_and_fails_is_named_and_run_again(
    log_state: logs.Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_REPEATS_S", 0.0)
    monkeypatch.setattr(log_state, "log_repeats", lambda **_: [].pop())
    without_port = settings(ops__enabled="false")
    reloading = Reloading(without_port, lambda: without_port, log_state)
    with capture_logs() as lines:
        async with watching.watching(without_port, asyncio.Event(), reloading) as parts, asyncio.timeout(5):
            while "service log-repeats" not in parts.readiness.reasons():  # noqa: ASYNC110 - readiness tells nobody
                await asyncio.sleep(0)
    assert ("run.service_failed", "log-repeats") in [(line["event"], line.get("service")) for line in lines]
