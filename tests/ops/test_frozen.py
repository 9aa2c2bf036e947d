"""What hangs is seen from outside: a blocked event loop does not answer, a loop that waits for ever is named."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import closing

import pytest

from daemon.core.errors import StockrelayError
from daemon.liveness import Liveness
from daemon.ops.asking import Health, ask
from daemon.ops.http import listening
from daemon.ops.pages import alive
from daemon.services.looplag import LoopWatch


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
def liveness(watch: Watch) -> Liveness:
    return Liveness(now=watch)


@pytest.fixture
async def port(liveness: Liveness) -> AsyncIterator[int]:
    async with listening("127.0.0.1", 0, {"/livez": alive(liveness)}) as found:
        yield found


async def asked(port: int, timeout_s: float = 20.0) -> Health:
    return await asyncio.to_thread(ask, "127.0.0.1", port, "/livez", timeout_s)


async def test_a_blocked_event_loop_does_not_answer(port: int) -> None:
    has_failed = threading.Event()
    reasons: list[str] = []

    def insist() -> None:
        """Ask while the event loop stands still; let it go on when that has failed."""
        try:
            ask("127.0.0.1", port, "/livez", 0.5)
        except StockrelayError as error:
            reasons.append(str(error))
        finally:
            has_failed.set()

    client = threading.Thread(target=insist)
    client.start()
    _stand_still_until(has_failed)
    await asyncio.to_thread(client.join)
    assert [reason.partition(" within")[0] for reason in reasons] == [f"no answer from 127.0.0.1:{port}"]
    assert "the daemon hangs" in reasons[0]
    assert (await asked(port)).is_well


def _stand_still_until(event: threading.Event) -> None:
    """Do what no coroutine may."""
    assert event.wait(60)


async def test_a_loop_that_waits_for_ever_is_named_and_the_others_are_not(
    port: int, watch: Watch, liveness: Liveness
) -> None:
    turned: asyncio.Queue[float] = asyncio.Queue()
    well = asyncio.create_task(
        LoopWatch(liveness.watchdog("event-loop"), turned.put_nowait, 0.001).run(asyncio.Event())
    )
    hangs = asyncio.create_task(_hang(liveness))
    assert (await asked(port)).is_well
    watch.now += 31.0
    _empty(turned)
    await asyncio.wait_for(turned.get(), 20)
    await asyncio.wait_for(turned.get(), 20)
    found = await asked(port)
    assert not found.is_well
    assert found.answer == {"status": "stalled", "stalled": [{"loop": "dispatch", "overdue_s": 1.0}]}
    for task in (well, hangs):
        task.cancel()
        await asyncio.wait({task})
    assert (await asked(port)).is_well


async def _hang(liveness: Liveness) -> None:
    with closing(liveness.watchdog("dispatch")) as watchdog:
        watchdog.beat(30.0)
        await asyncio.Event().wait()


def _empty(queue: asyncio.Queue[float]) -> None:
    while not queue.empty():
        queue.get_nowait()
