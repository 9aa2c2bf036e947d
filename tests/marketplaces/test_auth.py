"""The token strategy on its own: seldom fetched, shared, renewed ahead, and calm when it fails."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from daemon import clock
from daemon.core.outcome import Kind, Outcome, Trouble
from daemon.core.types import StoredToken
from daemon.marketplaces.auth import Grant, TokenSource
from daemon.marketplaces.transport import not_sent
from tests.channels import SEKORM
from tests.marketplaces.memory import MemoryTokens

FETCH_TIMEOUT = timedelta(seconds=0.3)
DOWN = not_sent("nobody answers")
WRONG = Outcome(Kind.TROUBLE, "-1 no permission", Trouble.CREDENTIAL, advice="check it")


class TokenEndpoint:
    """Hands out tokens: t1, t2, ...; or `failure` while that is set; or nothing while it is shut."""

    def __init__(self) -> None:
        self.calls = 0
        self.valid_for = timedelta(hours=1)
        self.failure: Outcome | None = None
        self.open = asyncio.Event()
        self.open.set()
        self.asked = asyncio.Event()

    async def fetch(self, _timeout_s: float) -> Grant | Outcome:
        self.calls += 1
        self.asked.set()
        await self.open.wait()
        return self.failure or Grant(f"t{self.calls}", self.valid_for)


@pytest.fixture
def endpoint() -> TokenEndpoint:
    return TokenEndpoint()


Make = Callable[[], TokenSource]


@pytest.fixture
async def make(endpoint: TokenEndpoint, tokens: MemoryTokens) -> AsyncIterator[Make]:
    async with AsyncExitStack() as stack:

        def build() -> TokenSource:
            source = TokenSource(SEKORM, tokens, endpoint.fetch, FETCH_TIMEOUT)
            stack.push_async_callback(source.close)
            return source

        yield build


def in_s(seconds: float) -> float:
    return clock.monotonic() + seconds


async def get(source: TokenSource, seconds: float = 5.0) -> StoredToken:
    token = await source.obtain(in_s(seconds))
    assert isinstance(token, StoredToken)
    return token


async def test_s04_tasks_that_ask_at_once_share_one_call(make: Make, endpoint: TokenEndpoint) -> None:
    source = make()
    tokens = await asyncio.gather(*(get(source) for _ in range(100)))
    assert {token.value for token in tokens} == {"t1"}
    assert endpoint.calls == 1


async def test_s04_replicas_that_ask_at_once_share_one_call(make: Make, endpoint: TokenEndpoint) -> None:
    endpoint.open.clear()
    sources = [make() for _ in range(5)]
    pending = [asyncio.create_task(get(source)) for source in sources]
    await endpoint.asked.wait()
    endpoint.open.set()
    assert {token.value for token in await asyncio.gather(*pending)} == {"t1"}
    assert endpoint.calls == 1


async def test_s04_a_restart_takes_the_stored_token(make: Make, endpoint: TokenEndpoint) -> None:
    await get(make())
    assert (await get(make())).value == "t1"
    assert endpoint.calls == 1


async def test_s04_a_token_is_renewed_ahead_while_the_old_one_serves(
    make: Make, endpoint: TokenEndpoint
) -> None:
    endpoint.valid_for = timedelta(seconds=1)
    source = make()
    first = await get(source)
    endpoint.open.clear()
    endpoint.asked.clear()
    while not endpoint.asked.is_set():
        assert source.current() == first
        await asyncio.sleep(0.01)
    assert first.remaining > timedelta(0)
    assert source.current() == first, "whoever asks meanwhile does not wait"
    endpoint.open.set()
    while source.current() == first:  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert (await get(source)).value == "t2"
    assert endpoint.calls == 2


async def test_s04_a_failed_renewal_backs_off_and_the_old_token_serves_to_its_end(
    make: Make, endpoint: TokenEndpoint
) -> None:
    endpoint.valid_for = timedelta(seconds=1)
    source = make()
    await get(source)
    endpoint.failure = DOWN
    while source.current() is not None:  # noqa: ASYNC110
        await asyncio.sleep(0.005)
    assert endpoint.calls == 2
    outcome = await source.obtain(in_s(5))
    assert isinstance(outcome, Outcome)
    assert (outcome.kind, outcome.reason) == (Kind.NOT_SENT, "nobody answers")
    assert endpoint.calls == 2


@pytest.mark.parametrize(("failure", "least_s"), [(DOWN, 0.4), (WRONG, 14)])
async def test_s04_a_failed_fetch_is_not_repeated_by_a_queue_of_pushes(
    make: Make, endpoint: TokenEndpoint, tokens: MemoryTokens, failure: Outcome, least_s: float
) -> None:
    endpoint.failure = failure
    source = make()
    outcomes = [await source.obtain(in_s(5)) for _ in range(1_000)]
    assert endpoint.calls == 1
    assert len(tokens.retries) == 1
    last = outcomes[-1]
    assert isinstance(last, Outcome)
    assert (last.kind, last.trouble, last.reason) == (failure.kind, failure.trouble, failure.reason)
    assert last.retry_after is not None
    assert timedelta(seconds=least_s) < last.retry_after <= timedelta(seconds=30)


async def test_s04_the_wait_grows_with_each_failure_up_to_a_cap_and_a_success_ends_it(
    make: Make, endpoint: TokenEndpoint
) -> None:
    endpoint.failure = DOWN
    source = make()
    waits = []
    with capture_logs() as lines:
        for _ in range(12):
            source._retry_at = 0.0  # as if that time had passed
            source._store.held_until = 0.0  # type: ignore[attr-defined]
            assert isinstance(await source.obtain(in_s(5)), Outcome)
            waits.append(source._retry_at - clock.monotonic())
    assert waits[0] <= 1
    assert waits[3] > 3
    assert all(29 <= wait <= 60 for wait in waits[7:])
    assert [line["failures"] for line in lines] == list(range(1, 13))
    source._retry_at = 0.0
    source._store.held_until = 0.0  # type: ignore[attr-defined]
    endpoint.failure = None
    assert (await get(source)).generation == 1


async def test_s04_a_throttled_token_call_is_honoured(
    make: Make, endpoint: TokenEndpoint, tokens: MemoryTokens
) -> None:
    wait = timedelta(seconds=200)
    endpoint.failure = Outcome(Kind.TROUBLE, "HTTP 429", Trouble.THROTTLED, wait)
    outcome = await make().obtain(in_s(5))
    assert isinstance(outcome, Outcome)
    assert outcome.trouble is Trouble.THROTTLED
    assert tokens.retries[0] > wait - timedelta(seconds=1)


async def test_s04_another_process_need_not_wait_as_long_as_the_one_that_failed(
    make: Make, endpoint: TokenEndpoint, tokens: MemoryTokens
) -> None:
    endpoint.failure = WRONG
    await make().obtain(in_s(5))
    assert tokens.retries[0] <= timedelta(seconds=5)


async def test_the_loser_waits_for_the_winner_and_takes_over_when_that_one_died(
    make: Make, endpoint: TokenEndpoint, tokens: MemoryTokens
) -> None:
    assert await tokens.begin_refresh(0, timedelta(seconds=0.5))
    token = await get(make())
    assert (token.value, tokens.refreshes, endpoint.calls) == ("t1", 2, 1)


async def test_the_loser_gives_up_in_the_end_and_says_why(
    make: Make, endpoint: TokenEndpoint, tokens: MemoryTokens
) -> None:
    await tokens.fail_refresh(timedelta(minutes=5))
    outcome = await make().obtain(in_s(20))
    assert isinstance(outcome, Outcome)
    assert outcome.kind is Kind.NOT_SENT
    assert "another process" in outcome.reason
    assert endpoint.calls == 0
    assert tokens.loads < 40


async def test_no_waiter_waits_beyond_its_deadline_and_the_fetch_continues(
    make: Make, endpoint: TokenEndpoint
) -> None:
    endpoint.open.clear()
    source = make()
    outcome = await source.obtain(in_s(0.1))
    assert isinstance(outcome, Outcome)
    assert (outcome.kind, outcome.trouble) == (Kind.NOT_SENT, Trouble.UNREACHABLE)
    endpoint.open.set()
    assert (await get(source)).value == "t1"
    assert endpoint.calls == 1


async def test_a_cancelled_waiter_does_not_take_the_fetch_with_him(
    make: Make, endpoint: TokenEndpoint
) -> None:
    endpoint.open.clear()
    source = make()
    first, second = (asyncio.create_task(get(source)) for _ in range(2))
    await endpoint.asked.wait()
    first.cancel()
    endpoint.open.set()
    assert (await second).value == "t1"
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_only_the_generation_that_was_refused_is_dropped(
    make: Make, endpoint: TokenEndpoint, tokens: MemoryTokens
) -> None:
    source = make()
    first = await get(source)
    await source.invalidate(first.generation)
    second = await get(source)
    await source.invalidate(first.generation)
    assert source.current() == second
    assert (endpoint.calls, tokens.invalidations) == (2, 1)


async def test_a_newer_token_of_another_process_is_taken_instead_of_fetching(
    make: Make, endpoint: TokenEndpoint
) -> None:
    one, other = make(), make()
    first = await get(one)
    assert await get(other) == StoredToken(first.value, first.generation, (await get(other)).remaining)
    await one.invalidate(first.generation)
    second = await get(one)
    await other.invalidate(first.generation)
    assert (await get(other)).value == second.value
    assert endpoint.calls == 2


async def test_a_store_that_fails_is_a_reason_and_not_an_exception(
    make: Make, endpoint: TokenEndpoint, tokens: MemoryTokens
) -> None:
    tokens.is_down = True
    outcome = await make().obtain(in_s(5))
    assert isinstance(outcome, Outcome)
    assert outcome.kind is Kind.NOT_SENT
    assert "the database does not answer" in outcome.reason
    assert endpoint.calls == 0


async def test_dropping_a_token_survives_a_store_that_fails(make: Make, tokens: MemoryTokens) -> None:
    source = make()
    first = await get(source)
    tokens.is_down = True
    await source.invalidate(first.generation)
    tokens.is_down = False
    assert (await get(source)).value == "t2", "the store still holds the old one, which is not taken again"


async def test_a_renewal_fetches_even_if_the_store_has_a_token(make: Make, endpoint: TokenEndpoint) -> None:
    await get(make())
    source = make()
    token = await source.renew(in_s(5))
    assert isinstance(token, StoredToken)
    assert (token.value, endpoint.calls) == ("t2", 2)


async def test_closing_ends_the_fetch_and_its_waiters_get_an_outcome(
    make: Make, endpoint: TokenEndpoint
) -> None:
    endpoint.open.clear()
    source = make()
    waiting = asyncio.create_task(source.obtain(in_s(5)))
    await endpoint.asked.wait()
    await source.close()
    outcome = await waiting
    assert isinstance(outcome, Outcome)
    assert outcome.kind is Kind.NOT_SENT


def test_a_token_does_not_show_itself() -> None:
    assert "secret" not in repr(StoredToken("secret", 1, timedelta(0)))
    assert "secret" not in repr(Grant("secret", timedelta(0)))
