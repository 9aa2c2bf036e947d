"""The dispatcher sends in the right order, within the rate, past the breaker, and only under leases that are ours."""

import asyncio
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from daemon import clock
from daemon.core.outcome import Kind, Outcome, Trouble
from daemon.core.types import Slot
from tests.unit.dispatch.stage import APPLIED, EVERY_SLOT, serving
from tests.unit.virtual_time import in_virtual_time, settle

REFUSED = Outcome(Kind.REFUSED, "no such part")
UNKNOWN = Outcome(Kind.UNKNOWN, "no answer")
THROTTLED = Outcome(Kind.TROUBLE, "slow down", Trouble.THROTTLED, advice="wait")
LONG = timedelta(seconds=1000)


@in_virtual_time
async def test_what_is_due_is_sent_and_its_outcome_is_written() -> None:
    async with serving() as stage:
        stage.client.answers, stage.client.takes_s = APPLIED, 0.25
        stage.ledger.add(0, 7, 15)
        await stage.wakes()
        await asyncio.sleep(1)
        assert stage.ledger.ends() == {"S1": "applied", "S2": "applied", "S3": "applied"}
        assert all(done.duration == timedelta(seconds=0.25) for done in stage.ledger.done)
        assert [outcome for outcome, _ in stage.observer.attempts] == ["applied"] * 3
        assert stage.observer.latencies == [0.5] * 3
        assert stage.dispatcher.counts["applied"] == 3


@in_virtual_time
async def test_a_stock_out_goes_ahead_of_all_that_waits_for_the_rate() -> None:
    async with serving(rate_per_s=1.0, max_claim_age=LONG) as stage:
        stage.client.answers = APPLIED
        stage.ledger.add(1, 2, 3)
        await stage.wakes()
        await stage.sends(1)
        stage.ledger.add(4, is_urgent=True)
        await stage.wakes(is_urgent=True)
        await stage.sends(4)
        assert stage.client.sent[1] == "S4"


@in_virtual_time
async def test_a_stock_out_is_claimed_beside_a_full_queue() -> None:
    async with serving(concurrency=1, rate_per_s=4.0) as stage:
        stage.ledger.add(*[1] * 10)
        await stage.wakes()
        before = len(stage.ledger.claims)
        stage.ledger.add(2, is_urgent=True)
        await stage.wakes(is_urgent=True)
        assert stage.ledger.claims[before].is_urgent_only
        (first,) = await stage.sends(1)
        assert first.skus == ["S11"]
        stage.client.answers = APPLIED
        first.answer(APPLIED)


@in_virtual_time
@pytest.mark.parametrize(("slots", "share"), [(16, 1.0), (4, 0.25), (1, 1 / 16)])
async def test_the_rate_is_kept_and_a_process_has_the_part_of_it_that_its_slots_are(
    slots: int, share: float
) -> None:
    async with serving(EVERY_SLOT[:slots], rate_per_s=32.0) as stage:
        stage.client.answers = APPLIED
        stage.ledger.add(*[0] * 500)
        began = clock.monotonic()
        await stage.wakes()
        await asyncio.sleep(10)
        most = 32 * share * 10
        assert most - 2 <= len(stage.client.requests) <= most + 1
        assert stage.client.requests[0].at - began >= 1 / (32 * share) - 0.01, "the bucket is empty at first"


@in_virtual_time
async def test_a_process_has_its_slots_part_of_the_requests_in_flight() -> None:
    async with serving(EVERY_SLOT[:4], concurrency=8) as stage:
        stage.ledger.add(*[0] * 40)
        await stage.wakes()
        await asyncio.sleep(1)
        assert len(stage.client.requests) == 2
        stage.gain(EVERY_SLOT[4:])
        await asyncio.sleep(1)
        assert len(stage.client.requests) == 8
        stage.dispatcher.release(EVERY_SLOT[4:])
        stage.client.requests[0].answer(APPLIED)
        await asyncio.sleep(1)
        assert len(stage.client.requests) == 8, "one too many ends when its call has"
        for request in stage.client.requests[1:]:
            request.answer(APPLIED)
        await asyncio.sleep(1)
        assert len(stage.client.requests) == 10
        stage.client.answers = APPLIED
        for request in stage.client.requests[8:]:
            request.answer(APPLIED)


@in_virtual_time
async def test_a_lost_slot_cuts_off_its_own_requests_and_no_other() -> None:
    async with serving(concurrency=3) as stage:
        stage.ledger.add(1, 2, 1, 1, 2)
        await stage.wakes()
        first, second, alike = await stage.sends(3)
        assert (first.skus, second.skus, alike.skus) == (["S1"], ["S2"], ["S3"])
        stage.dispatcher.lose([Slot(1)])
        await settle()
        assert (first.is_cut_off, second.is_cut_off, alike.is_cut_off) == (True, False, True)
        # What waited of the slot is dropped, and a worker is there for the next one.
        third = (await stage.sends(4))[3]
        assert third.skus == ["S5"]
        second.answer(APPLIED)
        third.answer(APPLIED)
        await asyncio.sleep(1)
        assert stage.ledger.ends() == {"S2": "applied", "S5": "applied"}
        assert (stage.has(1), stage.has(2)) == (False, True)


@in_virtual_time
async def test_a_shared_call_goes_on_for_the_slots_that_were_not_lost() -> None:
    async with serving(concurrency=1, batch=10, batch_above=1) as stage:
        stage.ledger.is_backlog = True
        stage.ledger.add(*[3] * 16)
        await stage.wakes()
        (first,) = await stage.sends(1)
        stage.ledger.add(1, 2)
        first.answer(APPLIED)
        stage.client.answers = None
        while len(stage.client.requests[-1].skus) == 1 or "S17" not in stage.client.sent:
            await asyncio.sleep(0.01)
            if not stage.client.requests[-1]._answer.done() and "S17" not in stage.client.requests[-1].skus:
                stage.client.requests[-1].answer(APPLIED)
        shared = stage.client.requests[-1]
        stage.dispatcher.lose([Slot(1)])
        await settle()
        assert not shared.is_cut_off
        shared.answer(APPLIED)
        await asyncio.sleep(1)
        assert stage.ledger.ends()["S18"] == "applied"
        assert "S17" not in stage.ledger.ends(), "its next owner finds its attempt open"


@in_virtual_time
async def test_nothing_is_sent_under_a_lease_that_is_not_trusted_any_more() -> None:
    async with serving(rate_per_s=1.0, max_claim_age=LONG) as stage:
        stage.ledger.add(1, 2)
        await stage.wakes()
        stage.leases[Slot(1)].trusted_until = 0.0
        (only,) = await stage.sends(1)
        assert only.skus == ["S2"]
        only.answer(APPLIED)
        await asyncio.sleep(2)
        assert stage.ledger.ends() == {"S1": "not_sent", "S2": "applied"}
        (line,) = [done.conclusion.reason for done in stage.ledger.done if done.sku == "S1"]
        assert line == "the lease is not trusted any more"


@in_virtual_time
async def test_what_was_claimed_too_long_ago_is_given_back() -> None:
    async with serving(rate_per_s=16.0, concurrency=1, max_claim_age=timedelta(seconds=3)) as stage:
        stage.ledger.add(1, 1)
        await stage.wakes()
        (first,) = await stage.sends(1)
        await asyncio.sleep(4)
        first.answer(APPLIED)
        await asyncio.sleep(1)
        assert stage.ledger.done[-1].conclusion.reason == "claimed too long ago"
        assert len(stage.client.requests) == 1
        assert stage.observer.attempts[-1] == ("not_sent", None)


@in_virtual_time
async def test_trouble_opens_the_breaker_and_one_probe_at_a_time_goes_out_until_it_closes() -> None:
    async with serving(concurrency=4) as stage:
        stage.client.answers = THROTTLED
        stage.ledger.add(*range(16), *range(16))
        with capture_logs() as lines:
            await stage.wakes()
            await asyncio.sleep(0.3)
            assert len(stage.client.requests) <= 4
            assert (stage.dispatcher.cause, stage.troubles[-1]) == (THROTTLED, THROTTLED)
            stage.client.answers = None
            sent = len(stage.client.requests)
            stage.ledger.add(*range(16))
            probe = (await stage.sends(sent + 1))[-1]
            await asyncio.sleep(3)
            assert len(stage.client.requests) == sent + 1, "one at a time"
            probe.answer(THROTTLED)
            await settle()
            probe = (await stage.sends(sent + 2))[-1]
            stage.client.answers = APPLIED
            probe.answer(APPLIED)
            await asyncio.sleep(2)
        assert (stage.dispatcher.cause, stage.troubles[-1]) == (None, None)
        opened = [line for line in lines if line["event"] == "dispatch.breaker_opened"]
        assert [line["log_level"] for line in opened] == ["error", "warning"]
        assert (opened[0]["trouble"], opened[0]["advice"]) == ("throttled", "wait")
        assert len([line for line in lines if line["event"] == "dispatch.breaker_closed"]) == 1
        given_back = [done for done in stage.ledger.done if done.conclusion.outcome == Kind.NOT_SENT]
        assert {done.conclusion.reason for done in given_back} == {"the circuit breaker is open"}


@in_virtual_time
async def test_a_probe_that_is_cut_off_with_its_slot_lets_the_next_one_out() -> None:
    async with serving(concurrency=1) as stage:
        stage.ledger.add(1)
        await stage.wakes()
        (first,) = await stage.sends(1)
        first.answer(THROTTLED)
        await asyncio.sleep(0.1)
        stage.ledger.add(1, 2)
        probe = (await stage.sends(2))[1]
        stage.dispatcher.lose([Slot(1)])
        after = (await stage.sends(3))[2]
        assert probe.is_cut_off
        assert after.skus == ["S3"]
        after.answer(APPLIED)


@in_virtual_time
async def test_a_client_that_raises_makes_the_outcome_unknown_and_the_channel_goes_on() -> None:
    async with serving(concurrency=1, batch=3, park_after=1) as stage:
        stage.ledger.add(1, 2, 3, is_sync=True)
        with capture_logs() as lines:
            await stage.wakes()
            (call,) = await stage.sends(1)
            assert call.skus == ["S1", "S2", "S3"]
            call.fail(OverflowError("date value out of range"))
            await asyncio.sleep(0.5)
        ends = [(done.conclusion.outcome, done.conclusion.is_parked) for done in stage.ledger.done]
        assert ends == [(Kind.UNKNOWN, False)] * 3, "what failed with others has not failed by itself"
        (line,) = [line for line in lines if line["event"] == "dispatch.client_failed"]
        assert (line["log_level"], line["exc_info"]) == ("error", True)
        stage.client.answers = APPLIED
        stage.ledger.add(4)
        await stage.wakes()
        await asyncio.sleep(1)
        assert stage.ledger.ends()["S4"] == "applied"


@in_virtual_time
async def test_every_kind_of_outcome_has_its_line() -> None:
    async with serving(concurrency=1) as stage:
        delist = stage.ledger.add(4)[0]
        stage.ledger.due[-1] = delist._replace(is_delisting=True)
        stage.ledger.add(1, 2, 3)
        outcomes = [REFUSED, UNKNOWN, REFUSED, Outcome(Kind.NOT_SENT, "no address", Trouble.UNREACHABLE)]
        with capture_logs() as lines:
            await stage.wakes()
            for number, outcome in enumerate(outcomes):
                (await stage.sends(number + 1))[number].answer(outcome)
            await asyncio.sleep(0.01)
        events = [line["event"] for line in lines if line.get("sku")]
        assert events == [
            "dispatch.delisting_refused",
            "dispatch.delivery_in_doubt",
            "dispatch.delivery_parked",
            "dispatch.delivery_not_sent",
        ]


@in_virtual_time
async def test_a_sku_that_fails_alone_while_others_pass_is_parked() -> None:
    async with serving(concurrency=1, park_after=3) as stage:
        stage.ledger.add(1)
        stage.ledger.add(2, failures=2)
        await stage.wakes()
        (await stage.sends(1))[0].answer(APPLIED)
        (await stage.sends(2))[1].answer(UNKNOWN)
        await asyncio.sleep(0.1)
        assert stage.ledger.done[-1].conclusion.is_parked
        assert stage.dispatcher.counts["parked"] == 1


@in_virtual_time
async def test_trouble_that_cannot_be_kept_is_kept_with_the_next_rescue() -> None:
    from daemon.core.errors import StoreUnavailable

    async with serving(concurrency=1) as stage:
        stage.keeping_fails = StoreUnavailable("away")
        stage.ledger.add(1)
        with capture_logs() as lines:
            await stage.wakes()
            (await stage.sends(1))[0].answer(THROTTLED)
            await asyncio.sleep(0.1)
        assert [line["event"] for line in lines if line["event"] == "dispatch.state_not_kept"]
        stage.keeping_fails = None
        stage.ledger.add(1)
        (await stage.sends(2))[1].answer(THROTTLED)
        await asyncio.sleep(5)
        assert THROTTLED in stage.troubles
        stage.client.answers = APPLIED


@in_virtual_time
async def test_refused_skus_are_no_trouble_of_a_channel_that_has_taken_others() -> None:
    no_part = Outcome(Kind.UNKNOWN, "-1 no such part", is_about_sku=True)
    for has_history in (True, False):
        async with serving() as stage:
            stage.ledger.has_history = has_history
            stage.client.answers = no_part
            # It is read together with the rescue of attempts in flight.
            stage.dispatcher.rescue_before_next_claim()
            for _ in range(5):
                stage.ledger.add(1, 2, 3)
                await stage.wakes()
                await asyncio.sleep(0.1)
            assert stage.dispatcher.trouble() == (None if has_history else "refuses_everything")
