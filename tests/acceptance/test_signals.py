"""Signals to a real daemon: none that is sent by habit ends it, whatever it is doing."""

import signal

from daemon.simulator import Delay
from tests.acceptance.harness import Stage
from tests.acceptance.replica import Replica

BY_HABIT = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


async def ignored(replica: Replica, *numbers: signal.Signals) -> None:
    """Send the signals and wait until the daemon has said that they had no effect."""
    for number in numbers:
        since = replica.mark()
        replica.signal(number)
        await replica.wait_for("run.signal_ignored", since=since, signal=number.name)


async def test_no_signal_that_is_sent_by_habit_ends_it_in_any_phase(stage18: Stage) -> None:
    await stage18.fill(5)
    await stage18.migrate()
    replica = stage18.replica()
    await replica.start()
    await replica.wait_for("run.started")
    await ignored(replica, *BY_HABIT)
    await stage18.converged()
    await ignored(replica, *BY_HABIT)
    # What is in flight keeps it from ending at once.
    stage18.simulator.faults.add(Delay(seconds=60.0))
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = 7")
    await stage18.simulator.wait_until(lambda: stage18.simulator.stats.in_flight > 0, 30)
    replica.signal(signal.SIGTERM)
    await replica.wait_for("run.stop_requested")
    await ignored(replica, *BY_HABIT)
    assert await replica.wait() == 0
