"""One behaviour for every marketplace, against the simulator: every fault comes to its exact class."""

import asyncio
import json
import tracemalloc
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from daemon import clock
from daemon.core.outcome import Kind, Outcome, Trouble
from daemon.core.types import Push, Sku
from tests.marketplaces.cases import key_of
from tests.marketplaces.conftest import LONG, Line

SHORT = timedelta(seconds=0.4)


async def test_a_push_is_applied_and_the_marketplace_holds_the_number(line: Line) -> None:
    assert await line.client.push(line.push(7), LONG) == Outcome(Kind.APPLIED)
    assert line.held() == 7


async def test_zero_is_a_number_like_any_other(line: Line) -> None:
    await line.client.push(line.push(7), LONG)
    assert (await line.client.push(line.push(0), LONG)).kind is Kind.APPLIED
    assert line.held() == 0


async def test_the_largest_number_is_taken(line: Line) -> None:
    assert (await line.client.push(line.push(2**31 - 1), LONG)).kind is Kind.APPLIED
    assert line.held() == 2**31 - 1


@pytest.mark.parametrize(
    "name", ["A+B/C=D&E", "ünïcode ✓ 零件", 'quote " and \\ backslash', "100% sure?", "a b", "emoji 🔋"]
)
async def test_identifiers_arrive_as_they_are(line: Line, name: str) -> None:
    identifiers = (name,) * len(line.identifiers())
    outcome = await line.client.push(Push(Sku("x"), identifiers, 3), LONG)
    assert outcome.kind is Kind.APPLIED
    assert line.simulator.state.quantity(line.name, key_of(identifiers)) == 3


SHAPES = [
    "html", "empty", "truncated", "cut_off", "wrong_types", "other_code_type", "array", "deep", "not_utf8",
    "huge_headers", "duplicate_keys", "byte_order_mark", "not_a_number", "trailing",
]  # fmt: skip
UNKNOWN_FAULTS: list[tuple[str, dict[str, Any], bool]] = [
    ("reset_before", {}, False),
    ("reset_after", {}, True),
    *[("garbage", {"shape": shape}, True) for shape in SHAPES],
    ("oversized", {"megabytes": 4}, True),
    ("bomb", {"megabytes": 64}, True),
    *[("redirect", {"status": s, "location": "/elsewhere"}, False) for s in (301, 302, 303, 307, 308)],
    *[("status", {"status": s, "body": "no"}, False) for s in (201, 204, 400, 401, 403, 404, 500, 502)],
    ("status", {"status": 503}, False),
    ("status", {"status": 503, "headers": {"Retry-After": "soon"}}, False),
    ("status", {"status": 500, "headers": {"Retry-After": "5"}, "apply": True}, True),
    ("message", {"message": "never seen before"}, False),
    ("message", {"message": "half of it was stored", "apply": True}, True),
    ("message", {"code": 7, "message": "ok"}, False),
    ("message", {"code": "9999", "message": "ok"}, False),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "values", "is_applied"), UNKNOWN_FAULTS)
async def test_a_request_whose_fate_is_open_is_unknown(
    line: Line, kind: str, values: dict[str, Any], is_applied: bool
) -> None:
    line.fault(kind, times=1, **values)
    outcome = await line.client.push(line.push(7), LONG)
    assert outcome.kind is line.case.fate(kind, values)
    if outcome.kind is Kind.UNKNOWN:
        assert (outcome.trouble, outcome.retry_after) == (None, None)
        assert outcome.reason
    assert line.held() == (7 if is_applied else None)
    assert (await line.client.push(line.push(8), LONG)).kind is Kind.APPLIED
    await line.simulator.wait_until(lambda: line.calls() >= 2)
    assert line.calls() == 2, "a request whose fate is open is not sent again behind the ledger's back"


@pytest.mark.parametrize(
    ("kind", "values", "is_applied"),
    [
        ("delay", {"seconds": 60}, False),
        ("delay_after", {"seconds": 60}, True),
        ("hold", {}, False),
        ("drip", {"interval_s": 0.05}, True),
    ],
)
async def test_no_complete_reply_within_the_deadline_is_unknown(
    line: Line, kind: str, values: dict[str, Any], is_applied: bool
) -> None:
    line.fault(kind, times=1, **values)
    began_at = clock.monotonic()
    outcome = await line.client.push(line.push(7), SHORT)
    assert clock.monotonic() - began_at < 2 * SHORT.total_seconds()
    assert outcome.kind is Kind.UNKNOWN
    assert "in time" in outcome.reason
    assert line.held() == (7 if is_applied else None)
    assert (await line.client.push(line.push(8), LONG)).kind is Kind.APPLIED


async def test_a_held_request_is_applied_after_it_was_given_up(line: Line) -> None:
    held = line.fault("hold", times=1)
    assert (await line.client.push(line.push(7), SHORT)).kind is Kind.UNKNOWN
    assert (await line.client.push(line.push(8), LONG)).kind is Kind.APPLIED
    line.simulator.faults.release(held)
    entry = await line.simulator.wait_for_journal(2)
    assert entry.quantity == 7, "the older number landed last: this is what doubt is for"


async def test_a_redirect_to_another_host_sends_nothing_there(line: Line) -> None:
    arrived = 0

    async def count(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal arrived
        arrived += 1
        writer.close()

    other = await asyncio.start_server(count, "127.0.0.1", 0)
    async with other:
        port = other.sockets[0].getsockname()[1]
        for status in (301, 302, 303, 307, 308):
            line.fault("redirect", times=1, status=status, location=f"http://127.0.0.1:{port}/serviceGate/x")
            outcome = await line.client.push(line.push(7), LONG)
            assert outcome.kind is Kind.UNKNOWN
            assert "base_url" in outcome.advice
    assert arrived == 0
    assert line.held() is None


@pytest.mark.parametrize(
    ("retry_after", "expected_s"),
    [(7, 7), (0, 0), (86_400, 300), ("9" * 50, 300), (None, None), ("-1", None)],
)
async def test_429_is_throttling_and_its_wait_is_honoured_up_to_a_cap(
    line: Line, retry_after: int | str | None, expected_s: float | None
) -> None:
    line.fault("throttle", times=1, status=429, retry_after=retry_after)
    outcome = await line.client.push(line.push(7), LONG)
    assert (outcome.kind, outcome.trouble) == (Kind.TROUBLE, Trouble.THROTTLED)
    assert outcome.retry_after == (None if expected_s is None else timedelta(seconds=expected_s))
    assert "rate_per_s" in outcome.advice
    assert line.held() is None


async def test_retry_after_as_a_date_counts_from_the_marketplaces_clock(line: Line) -> None:
    line.simulator.configure(line.simulator.settings.model_copy(update={"clock_offset_s": 7_200}))
    at = datetime.now(UTC) + timedelta(seconds=7_200 + 100)
    line.fault("throttle", times=1, status=429, retry_after=format_datetime(at, usegmt=True))
    outcome = await line.client.push(line.push(7), LONG)
    assert outcome.retry_after is not None
    assert 97 <= outcome.retry_after.total_seconds() <= 101


async def test_503_with_retry_after_follows_each_marketplaces_table(line: Line) -> None:
    line.fault("throttle", times=1, status=503, retry_after=30)
    outcome = await line.client.push(line.push(7), LONG)
    assert outcome.kind is line.case.busy
    assert outcome.retry_after == timedelta(seconds=30)


async def test_a_decompression_bomb_costs_no_memory(line: Line) -> None:
    line.fault("bomb", times=1, megabytes=64)
    await line.client.push(line.push(7), LONG)  # lets the simulator build its bomb
    line.fault("bomb", times=1, megabytes=64)
    tracemalloc.start()
    try:
        outcome = await line.client.push(line.push(7), LONG)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert outcome.kind is Kind.UNKNOWN
    assert peak < 8 * 1024 * 1024


async def test_no_time_left_means_not_sent(line: Line) -> None:
    for timeout in (timedelta(0), timedelta(seconds=-1)):
        outcome = await line.client.push(line.push(7), timeout)
        assert outcome.kind is Kind.NOT_SENT
    assert line.calls() == 0


async def test_a_cancelled_push_passes_the_cancellation_on_and_harms_no_other(line: Line) -> None:
    line.fault("hold", times=1)
    task = asyncio.create_task(line.client.push(line.push(7), LONG))
    await line.simulator.wait_until(lambda: any(rule.held for rule in line.simulator.faults))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await line.client.push(line.push(8, number=2), LONG)).kind is Kind.APPLIED


async def test_many_pushes_at_once_keep_to_the_connection_limit(line: Line) -> None:
    pushes = [line.client.push(line.push(n, number=n), LONG) for n in range(1, 101)]
    assert {outcome.kind for outcome in await asyncio.gather(*pushes)} == {Kind.APPLIED}
    assert line.simulator.stats.max_in_flight <= 9
    assert line.held(100) == 100


async def test_a_push_that_waits_in_vain_for_a_connection_was_not_sent(line: Line) -> None:
    line.fault("hold")
    # More than there are connections, and none of them is free before they are released.
    early = [asyncio.create_task(line.client.push(line.push(n, number=n), LONG)) for n in range(1, 13)]
    await line.simulator.wait_until(lambda: any(rule.held for rule in line.simulator.faults))
    late = await asyncio.gather(*(line.client.push(line.push(n, number=n), SHORT) for n in range(13, 17)))
    assert {outcome.kind for outcome in late} == {Kind.NOT_SENT}
    assert sum(rule.triggered for rule in line.simulator.faults) < len(early)
    line.simulator.faults.clear()
    assert {outcome.kind for outcome in await asyncio.gather(*early)} == {Kind.APPLIED}


async def test_a_marketplace_that_is_down_and_comes_back_is_served_again(line: Line) -> None:
    line.simulator.set_down(line.name)
    assert (await line.client.push(line.push(7), LONG)).kind is Kind.UNKNOWN
    line.simulator.set_down(line.name, down=False)
    assert (await line.client.push(line.push(7), LONG)).kind is Kind.APPLIED


async def test_a_marketplace_that_went_away_refuses_the_connection_and_nothing_is_sent(line: Line) -> None:
    await line.client.push(line.push(6), LONG)
    await line.simulator.stop()
    outcomes = [await line.client.push(line.push(7), LONG) for _ in range(3)]
    assert outcomes[-1].kind is Kind.NOT_SENT
    assert outcomes[-1].trouble is Trouble.UNREACHABLE
    assert "127.0.0.1" in outcomes[-1].reason
    assert "base_url" in outcomes[-1].advice


async def test_after_closing_nothing_is_sent(line: Line) -> None:
    await line.client.close()
    assert (await line.client.push(line.push(7), LONG)).kind is Kind.NOT_SENT
    await line.client.close()


async def test_reasons_are_one_short_line(line: Line) -> None:
    text = json.dumps("first\r\nsecond\x1b[31m\u202e\ud800" + "x" * 10_000)
    status, body = line.case.words(text)
    line.fault("status", status=status, body=body)
    reason = (await line.client.push(line.push(7), LONG)).reason
    assert "first second" in reason
    assert len(reason) <= 300
    assert reason.isprintable()


async def test_probe_proves_the_credential_and_changes_no_stock(line: Line) -> None:
    outcome = await line.client.probe()
    assert outcome.kind is Kind.APPLIED
    assert len(line.simulator.journal) == 0


async def test_probe_reports_that_there_is_no_answer(line: Line) -> None:
    await line.simulator.stop()
    outcome = await line.client.probe()
    assert outcome.kind is Kind.NOT_SENT


async def test_identifiers_that_can_be_sent_have_no_problem(line: Line) -> None:
    assert line.spec.problem(line.identifiers()) is None
    assert len(line.spec.identifier_columns) == len(line.identifiers())


@pytest.mark.parametrize("value", [None, "", " ", "\t\n", "\u3000"])
async def test_a_missing_identifier_is_named(line: Line, value: str | None) -> None:
    for position, column in enumerate(line.spec.identifier_columns):
        identifiers: list[str | None] = list(line.identifiers())
        identifiers[position] = value
        problem = line.spec.problem(identifiers)
        assert problem is not None
        assert problem.startswith(column)
    assert line.spec.problem([]) is not None


def pushes(line: Line, quantity: int = 7) -> list[Push]:
    return [line.push(quantity + number, number) for number in range(1, 6)]


async def test_many_numbers_go_in_one_call_and_have_an_outcome_each(line: Line) -> None:
    assert await line.client.push_many(pushes(line), LONG) == [Outcome(Kind.APPLIED)] * 5
    assert [line.held(number) for number in range(1, 6)] == [8, 9, 10, 11, 12]
    assert line.simulator.stats.count(line.name, line.case.many) == 1


async def test_a_call_of_one_is_a_push(line: Line) -> None:
    assert await line.client.push_many([line.push(7)], LONG) == [Outcome(Kind.APPLIED)]
    assert line.held() == 7


@pytest.mark.parametrize(
    ("kind", "values", "wanted"),
    [
        ("reset_before", {}, Kind.UNKNOWN),
        ("reset_after", {}, Kind.UNKNOWN),
        ("status", {"status": 503}, Kind.UNKNOWN),
        ("redirect", {"location": "/elsewhere"}, Kind.UNKNOWN),
        ("garbage", {"shape": "wrong_types"}, Kind.UNKNOWN),
        ("garbage", {"shape": "other_code_type"}, Kind.UNKNOWN),
        ("oversized", {"megabytes": 4}, Kind.UNKNOWN),
        ("message", {}, Kind.UNKNOWN),
        ("throttle", {"status": 429}, Kind.TROUBLE),
    ],
)
async def test_the_outcome_of_a_failed_call_applies_to_each_of_its_skus(
    line: Line, kind: str, values: dict[str, object], wanted: Kind
) -> None:
    line.fault(kind, endpoint=line.case.many, **values)
    outcomes = await line.client.push_many(pushes(line), LONG)
    if wanted is Kind.UNKNOWN:
        wanted = line.case.fate(kind, dict(values))
    assert [outcome.kind for outcome in outcomes] == [wanted] * 5


async def test_a_call_of_many_keeps_to_its_time(line: Line) -> None:
    line.fault("hold", endpoint=line.case.many, times=1)
    began_at = clock.monotonic()
    outcomes = await line.client.push_many(pushes(line), SHORT)
    assert clock.monotonic() - began_at < 2 * SHORT.total_seconds()
    assert [outcome.kind for outcome in outcomes] == [Kind.UNKNOWN] * 5
    outcomes = await line.client.push_many(pushes(line), timedelta(0))
    assert [outcome.kind for outcome in outcomes] == [Kind.NOT_SENT] * 5


async def test_more_than_one_call_takes_is_the_callers_mistake(line: Line) -> None:
    most = line.client.most_per_call
    assert await line.client.push_many([], LONG) == []
    with pytest.raises(ValueError, match=f"at most {most}"):
        await line.client.push_many([line.push(1)] * (most + 1), LONG)
