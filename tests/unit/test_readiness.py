"""Readiness: each part says what it still lacks."""

import asyncio

import pytest

from daemon.core.errors import StoreUnavailable
from daemon.services.readiness import DATABASE, INTAKE, SLOTS, Readiness

ERROR = StoreUnavailable("the database does not answer")


class Watch:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def stop() -> asyncio.Event:
    return asyncio.Event()


@pytest.fixture
def ready(watch: Watch, stop: asyncio.Event) -> Readiness:
    """A replica whose database answered and whose slots can be served."""
    readiness = Readiness(stop.is_set, 10.0, watch)
    readiness.report(DATABASE, None)
    readiness.has(SLOTS)
    return readiness


def test_a_daemon_that_starts_is_not_ready(stop: asyncio.Event) -> None:
    assert set(Readiness(stop.is_set, 10.0).reasons()) == {DATABASE, SLOTS}


def test_a_daemon_that_serves_is_ready(ready: Readiness) -> None:
    assert ready.reasons() == {}


def test_what_fails_is_a_reason_until_it_works_again(ready: Readiness) -> None:
    ready.report(INTAKE, ERROR)
    ready.report(DATABASE, None)
    assert ready.reasons() == {INTAKE: "the database does not answer"}
    ready.report(INTAKE, None)
    assert ready.reasons() == {}


def test_a_database_that_falls_silent_is_a_reason_although_nothing_failed(
    watch: Watch, ready: Readiness
) -> None:
    watch.now += 10.0
    assert ready.reasons() == {}
    watch.now += 1.0
    assert ready.reasons() == {DATABASE: "it has not answered for 11 s"}
    ready.report(INTAKE, None)
    assert ready.reasons() == {}


def test_the_error_says_more_than_the_silence(watch: Watch, ready: Readiness) -> None:
    ready.report(DATABASE, ERROR)
    watch.now += 60.0
    assert ready.reasons() == {DATABASE: "the database does not answer"}


def test_a_daemon_that_stops_takes_nothing_new(ready: Readiness, stop: asyncio.Event) -> None:
    stop.set()
    assert ready.reasons() == {"stopping": "stopping; what is in flight is being finished"}
