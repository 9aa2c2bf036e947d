"""Signals to a real daemon: none that is sent by habit ends it, whatever it is doing."""

import signal

import pytest

from daemon.simulator import Delay
from tests.acceptance.harness import Stage
from tests.acceptance.replica import Line, Replica

IGNORED = (signal.SIGUSR1, signal.SIGUSR2)


async def ignored(replica: Replica, *numbers: signal.Signals) -> None:
    """Send the signals and wait until the daemon has said that they had no effect."""
    for number in numbers:
        since = replica.mark()
        replica.signal(number)
        await replica.wait_for("run.signal_ignored", since=since, signal=number.name)


async def reloaded(replica: Replica) -> Line:
    """Send SIGHUP and return what the daemon took over."""
    since = replica.mark()
    replica.signal(signal.SIGHUP)
    return await replica.wait_for("run.configuration_reloaded", since=since)


async def test_no_signal_that_is_sent_by_habit_ends_it_in_any_phase(stage18: Stage) -> None:
    await stage18.fill(5)
    await stage18.migrate()
    replica = stage18.replica()
    replica.is_forked = False
    await replica.start()
    await replica.wait_for("run.started")
    await ignored(replica, *IGNORED)
    await reloaded(replica)
    await stage18.converged()
    await ignored(replica, *IGNORED)
    assert (await reloaded(replica))["changed"] == []
    # What is in flight keeps it from ending at once.
    stage18.simulator.faults.add(Delay(seconds=60.0))
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = 7")
    await stage18.simulator.wait_until(lambda: stage18.simulator.stats.in_flight > 0, 30)
    replica.signal(signal.SIGTERM)
    await replica.wait_for("run.stop_requested")
    await ignored(replica, *IGNORED, signal.SIGHUP)
    assert await replica.wait() == 0


async def test_a_reload_takes_over_what_it_can_and_names_the_rest(stage18: Stage) -> None:
    replica = await stage18.running(3)
    # Both sides change a secret; from now on the old one is refused.
    stage18.simulator.configure(stage18.marketplaces.changed("ymatou", app_secret="a-new-secret-7"))
    stage18.configure(
        log={"level": "debug"},
        run={"poll_s": 0.5},
        sekorm={"rate_per_s": 1500},
        ymatou={"app_secret": "a-new-secret-7"},
    )
    line = await reloaded(replica)
    changed = ["log.level", "channels.sekorm.rate_per_s", "channels.ymatou.app_secret"]
    assert (line["level"], sorted(line["changed"]), line["needs_restart"]) == (
        "warning", sorted(changed), ["run.poll_s"],
    )  # fmt: skip
    since = replica.mark()
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = 7")
    await stage18.converged()
    await replica.wait_for("intake.changes_read", since=since, level="debug")
    assert not replica.find("dispatch.breaker_opened", since=since)


async def test_a_wrong_configuration_is_refused_and_the_old_one_stays(stage18: Stage) -> None:
    replica = await stage18.running(3)
    for named, run, ymatou in (
        ("run.poll_s", {"poll_s": -1}, {}),
        ("an example's words in channels.ymatou.app_secret", {"poll_s": 1}, {"app_secret": "change-me"}),
        ("this is not TOML", {}, {}),
    ):
        stage18.configure(run=run, ymatou=ymatou)
        if not run:
            stage18.config.write_text("this is no TOML", "utf-8")
        since = replica.mark()
        replica.signal(signal.SIGHUP)
        line = await replica.wait_for("run.configuration_refused", since=since)
        assert named in line["reason"], line
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = 7")
    await stage18.converged()


@pytest.mark.settings(run={"heartbeat_s": 0.5})
async def test_replicas_with_different_configurations_are_named_by_both_and_by_status(stage18: Stage) -> None:
    one = await stage18.running(3)
    stage18.configure(sekorm={"rate_per_s": 1500})
    other = stage18.replica("other")
    await other.start()
    for replica, named in ((one, other), (other, one)):
        line = await replica.wait_for("run.configurations_differ", sections=["channels.sekorm"])
        assert f"/{named.pid}/" in line["replica"]
    told = (await stage18.status())["replicas"]
    assert (len(told["holders"]), told["differ_in"]) == (2, ["channels.sekorm"])
    assert (
        "replicas are configured differently in channels.sekorm" in (await stage18.stockrelay("status")).out
    )
    checked = (await stage18.stockrelay("check")).out
    assert "runs with another configuration: channels.sekorm" in checked
    # The first reads what the other has read at its start.
    await reloaded(one)
    for replica in (one, other):
        await replica.wait_for("run.configurations_agree")
    assert (await stage18.status())["replicas"]["differ_in"] == []
