"""The ops port of a real daemon: what it says while it starts, serves, loses its database and stops."""

import asyncio
import json
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

import daemon
from daemon.simulator import Delay
from tests.acceptance.harness import Stage
from tests.acceptance.proxy import Proxy
from tests.acceptance.replica import LOOK_S, Replica
from tests.ops.named import named
from tests.ops.scrape import Scrape, parse
from tests.ops.test_metrics import documented
from tests.ops.wire import Answer, asked


async def port_of(replica: Replica) -> int:
    line = await replica.wait_for("ops.port_opened")
    port = line["port"]
    assert isinstance(port, int)
    return port


async def until(port: int, path: str, is_so: Callable[[Answer], bool], timeout: float = 60.0) -> Answer:
    """Ask until the answer is as wanted, and return it."""
    deadline = time.monotonic() + timeout
    while True:
        answer = await asked(port, path)
        if is_so(answer):
            return answer
        assert time.monotonic() < deadline, f"{path} goes on to say {answer}"
        await asyncio.sleep(LOOK_S)


def reasons(answer: Answer) -> dict[str, Any]:
    found = answer.json.get("reasons", {})
    assert isinstance(found, dict)
    return found


def through(stage: Stage, proxy: Proxy) -> dict[str, str]:
    server = stage.database.server
    return {"dsn": stage.database.dsn.replace(f":{server.port}/", f":{proxy.port}/")}


async def test_it_is_alive_from_the_start_and_ready_once_the_database_is_there(stage18: Stage) -> None:
    await stage18.fill(5)
    await stage18.migrate()
    async with Proxy(stage18.database.server.port) as proxy:
        proxy.swallow()
        stage18.configure(database=through(stage18, proxy))
        replica = stage18.replica()
        await replica.start()
        port = await port_of(replica)
        await replica.wait_for("run.database_awaited")
        answer = await until(port, "/readyz", lambda answer: "not answered yet" not in str(reasons(answer)))
        assert answer.status == 503
        assert set(reasons(answer)) == {"database", "slots"}
        assert (await asked(port, "/livez")).json == {"status": "alive", "loops": ["event-loop"]}
        proxy.heal()
        assert (await until(port, "/readyz", lambda answer: answer.status == 200)).json == {"status": "ready"}
        await stage18.converged()
        for path in ("/livez", "/readyz"):
            assert (await asked(port, path, "HEAD")).status == 200


async def test_with_its_database_stopped_it_stays_alive_and_is_not_ready(stage18: Stage) -> None:
    replica = await stage18.running(5)
    port = await port_of(replica)
    await until(port, "/readyz", lambda answer: answer.status == 200)
    await asyncio.to_thread(stage18.database.server.kill)
    try:
        await is_alive_and_not_ready(port)
    finally:
        await asyncio.to_thread(stage18.database.server.start)
        await stage18.reconnect()
    await until(port, "/readyz", lambda answer: answer.status == 200)
    assert (await asked(port, "/livez")).status == 200


async def test_with_its_database_silent_it_stays_alive_and_is_not_ready(stage18: Stage) -> None:
    async with Proxy(stage18.database.server.port) as proxy:
        stage18.configure(database=through(stage18, proxy))
        replica = await stage18.running(5)
        port = await port_of(replica)
        await until(port, "/readyz", lambda answer: answer.status == 200)
        proxy.swallow()
        await is_alive_and_not_ready(port)
        proxy.heal()
        await until(port, "/readyz", lambda answer: answer.status == 200)


async def is_alive_and_not_ready(port: int) -> None:
    down = await until(port, "/readyz", lambda answer: "database" in reasons(answer))
    assert down.status == 503
    assert "answer" in reasons(down)["database"]
    assert (await asked(port, "/livez")).status == 200
    assert (
        "ops.status_unavailable"
        in (await until(port, "/status", lambda answer: answer.status == 503)).json["error"]
    )
    assert (await asked(port, "/livez")).status == 200


LOOPS = {
    "claim-sekorm",
    "claim-ymatou",
    "configurations",
    "doorbell",
    "event-loop",
    "guard-sekorm",
    "guard-ymatou",
    "heartbeat-sekorm",
    "heartbeat-ymatou",
    "intake-sekorm",
    "intake-ymatou",
    "maintenance",
    "notify",
    "pauses",
    "reconcile-sekorm",
    "reconcile-watch-sekorm",
    "reconcile-watch-ymatou",
    "reconcile-ymatou",
    "gauges",
    "slots",
}


@pytest.mark.settings(reconcile={"enabled": True, "cron": "0 0 29 2 *"})
async def test_every_loop_is_watched(stage18: Stage) -> None:
    replica = await stage18.running(1)
    port = await port_of(replica)
    await until(port, "/livez", lambda answer: set(answer.json["loops"]) >= LOOPS)


async def test_the_status_is_what_the_command_tells(stage18: Stage) -> None:
    replica = await stage18.running(5)
    port = await port_of(replica)
    answer = await until(port, "/status", lambda answer: answer.status == 200)
    assert answer.json.keys() == (await stage18.status()).keys()
    assert answer.json["channels"]["sekorm"]["skus"] == 5


async def test_while_it_stops_it_says_so_and_answers_to_the_end(stage18: Stage) -> None:
    replica = await stage18.running(5)
    port = await port_of(replica)
    await until(port, "/readyz", lambda answer: answer.status == 200)
    # What is in flight keeps it: the marketplace does not answer before its timeout.
    stage18.simulator.faults.add(Delay(seconds=60.0))
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = 7")
    await stage18.simulator.wait_until(lambda: stage18.simulator.stats.in_flight > 0, 30)
    stopping = asyncio.create_task(replica.stop(signal.SIGTERM))
    answer = await until(port, "/readyz", lambda answer: "stopping" in reasons(answer))
    assert answer.status == 503
    assert (await asked(port, "/livez")).status == 200
    assert await stopping == 0
    with pytest.raises(ConnectionRefusedError):
        await asked(port, "/livez")


async def test_a_port_that_is_taken_ends_the_second_daemon_with_what_to_do(stage18: Stage) -> None:
    replica = await stage18.running(1)
    port = await port_of(replica)
    stage18.configure(ops={"port": port})
    second = stage18.replica("second")
    await second.start()
    assert await second.wait() == 78
    assert f"ops.port = {port}: another process listens on 127.0.0.1:{port}" in second.errors()
    assert (await asked(port, "/livez")).status == 200


async def test_the_health_command_asks_the_daemon(stage18: Stage) -> None:
    replica = await stage18.running(1)
    port = str(await port_of(replica))
    done = await stage18.stockrelay("health", "--port", port)
    assert (done.code, done.out, done.err) == (0, "alive\n", "")
    done = await stage18.stockrelay("health", "--ready", "--json", "--port", port)
    assert (done.code, json.loads(done.out)) == (0, {"status": "ready"})
    assert await replica.stop() == 0
    done = await stage18.stockrelay("health", "--port", port)
    assert (done.code, done.out) == (1, "")
    assert f"no answer from 127.0.0.1:{port}" in done.err


async def scraped(port: int) -> Scrape:
    answer = await asked(port, "/metrics")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return parse(answer.body.decode())


async def until_measured(port: int, is_so: Callable[[Scrape], bool]) -> Scrape:
    """Scrape until the figures are as wanted, and return them."""
    await until(port, "/metrics", lambda answer: is_so(parse(answer.body.decode())))
    return await scraped(port)


@pytest.mark.settings(run={"heartbeat_s": 0.5})
async def test_the_metrics_move_with_what_happens(stage18: Stage) -> None:
    replica = await stage18.running(5)
    port = await port_of(replica)
    await until_measured(port, lambda scrape: scrape.value("stockrelay_skus", channel="ymatou") == 5)
    before = await until_measured(port, lambda scrape: scrape.value("stockrelay_notices_waiting") == 0)
    assert before.types.keys() == documented().keys(), "what is scraped is what is documented"
    assert named() <= before.types.keys(), "what alerts and dashboard ask for is there"
    for channel in ("sekorm", "ymatou"):
        assert before.value("stockrelay_slots_owned", channel=channel) == 16
        assert before.value("stockrelay_channel_paused", channel=channel) == 0
        assert before.value("stockrelay_channel_in_trouble", channel=channel) == 0
        assert before.value("stockrelay_listing_failing", channel=channel) == 0
    assert before.value("stockrelay_ready") == 1
    assert before.value("stockrelay_listener_up") == 1
    assert before.value("stockrelay_stalled_loops") == 0
    assert before.value("stockrelay_build_info", version=daemon.__version__) == 1
    assert abs(before.value("stockrelay_database_clock_offset_seconds") or 60) < 5
    assert (before.value("stockrelay_token_remaining_seconds", channel="sekorm") or 0) > 0
    assert before.value("stockrelay_marketplace_clock_offset_seconds", channel="ymatou") is not None

    await stage18.erp.execute("UPDATE erp.stock SET on_hand = on_hand + 1")
    await stage18.converged()
    after = await scraped(port)
    for name in ("stockrelay_intake_changes_total", "process_cpu_seconds_total"):
        assert (after.value(name) or 0) > (before.value(name) or 0), name
    for channel in ("sekorm", "ymatou"):
        attempts = "stockrelay_attempts_total"
        applied = after.value(attempts, channel=channel, outcome="applied") or 0
        assert applied >= (before.value(attempts, channel=channel, outcome="applied") or 0) + 5
        for name in ("stockrelay_attempt_duration_seconds", "stockrelay_delivery_latency_seconds"):
            assert (after.value(f"{name}_count", channel=channel) or 0) >= applied
            assert 0 < (after.value(f"{name}_sum", channel=channel) or 0) < 60 * applied
    done = await stage18.stockrelay("pause", "ymatou", "--reason", "stocktaking")
    assert done.code == 0, done
    await until_measured(
        port, lambda scrape: scrape.value("stockrelay_channel_paused", channel="ymatou") == 1
    )
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = on_hand + 1")
    late = await until_measured(
        port, lambda scrape: scrape.value("stockrelay_backlog_skus", channel="ymatou") == 5
    )
    assert (late.value("stockrelay_oldest_change_age_seconds", channel="ymatou") or 0) > 0
