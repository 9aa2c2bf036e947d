"""What is claimed when, from which slots, and what a failure or a lost answer leads to."""

import asyncio
from datetime import timedelta
from itertools import pairwise

import pytest
from structlog.testing import capture_logs

from daemon import clock
from daemon.core.errors import BadRow, StockrelayError, StoreRefused, StoreUnavailable, TableLocked
from daemon.core.outcome import Trouble
from daemon.core.types import Sku, Slot
from daemon.store.ledger import Claim
from tests.unit.dispatch.stage import APPLIED, EVERY_SLOT, serving
from tests.unit.virtual_time import in_virtual_time, settle


@in_virtual_time
async def test_a_slot_that_was_gained_is_rescued_before_anything_is_claimed_from_it() -> None:
    async with serving(EVERY_SLOT[:1]) as stage:
        assert stage.ledger.calls[:2] == ["rescue", "claim"]
        stage.ledger.add(0)
        await stage.wakes()
        await stage.sends(1)
        del stage.ledger.calls[:]
        stage.gain([Slot(5)], epoch=3)
        await settle()
        assert stage.ledger.calls[0] == "rescue"
        owner, in_flight = stage.ledger.rescued[-1]
        assert (owner.holder, owner.epochs, in_flight) == ("me", {5: 3}, [])
        stage.dispatcher.rescue_before_next_claim()
        await asyncio.sleep(2)
        owner, in_flight = stage.ledger.rescued[-1]
        assert (set(owner.epochs), in_flight) == ({0, 5}, [1]), "what is in flight is not lost"
        stage.client.requests[0].answer(APPLIED)


@in_virtual_time
async def test_a_claim_asks_for_all_the_slots_that_are_ours_at_once() -> None:
    async with serving(EVERY_SLOT[4:8]) as stage:
        assert stage.ledger.claims[0].slots == [4, 5, 6, 7]
        stage.dispatcher.lose([Slot(5)])
        stage.dispatcher.release([Slot(6)])
        await stage.wakes()
        await asyncio.sleep(2)
        assert stage.ledger.claims[-1].slots == [4, 7]


@in_virtual_time
async def test_without_a_slot_nothing_is_claimed() -> None:
    async with serving([]) as stage:
        await stage.wakes(is_urgent=True)
        await asyncio.sleep(5)
        assert stage.ledger.claims == []
        stage.dispatcher.release([Slot(3)])
        stage.dispatcher.lose([Slot(3)])


@in_virtual_time
async def test_a_claim_whose_commit_is_in_doubt_sends_nothing_and_is_rescued() -> None:
    async with serving() as stage:
        rescued = len(stage.ledger.rescued)
        stage.ledger.add(1)
        stage.ledger.errors.append(StoreUnavailable("the connection was closed"))
        with capture_logs() as lines:
            await stage.wakes()
        assert stage.client.requests == []
        assert [line["event"] for line in lines] == ["dispatch.claim_delayed"]
        stage.client.answers = APPLIED
        await asyncio.sleep(5)
        assert len(stage.ledger.rescued) == rescued + 1
        assert stage.ledger.ends() == {"S1": "applied"}


@in_virtual_time
async def test_a_listing_that_fails_is_the_channels_trouble_until_a_claim_works() -> None:
    async with serving() as stage:
        stage.ledger.errors += [StoreRefused("column missing")] * 3
        with capture_logs() as lines:
            await stage.wakes()
        assert {line["event"] for line in lines} >= {"dispatch.claim_failed"}
        cause = stage.dispatcher.cause
        assert cause is not None
        assert cause.trouble is Trouble.LISTING
        await asyncio.sleep(60)
        assert [kept is None for kept in stage.troubles][-2:] == [False, True]
        assert stage.dispatcher.cause is None


@in_virtual_time
async def test_a_locked_table_is_waited_for_and_said_once() -> None:
    async with serving() as stage:
        rescued = len(stage.ledger.rescued)
        stage.ledger.errors += [TableLocked("erp.stock is locked")] * 5
        with capture_logs() as lines:
            await stage.wakes()
            await asyncio.sleep(2)
        assert [line["event"] for line in lines].count("dispatch.claim_delayed") == 1
        assert len(stage.ledger.rescued) == rescued, "nothing was committed"


@in_virtual_time
async def test_attempts_of_a_slot_that_is_lost_during_the_claim_are_left_to_its_next_owner() -> None:
    async with serving() as stage:
        stage.ledger.gate = asyncio.Event()
        stage.ledger.add(1, 2, 3)
        await stage.wakes()
        stage.dispatcher.lose([Slot(1), Slot(2)])
        stage.gain([Slot(2)], epoch=9)
        stage.ledger.gate.set()
        (only,) = await stage.sends(1)
        assert only.skus == ["S3"]
        only.answer(APPLIED)
        await asyncio.sleep(1)
        assert stage.ledger.ends() == {"S3": "applied"}
        stage.ledger.gate = None


@in_virtual_time
async def test_a_released_slot_ends_what_is_in_flight_and_gives_back_what_waits() -> None:
    async with serving(concurrency=1) as stage:
        stage.ledger.add(1, 1, 2)
        await stage.wakes()
        (first,) = await stage.sends(1)
        changes = stage.changes
        stage.dispatcher.release([Slot(1), Slot(3)])
        await settle()
        assert (stage.has(1), stage.has(3)) == (True, False)
        assert stage.ledger.ends() == {"S2": "not_sent"}
        first.answer(APPLIED)
        (await stage.sends(2))[1].answer(APPLIED)
        await asyncio.sleep(1)
        assert stage.ledger.ends() == {"S1": "applied", "S2": "not_sent", "S3": "applied"}
        assert not stage.has(1)
        assert stage.changes == changes + 2
        await stage.wakes()
        assert not {1, 3} & set(stage.ledger.claims[-1].slots)


@in_virtual_time
async def test_a_slot_that_is_released_during_a_claim_is_ours_until_the_claim_has_ended() -> None:
    async with serving() as stage:
        stage.ledger.gate = asyncio.Event()
        stage.ledger.add(1)
        stage.ledger.add(1, is_sync=True)
        await stage.wakes()
        stage.dispatcher.release([Slot(1)])
        await settle()
        assert stage.has(1), "an attempt may be opened just now"
        stage.ledger.gate.set()
        await asyncio.sleep(1)
        assert stage.ledger.ends() == {"S1": "not_sent", "S2": "not_sent"}
        assert not stage.has(1)
        assert stage.client.requests == []


@in_virtual_time
async def test_stopping_gives_back_what_waits_and_ends_what_is_in_flight() -> None:
    async with serving(concurrency=1) as stage:
        stage.ledger.add(1, 2)
        stage.ledger.add(3, is_sync=True)
        await stage.wakes()
        (first, _sync) = await stage.sends(2)
        stage.stop.set()
        await settle()
        assert stage.ledger.ends() == {"S2": "not_sent"}
        assert not stage.dispatcher.is_serving
        assert (stage.has(1), stage.has(2)) == (True, False)
        first.answer(APPLIED)
        stage.client.requests[1].answer(APPLIED)
        await settle()
        assert stage.ledger.ends() == {"S1": "applied", "S2": "not_sent", "S3": "applied"}
        assert not stage.has(1)


@in_virtual_time
async def test_what_does_not_end_within_the_grace_is_cut_off() -> None:
    with capture_logs() as lines:
        async with serving(grace=timedelta(seconds=3)) as stage:
            stage.ledger.add(1)
            await stage.wakes()
            (request,) = await stage.sends(1)
            began = clock.monotonic()
    assert clock.monotonic() - began == pytest.approx(3, abs=0.1)
    assert request.is_cut_off
    assert stage.ledger.done == []
    (line,) = [line for line in lines if line["event"] == "dispatch.grace_exceeded"]
    assert line["in_flight"] == 1


@in_virtual_time
async def test_a_dispatcher_that_fails_forgets_its_slots_and_can_begin_again() -> None:
    async with serving() as stage:
        stage.stop.set()
    stage.stop.clear()
    stage.ledger.errors.append(KeyError("a bug"))  # type: ignore[arg-type]
    running = asyncio.create_task(stage.dispatcher.run(stage.stop))
    await settle()
    stage.gain(EVERY_SLOT)
    with pytest.raises(ExceptionGroup):
        await running
    assert not stage.has(1)
    stage.gain(EVERY_SLOT)
    assert not stage.has(1), "nobody serves it"
    running = asyncio.create_task(stage.dispatcher.run(stage.stop))
    await settle()
    stage.gain(EVERY_SLOT)
    stage.client.answers = APPLIED
    stage.ledger.add(1)
    await stage.wakes()
    await asyncio.sleep(1)
    assert stage.ledger.ends() == {"S1": "applied"}
    stage.stop.set()
    await running


@in_virtual_time
async def test_notifications_without_due_rows_are_followed_at_the_pace_of_polling() -> None:
    async with serving() as stage:
        before = len(stage.ledger.claims)
        for _ in range(3_000):
            stage.dispatcher.throttle.request()
            await asyncio.sleep(0.001)
        assert 2 <= len(stage.ledger.claims) - before <= 25


@pytest.mark.parametrize(("is_urgent", "is_sync"), [(False, False), (True, False), (False, True)])
@in_virtual_time
async def test_rows_that_another_session_has_locked_are_not_claimed_again_and_again(
    is_urgent: bool, is_sync: bool
) -> None:
    async with serving() as stage:
        stage.client.answers, stage.client.takes_s = APPLIED, 0.01
        stage.ledger.is_locked = True
        stage.ledger.add(*EVERY_SLOT * 20, is_urgent=is_urgent, is_sync=is_sync)
        await stage.wakes()
        before = len(stage.ledger.claims)
        await asyncio.sleep(3)
        assert 3 <= len(stage.ledger.claims) - before <= 70
        stage.ledger.is_locked = False
        await asyncio.sleep(60)
        assert not stage.ledger.due
        assert not stage.ledger.sync


@in_virtual_time
async def test_what_a_claim_decides_beside_sending_is_counted_and_said() -> None:
    async with serving() as stage:
        claim = Claim(captured=9, parked={Sku("A"): "no number"}, forgotten=[Sku("B")], settled=[Sku("C")])
        stage.ledger.extra.append(claim)
        with capture_logs() as lines:
            await stage.wakes()
        said = {(line["event"], line["sku"]) for line in lines}
        assert said == {("dispatch.delivery_parked", "A"), ("dispatch.sku_forgotten", "B")}
        assert (stage.dispatcher.counts["parked"], stage.dispatcher.counts["settled"]) == (1, 1)
        # Many share a line.
        claim = Claim(captured=9, parked={Sku(f"D{number}"): "no number" for number in range(9)})
        stage.ledger.extra.append(claim)
        with capture_logs() as lines:
            await stage.wakes()
        assert [line["skus"] for line in lines if line["event"] == "dispatch.deliveries_parked"] == [9]


@in_virtual_time
async def test_wrong_numbers_that_stay_deferred_have_the_listing_compared_once_in_a_while() -> None:
    async with serving() as stage:
        asked: list[str] = []
        stage.dispatcher.deferrals.read_changes = lambda: asked.append("read")
        stage.dispatcher.deferrals.compare_all = lambda: asked.append("compare")
        for wait_s in (0, 1, 1, 40):
            await asyncio.sleep(wait_s)
            stage.ledger.extra.append(Claim(captured=1, deferred=[Sku("A")]))
            await stage.wakes()
        assert asked == ["read", "compare", "compare"]


@in_virtual_time
async def test_skus_share_calls_while_the_backlog_is_above_the_threshold() -> None:
    async with serving(batch=20, batch_above=100, rate_per_s=160.0, concurrency=2) as stage:
        stage.client.answers, stage.client.takes_s = APPLIED, 0.05
        stage.ledger.add(*EVERY_SLOT * 40)
        stage.ledger.is_backlog = True
        with capture_logs() as lines:
            await stage.wakes()
            await asyncio.sleep(20)
        assert len(stage.ledger.done) == 640
        sizes = [len(request.skus) for request in stage.client.requests]
        assert max(sizes) == 20
        assert len(sizes) < 120
        events = [line["event"] for line in lines if line["event"].startswith("dispatch.batches")]
        assert events == ["dispatch.batches_begun", "dispatch.batches_ended"]
        stage.ledger.is_backlog = False
        stage.ledger.add(1, 2)
        await stage.wakes()
        await asyncio.sleep(1)
        assert [len(request.skus) for request in stage.client.requests[-2:]] == [1, 1]


@in_virtual_time
async def test_those_that_failed_and_those_of_one_name_do_not_share_a_call() -> None:
    async with serving(batch=10) as stage:
        first, *_ = stage.ledger.add(1, 2, is_sync=True)
        stage.ledger.add(3, failures=2, is_sync=True)
        second = stage.ledger.sync[1]
        alike = second._replace(push=second.push._replace(identifiers=first.push.identifiers))
        stage.ledger.sync[1] = alike
        stage.client.answers = APPLIED
        await stage.wakes()
        await asyncio.sleep(1)
        assert [request.skus for request in stage.client.requests] == [["S1"], ["S2"], ["S3"]]


@in_virtual_time
async def test_a_syncs_calls_go_one_after_another_beside_the_changes_and_its_end_is_said() -> None:
    async with serving(batch=5, rate_per_s=32.0, concurrency=2) as stage:
        stage.client.answers, stage.client.takes_s = APPLIED, 0.2
        stage.ledger.add(*EVERY_SLOT * 2, is_sync=True)
        stage.ledger.sync_number = 7
        with capture_logs() as lines:
            await stage.wakes()
            for _ in range(30):
                stage.ledger.add(*EVERY_SLOT)
                await asyncio.sleep(0.25)
            await asyncio.sleep(60)
        calls = [request for request in stage.client.requests if len(request.skus) > 1]
        assert [len(call.skus) for call in calls] == [5, 5, 5, 5, 5, 5, 2]
        assert all(later.at - earlier.at >= 0.2 for earlier, later in pairwise(calls))
        assert len(stage.ledger.done) == 32 + 480, "changes had the rest"
        (line,) = [line for line in lines if line["event"] == "dispatch.sync_ended"]
        assert line["sync"] == 7


@in_virtual_time
async def test_a_syncs_call_of_a_lost_slot_is_cut_off_and_the_rest_goes_on() -> None:
    async with serving(batch=2) as stage:
        stage.ledger.add(1, 1, is_sync=True)
        await stage.wakes()
        (call,) = await stage.sends(1)
        stage.dispatcher.lose([Slot(1)])
        stage.ledger.add(2, 3, is_sync=True)
        await asyncio.sleep(2)
        assert call.is_cut_off
        assert stage.client.requests[1].skus == ["S3", "S4"]
        stage.client.requests[1].answer(APPLIED)


@in_virtual_time
async def test_new_limits_hold_from_the_next_request_on() -> None:
    async with serving(rate_per_s=1.0, max_claim_age=timedelta(seconds=1000)) as stage:
        stage.client.answers = APPLIED
        stage.ledger.add(*EVERY_SLOT * 10)
        await stage.wakes()
        await asyncio.sleep(5)
        assert 4 <= len(stage.client.requests) <= 5
        from dataclasses import replace

        stage.dispatcher.use(replace(stage.dispatcher._channel.limits, rate_per_s=100.0))
        await asyncio.sleep(3)
        assert len(stage.ledger.done) == 160


@in_virtual_time
@pytest.mark.parametrize("error", [StoreUnavailable("away"), StockrelayError("anything")])
async def test_outcomes_that_cannot_be_written_are_kept_and_written_later(error: StockrelayError) -> None:
    async with serving() as stage:

        def refuse(_: object) -> None:
            raise error

        stage.ledger.write_errors += [refuse] * 3
        stage.client.answers = APPLIED
        stage.ledger.add(1, 2)
        with capture_logs() as lines:
            await stage.wakes()
            await asyncio.sleep(20)
        assert stage.ledger.ends() == {"S1": "applied", "S2": "applied"}
        assert [line["event"] for line in lines].count("dispatch.outcomes_delayed") == 3


@in_virtual_time
async def test_an_outcome_that_the_database_refuses_is_written_alone_without_its_words() -> None:
    async with serving() as stage:

        def refuse(done: object) -> None:
            assert isinstance(done, list)
            stage.ledger.write_errors.insert(0, refuse)
            if any(one.sku == "S2" and one.conclusion.reason for one in done):
                raise BadRow("invalid byte sequence")

        stage.ledger.write_errors.append(refuse)
        from daemon.core.outcome import Kind, Outcome

        stage.client.answers = Outcome(Kind.REFUSED, "words")
        stage.ledger.add(1, 2, 3, 4)
        await stage.wakes()
        await asyncio.sleep(5)
        assert {done.sku: done.conclusion.reason for done in stage.ledger.done} == {
            "S1": "words", "S2": "", "S3": "words", "S4": "words",
        }  # fmt: skip


@in_virtual_time
async def test_an_outcome_that_can_never_be_written_leaves_its_attempt_to_a_rescue() -> None:
    async with serving() as stage:
        rescued = len(stage.ledger.rescued)

        def refuse(_: object) -> None:
            stage.ledger.write_errors.insert(0, refuse)
            raise BadRow("invalid byte sequence")

        stage.ledger.write_errors.append(refuse)
        stage.client.answers = APPLIED
        stage.ledger.add(1)
        with capture_logs() as lines:
            await stage.wakes()
            await asyncio.sleep(1)
        assert [line["sku"] for line in lines if line["event"] == "dispatch.outcome_lost"] == ["S1"]
        assert len(stage.ledger.rescued) == rescued + 1
        assert stage.ledger.rescued[-1][1] == []
        stage.ledger.write_errors.clear()


@in_virtual_time
async def test_many_outcomes_are_written_in_few_statements() -> None:
    async with serving(concurrency=64) as stage:
        stage.client.answers, stage.ledger.writing_takes_s = APPLIED, 0.01
        stage.ledger.add(*EVERY_SLOT * 10)
        await stage.wakes()
        await asyncio.sleep(10)
        assert len(stage.ledger.done) == 160
        assert len(stage.ledger.writings) < 20
