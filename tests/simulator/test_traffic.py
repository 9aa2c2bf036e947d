"""Journal, statistics and what is in flight together."""

import asyncio
import socket
from functools import partial

import aiohttp
import pytest

from daemon import clock
from daemon.simulator import Delay, DelayAfter, HoldRequest, Simulator, SimulatorSettings
from tests.channels import SEKORM, YMATOU
from tests.simulator.clients import SekormClient, YmatouClient


async def test_journal_has_accepted_writes_in_order(
    simulator: Simulator, sekorm: SekormClient, ymatou: YmatouClient
) -> None:
    before = clock.now().timestamp()
    token = await sekorm.token()
    await sekorm.update(token, "A", "AMS", 1)
    await ymatou.update("A", 2)
    await ymatou.update_all([("B", 3), ("C", 4)])
    await ymatou.update("D", -1)
    entries = list(simulator.journal)
    assert [(e.n, e.shop, e.key, e.quantity, e.request) for e in entries] == [
        (1, SEKORM, ("A", "AMS"), 1, 2),
        (2, YMATOU, "A", 2, 3),
        (3, YMATOU, "B", 3, 4),
        (4, YMATOU, "C", 4, 4),
    ]
    times = [time for entry in entries for time in (entry.received_at, entry.applied_at)]
    assert before <= min(times)
    assert max(times) <= clock.now().timestamp()
    assert [entry.n for entry in simulator.journal.since(1, YMATOU, limit=2)] == [2, 3]
    assert [entry.quantity for entry in simulator.journal.of(YMATOU, "B")] == [3]


async def test_journal_is_bounded_and_counts_what_it_dropped(session: aiohttp.ClientSession) -> None:
    simulator = Simulator(SimulatorSettings(journal_limit=10))
    ymatou = YmatouClient(session, await simulator.start())
    try:
        await ymatou.update_all([(f"S{n}", n) for n in range(2_000)])
        journal = simulator.journal
        assert len(journal) <= 10 + 10 // 4 + 1_000
        assert len(journal) + journal.dropped == journal.last == 2_000
        assert [entry.n for entry in journal.since(1_998)] == [1_999, 2_000]
    finally:
        await simulator.stop()


async def test_drained_journal_goes_on_counting(simulator: Simulator, ymatou: YmatouClient) -> None:
    await ymatou.update("A", 1)
    assert [entry.n for entry in simulator.journal.drain()] == [1]
    await ymatou.update("A", 2)
    assert [entry.n for entry in simulator.journal.since(1)] == [2]


async def test_waiting_for_writes_and_numbers(simulator: Simulator, ymatou: YmatouClient) -> None:
    async def write() -> None:
        for number in range(5):
            await ymatou.update("A", number)

    task = asyncio.create_task(write())
    assert (await simulator.wait_for_journal(2)).n == 2
    assert (await simulator.wait_for_journal(lambda entry: entry.quantity == 3)).n == 4
    await simulator.wait_for_state(YMATOU, {"A": 4})
    await task
    with pytest.raises(TimeoutError):
        await simulator.wait_for_journal(6, timeout=0.01)


async def test_waiting_raises_an_error_of_the_condition(simulator: Simulator, ymatou: YmatouClient) -> None:
    def fail_later() -> bool:
        if len(simulator.journal):
            raise LookupError("from the test")
        return False

    task = asyncio.create_task(simulator.wait_until(fail_later))
    await asyncio.sleep(0)
    await ymatou.update("A", 1)
    with pytest.raises(LookupError, match="from the test"):
        await task


async def test_requests_are_counted_by_marketplace_endpoint_and_answer(
    simulator: Simulator, sekorm: SekormClient, ymatou: YmatouClient
) -> None:
    token = await sekorm.token()
    await sekorm.update(token)
    await sekorm.update("wrong")
    await ymatou.update()
    await ymatou.update(auth_code="wrong")
    stats = simulator.stats
    assert stats.count() == 5
    assert stats.count(SEKORM, "stock/updQuantity", "0") == 1
    assert stats.count(SEKORM, answer="-1 no permission") == 1
    assert stats.count(YMATOU, "ymatou.skus.stock.update") == 2
    assert stats.count(YMATOU, answer="0002") == 1
    assert (stats.accepted[SEKORM], stats.accepted[YMATOU], stats.token_calls) == (1, 1, 1)
    assert stats.peak_per_s[SEKORM] == 3
    assert stats.in_flight == 0


async def test_two_requests_for_one_product_overlap(simulator: Simulator, ymatou: YmatouClient) -> None:
    rule = simulator.faults.add(HoldRequest(times=1))
    first = asyncio.create_task(ymatou.update("A", 1))
    await simulator.wait_until(lambda: rule.held == 1)
    await ymatou.update("B", 1)
    assert simulator.stats.overlaps == []
    await ymatou.update("A", 2)
    rule.release()
    await first
    (overlap,) = simulator.stats.overlaps
    assert (overlap.shop, overlap.key, overlap.first, overlap.second) == (YMATOU, "A", 1, 3)
    assert simulator.stats.overlap_count == 1
    assert simulator.stats.max_in_flight == simulator.stats.max_in_flight_per_key == 2


async def test_overlap_shows_though_every_answer_is_instant(
    simulator: Simulator, ymatou: YmatouClient
) -> None:
    # Open both connections first, so that both requests come at once.
    simulator.faults.add(DelayAfter(seconds=0.05, times=2))
    await asyncio.gather(ymatou.update("X"), ymatou.update("Y"))
    for _ in range(20):
        await asyncio.gather(ymatou.update("A", 1), ymatou.update("A", 2))
    assert simulator.stats.overlap_count > 0
    assert simulator.stats.max_in_flight == 2


async def test_requests_one_after_the_other_do_not_overlap(
    simulator: Simulator, ymatou: YmatouClient, sekorm: SekormClient
) -> None:
    token = await sekorm.token()
    simulator.faults.add(Delay(seconds=0.001, probability=0.5, seed=1))

    async def write(sku: str) -> None:
        for number in range(100):
            await ymatou.update(sku, number)
            await sekorm.update(token, sku, quantity=number)

    await asyncio.gather(*(write(f"S{n}") for n in range(8)))
    assert simulator.stats.overlaps == []
    assert simulator.stats.max_in_flight_per_key == 1
    assert 2 <= simulator.stats.max_in_flight <= 8
    assert max(simulator.stats.max_in_flight_by_shop.values()) <= 8


async def test_request_of_a_client_that_gave_up_is_no_longer_in_flight(
    simulator: Simulator, ymatou: YmatouClient
) -> None:
    rule = simulator.faults.add(HoldRequest(times=20))

    def has_met(wanted: int) -> bool:
        return rule.triggered == wanted

    for number in range(20):
        request = asyncio.create_task(ymatou.update("A", number))
        await simulator.wait_until(partial(has_met, number + 1))
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        # Asked again at once: whether the close or the new request is read first must not matter.
    assert (await ymatou.update("A", 99)).json["code"] == "0000"
    assert simulator.stats.overlaps == []
    rule.release()
    await simulator.wait_for_journal(2)


@pytest.mark.parametrize("is_closed", [False, True])
@pytest.mark.parametrize("is_answered", [False, True])
async def test_close_that_was_not_read_yet_counts_as_gone(
    simulator: Simulator, ymatou: YmatouClient, *, is_answered: bool, is_closed: bool
) -> None:
    # The server has read the second request, but not yet that the first one's client closed before it.
    rule = simulator.faults.add(HoldRequest(key="B"))
    if not is_answered:
        simulator.faults.add(HoldRequest(key="A"))
    later = asyncio.create_task(ymatou.update("B"))
    await simulator.wait_until(lambda: rule.held == 1)
    (second,) = simulator._traffic._exchanges.values()
    address = simulator.url.removeprefix("http://").split(":")
    with socket.create_connection((address[0], int(address[1]))) as client:
        client.sendall(ymatou.raw_update("A", 1))
        await simulator.wait_until(
            lambda: sum(rule.triggered for rule in simulator.faults) == 1 + (not is_answered)
        )
        if is_answered:
            await simulator.wait_until(lambda: simulator.stats.count() == 1)
        if is_closed:
            client.close()
        simulator._traffic.keyed(second, ["A"])
        assert simulator.stats.overlap_count == (0 if is_closed else 1)
    simulator.faults.clear()
    await later
