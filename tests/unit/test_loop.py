"""The loop of a service: steps and pauses, liveness, back-off, stop."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from daemon import clock
from daemon.core.backoff import AT_ONCE, Interval
from daemon.core.errors import ConfigError, StockrelayError, StoreUnavailable
from daemon.liveness import Liveness
from daemon.services.loop import Pace, run_loop
from tests.unit.virtual_time import in_virtual_time

Result = Interval | Exception | None
PACE = Pace(every_s=10.0, longest_step_s=60.0, base=timedelta(seconds=4), cap=timedelta(seconds=60))


class Script:
    """A step that returns or raises each of these in turn, and stops the loop after the last. `at`: when each began."""

    def __init__(self, *results: Result) -> None:
        self.stop = clock.Signal()
        self.at: list[float] = []
        self.failures: list[str] = []
        self._began = clock.monotonic()
        self._left = list(results)

    async def step(self) -> Interval | None:
        self.at.append(round(clock.monotonic() - self._began, 3))
        result = self._left.pop(0)
        if not self._left:
            self.stop.set()
        if isinstance(result, Exception):
            raise result
        return result

    def failed(self, error: StockrelayError) -> Interval | None:
        self.failures.append(str(error))
        return None

    async def run(self, pace: Pace = PACE, *wakes: asyncio.Event) -> None:
        await run_loop(self.step, self.stop, Liveness().watchdog("loop"), pace, self.failed, *wakes)


DOWN = StoreUnavailable("the database does not answer")


@pytest.mark.parametrize(
    ("results", "at"),
    [
        ([None, None, None], [0, 10, 20]),
        ([AT_ONCE, Interval(3.0), None], [0, 0, 3]),
        # Without jitter the back-off is half of 4, 8, 16, 32, 60, 60 seconds, and never shorter than the usual pause.
        ([DOWN, DOWN, DOWN, DOWN, DOWN, DOWN, None], [0, 10, 20, 30, 46, 76, 106]),
        # A step that succeeds ends the row of failures.
        ([DOWN, DOWN, DOWN, DOWN, None, DOWN, None], [0, 10, 20, 30, 46, 56, 66]),
    ],
)
def test_each_step_begins_after_its_pause(results: list[Result], at: list[float]) -> None:
    @in_virtual_time
    async def runs() -> None:
        script = Script(*results)
        await script.run()
        assert script.at == at
        assert script.failures == [str(one) for one in results if isinstance(one, Exception)]

    runs()


@in_virtual_time
async def test_the_first_step_may_have_a_pause_of_its_own() -> None:
    script = Script(None, None)
    await script.run(Pace(every_s=10.0, longest_step_s=1.0, first_s=2.0))
    assert script.at == [2, 12]


@in_virtual_time
async def test_a_failure_may_choose_its_pause_or_end_the_loop() -> None:
    script, stop = Script(DOWN, ConfigError("wrong"), None), asyncio.Event()

    def failed(error: StockrelayError) -> Interval | None:
        if isinstance(error, ConfigError):
            raise error
        return Interval(1.5)

    with pytest.raises(ConfigError):
        await run_loop(script.step, stop, Liveness().watchdog("loop"), PACE, failed)
    assert script.at == [0, 1.5]


@in_virtual_time
async def test_an_unexpected_error_ends_the_loop_and_its_watch() -> None:
    liveness, script = Liveness(), Script(KeyError("x"), None)
    with pytest.raises(KeyError):
        await run_loop(script.step, script.stop, liveness.watchdog("loop"), PACE, script.failed)
    assert liveness.watched() == []


async def _woken(step: Result, wake: Callable[[clock.Signal], None]) -> list[float]:
    signal = clock.Signal()
    script = Script(step, None)
    asyncio.get_running_loop().call_later(1.0, wake, signal)
    await script.run(PACE, signal)
    return script.at


@in_virtual_time
async def test_a_signal_ends_a_pause_early_but_not_a_back_off_nor_one_that_is_not_wakeable() -> None:
    assert await _woken(None, clock.Signal.set) == [0, 1]
    assert await _woken(DOWN, clock.Signal.set) == [0, 10]
    assert await _woken(Interval(5.0, is_wakeable=False), clock.Signal.set) == [0, 5]


@pytest.mark.parametrize("result", [None, DOWN, Interval(3600.0, is_wakeable=False)])
def test_a_stop_ends_every_pause_at_once(result: Result) -> None:
    @in_virtual_time
    async def runs() -> None:
        script, began = Script(result, None), clock.monotonic()
        asyncio.get_running_loop().call_later(1.0, script.stop.set)
        await script.run()
        assert clock.monotonic() - began == pytest.approx(1.0)
        assert len(script.at) == 1

    runs()


@in_virtual_time
async def test_a_step_or_a_pause_that_takes_longer_than_it_may_is_a_stall() -> None:
    liveness = Liveness(now=clock.monotonic)
    stop, hangs = asyncio.Event(), asyncio.Event()

    async def step() -> None:
        await hangs.wait()

    def failed(_error: StockrelayError) -> None:
        """Nothing fails."""

    watchdog = liveness.watchdog("loop")
    running = asyncio.create_task(run_loop(step, stop, watchdog, PACE, failed))
    await asyncio.sleep(59)
    assert liveness.stalled() == []
    await asyncio.sleep(2)
    assert [one.name for one in liveness.stalled()] == ["loop"]
    hangs.set()
    await asyncio.sleep(1)
    assert liveness.stalled() == []
    stop.set()
    await running
    assert liveness.watched() == []
