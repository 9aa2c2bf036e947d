"""What the pages say."""

import asyncio
import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from daemon.core.errors import StoreUnavailable
from daemon.liveness import Liveness
from daemon.ops.messages import HttpReply
from daemon.ops.pages import StatusPage, alive, ready
from daemon.services.looplag import LoopWatch


def told(reply: HttpReply) -> tuple[int, Any]:
    return reply.status, json.loads(reply.body)


async def test_a_stalled_loop_is_named_and_calls_for_a_restart() -> None:
    liveness = Liveness()
    page = alive(liveness)
    liveness.watchdog("intake").beat(60.0)
    assert told(await page()) == (200, {"status": "alive", "loops": ["intake"]})
    liveness.watchdog("doorbell").beat(-3.0)
    status, answer = told(await page())
    assert (status, answer["status"]) == (503, "stalled")
    assert [one["loop"] for one in answer["stalled"]] == ["doorbell"]
    assert answer["stalled"][0]["overdue_s"] >= 3.0


async def test_a_missing_part_is_reported_with_its_reason() -> None:
    reasons = {"database": "it does not answer"}
    page = ready(lambda: reasons)
    assert told(await page()) == (503, {"status": "not ready", "reasons": {"database": "it does not answer"}})
    reasons.clear()
    assert told(await page()) == (200, {"status": "ready"})


async def test_the_status_is_read_once_for_all_who_ask_and_kept() -> None:
    reads = 0
    may_end = asyncio.Event()

    async def read() -> dict[str, Any]:
        nonlocal reads
        reads += 1
        await may_end.wait()
        return {"reads": reads}

    page = StatusPage(read, keep_s=3600.0)
    asking = [asyncio.create_task(page()) for _ in range(20)]
    asking.pop().cancel()
    may_end.set()
    assert [told(await one) for one in asking] == 19 * [(200, {"reads": 1})]
    assert told(await page()) == (200, {"reads": 1})


async def test_the_status_is_read_anew_when_it_is_too_old() -> None:
    reads = iter(range(100))

    async def read() -> dict[str, Any]:
        return {"reads": next(reads)}

    page = StatusPage(read, keep_s=0.0, now=lambda: 100.0)
    assert [told(await page())[1] for _ in range(3)] == [{"reads": 0}, {"reads": 1}, {"reads": 2}]


async def test_a_status_that_takes_long_is_kept_for_long() -> None:
    now, reads = [100.0], 0

    async def read() -> dict[str, Any]:
        nonlocal reads
        reads += 1
        now[0] += 3.0
        return {}

    page = StatusPage(read, keep_s=5.0, now=lambda: now[0])
    for later_s, so_far in ((0.0, 1), (59.0, 1), (1.0, 2), (5.0, 2)):
        now[0] += later_s
        await page()
        assert reads == so_far, f"after {now[0]:g} s"


async def test_a_status_that_cannot_be_read_is_an_answer_that_is_kept_too() -> None:
    reads = 0

    async def read() -> dict[str, Any]:
        nonlocal reads
        reads += 1
        raise StoreUnavailable("reading: the database does not answer (at db.internal)")

    page = StatusPage(read, keep_s=3600.0)
    with capture_logs() as logs:
        status, answer = told(await page())
        assert told(await page()) == (status, answer)
    assert (status, reads) == (503, 1)
    assert "db.internal" not in str(answer)
    assert [(line["event"], line["reason"][:7]) for line in logs] == [("ops.status_unavailable", "reading")]


async def test_a_reading_that_hangs_is_ended_with_the_page() -> None:
    begun = asyncio.Event()

    async def read() -> dict[str, Any]:
        begun.set()
        await asyncio.Event().wait()
        return {}

    page = StatusPage(read)
    asking = asyncio.create_task(page())
    await begun.wait()
    await page.close()
    with pytest.raises(asyncio.CancelledError):
        await asking


async def test_the_loop_watch_beats_and_measures_until_it_is_stopped() -> None:
    liveness = Liveness()
    lags: asyncio.Queue[float] = asyncio.Queue()
    stop = asyncio.Event()
    watch = asyncio.create_task(LoopWatch(liveness.watchdog("event-loop"), lags.put_nowait, 0.001).run(stop))
    async with asyncio.timeout(20):
        assert [await lags.get() >= 0.0 for _ in range(3)] == [True, True, True]
    stop.set()
    await watch
    assert liveness.watched() == []


async def test_a_loop_that_was_blocked_is_late_by_as_much() -> None:
    lags: asyncio.Queue[float] = asyncio.Queue()
    stop, watchdog = asyncio.Event(), Liveness().watchdog("event-loop")
    watch = asyncio.create_task(LoopWatch(watchdog, lags.put_nowait, 0.001).run(stop))
    await asyncio.sleep(0)  # it has begun to wait
    _block(0.2)
    async with asyncio.timeout(20):
        assert await lags.get() >= 0.19
    stop.set()
    await watch


def _block(seconds: float) -> None:
    """Do what no coroutine may."""
    import time

    time.sleep(seconds)
