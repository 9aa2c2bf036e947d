"""The breaker as a table, and against any order in which results can arrive."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.breaker import (
    LONGEST_WAIT,
    PROBE_LOST_AFTER,
    UNKNOWNS_TO_OPEN,
    UNLIMITED,
    Breaker,
    Mode,
    Ticket,
    Transition,
    refusals_to_open,
)
from daemon.core.outcome import Kind, Outcome, Trouble
from daemon.core.types import Sku

APPLIED = Outcome(Kind.APPLIED)
REFUSED = Outcome(Kind.REFUSED, "0001")
UNKNOWN = Outcome(Kind.UNKNOWN, "timeout")
UNREACHABLE = Outcome(Kind.NOT_SENT, "refused", Trouble.UNREACHABLE)
GIVEN_UP = Outcome(Kind.NOT_SENT, "the lease is not trusted")
ADDRESS = Outcome(Kind.TROUBLE, "ip invalid", Trouble.ADDRESS)
THROTTLED = Outcome(Kind.TROUBLE, "429", Trouble.THROTTLED)
A, B = Sku("a"), Sku("b")


def throttled(seconds: float) -> Outcome:
    return Outcome(Kind.TROUBLE, "429", Trouble.THROTTLED, timedelta(seconds=seconds))


def send(breaker: Breaker, outcome: Outcome, now: float, sku: Sku = A, jitter: float = 0.0) -> Breaker:
    """One request, sent and answered at once."""
    breaker, ticket = breaker.sent(now)
    return breaker.feed(ticket, sku, outcome, now, jitter)[0]


def opened(outcome: Outcome = UNREACHABLE, now: float = 0.0) -> Breaker:
    return send(Breaker(), outcome, now)


def test_it_begins_closed_and_lets_everything_pass() -> None:
    assert Breaker().allowance(0.0) == UNLIMITED
    assert Breaker().next_probe_at is None


@pytest.mark.parametrize("outcome", [APPLIED, REFUSED, GIVEN_UP])
def test_what_says_nothing_against_the_channel_changes_nothing(outcome: Outcome) -> None:
    breaker, ticket = Breaker().sent(0.0)
    assert breaker.feed(ticket, A, outcome, 0.0, 0.0) == (Breaker(), None)


@pytest.mark.parametrize(
    ("outcome", "first_s", "longest_s"),
    [
        (UNREACHABLE, 0.5, 30),
        (THROTTLED, 1, 60),
        *[
            (Outcome(Kind.TROUBLE, "x", trouble), 30, 300)
            for trouble in (
                Trouble.CREDENTIAL,
                Trouble.DISABLED,
                Trouble.ADDRESS,
                Trouble.API_NAME,
                Trouble.SIGNATURE,
                Trouble.CLOCK,
            )
        ],
    ],
)
def test_trouble_opens_at_once_and_each_failed_probe_waits_longer(
    outcome: Outcome, first_s: float, longest_s: float
) -> None:
    breaker, ticket = Breaker().sent(100.0)
    breaker, change = breaker.feed(ticket, A, outcome, 100.0, 0.0)
    assert (breaker.mode, change, breaker.cause) == (Mode.OPEN, Transition.OPENED, outcome)
    assert breaker.until == 100 + first_s / 2
    waits = []
    for _ in range(20):
        now = breaker.until
        breaker, ticket = breaker.sent(now)
        breaker, change = breaker.feed(ticket, A, outcome, now, 0.0)
        assert change is Transition.REOPENED
        waits.append(breaker.until - now)
    assert waits == sorted(waits)
    assert waits[0] == first_s
    assert waits[-1] == longest_s / 2, "the upper half is the jitter's"


@pytest.mark.parametrize(("asked_s", "waited_s"), [(7, 7), (0, 1), (300, 300), (100_000, 300)])
def test_a_wait_the_marketplace_asked_for_is_kept_within_bounds(asked_s: float, waited_s: float) -> None:
    assert opened(throttled(asked_s)).until == waited_s


def test_an_unknown_outcome_that_asks_to_wait_pauses_the_channel_too() -> None:
    asked = Outcome(Kind.UNKNOWN, "HTTP 503", retry_after=timedelta(seconds=20))
    assert opened(asked).until == 20


def test_open_means_nothing_until_the_probe_is_due_and_then_one() -> None:
    breaker = opened(throttled(10))
    assert [breaker.allowance(t) for t in (0.0, 9.9, 10.0, 99.0)] == [0, 0, 1, 1]
    assert breaker.next_probe_at == 10
    probing, _ = breaker.sent(10.0)
    assert probing.allowance(10.0) == 0
    with pytest.raises(ValueError, match="sent while the breaker is probing"):
        probing.sent(10.0)
    with pytest.raises(ValueError, match="sent while the breaker is open"):
        breaker.sent(9.0)


@pytest.mark.parametrize("answer", [APPLIED, REFUSED])
def test_any_answer_to_the_probe_closes_and_forgets(answer: Outcome) -> None:
    breaker, ticket = opened(ADDRESS).sent(100.0)
    breaker, change = breaker.feed(ticket, B, answer, 101.0, 0.0)
    assert (breaker.mode, change, breaker.failures, breaker.cause) == (
        Mode.CLOSED,
        Transition.CLOSED,
        0,
        None,
    )
    assert breaker.allowance(101.0) == UNLIMITED


@pytest.mark.parametrize("outcome", [UNKNOWN, UNREACHABLE, ADDRESS, THROTTLED])
def test_anything_else_opens_again(outcome: Outcome) -> None:
    breaker, ticket = opened().sent(100.0)
    breaker, change = breaker.feed(ticket, A, outcome, 101.0, 0.0)
    assert (breaker.mode, change, breaker.cause) == (Mode.OPEN, Transition.REOPENED, outcome)
    assert breaker.until > 101


def test_a_probe_that_was_given_up_is_given_back() -> None:
    breaker, ticket = opened(ADDRESS).sent(100.0)
    breaker, change = breaker.feed(ticket, A, GIVEN_UP, 105.0, 0.0)
    assert change is None
    assert breaker.allowance(105.0) == 1
    assert breaker.cause is ADDRESS


def test_a_probe_that_is_never_heard_of_again_does_not_keep_the_channel_shut() -> None:
    breaker, lost = opened().sent(100.0)
    later = 100 + PROBE_LOST_AFTER.total_seconds()
    assert breaker.next_probe_at == later
    assert [breaker.allowance(later - 1), breaker.allowance(later)] == [0, 1]
    breaker, ticket = breaker.sent(later)
    assert breaker.feed(lost, A, APPLIED, later, 0.0) == (breaker, None)
    assert breaker.feed(ticket, A, APPLIED, later, 0.0)[1] is Transition.CLOSED


@pytest.mark.parametrize("late", [APPLIED, REFUSED, UNKNOWN, UNREACHABLE, ADDRESS, throttled(300), GIVEN_UP])
def test_results_of_before_say_nothing_of_now(late: Outcome) -> None:
    first, ticket = Breaker().sent(0.0)
    open_, _ = first.feed(ticket, A, UNREACHABLE, 1.0, 0.0)
    assert open_.feed(ticket, B, late, 1.1, 0.0) == (open_, None), "while open"
    probing, probe = open_.sent(5.0)
    assert probing.feed(ticket, B, late, 5.1, 0.0) == (probing, None), "while probing"
    closed, _ = probing.feed(probe, A, APPLIED, 5.2, 0.0)
    assert closed.feed(ticket, B, late, 5.3, 0.0) == (closed, None), "after closing"
    assert closed.feed(probe, B, late, 5.3, 0.0) == (closed, None), "a result that is fed twice"


def test_ten_unknowns_in_a_row_over_two_skus_open() -> None:
    breaker = Breaker()
    for n in range(9):
        breaker = send(breaker, UNKNOWN, float(n), sku=(A, B)[n % 2])
    assert breaker.mode is Mode.CLOSED
    breaker, ticket = breaker.sent(9.0)
    breaker, change = breaker.feed(ticket, A, UNKNOWN, 9.0, 0.0)
    assert change is Transition.OPENED
    assert breaker.until == 9.5


def test_one_sku_that_the_marketplace_chokes_on_never_stops_the_channel() -> None:
    breaker = Breaker()
    for n in range(1_000):
        breaker = send(breaker, UNKNOWN, float(n))
    assert breaker.mode is Mode.CLOSED
    assert send(breaker, UNKNOWN, 1_000.0, sku=B).mode is Mode.OPEN


@pytest.mark.parametrize("answer", [APPLIED, REFUSED])
def test_an_answer_in_between_starts_the_count_anew(answer: Outcome) -> None:
    breaker = Breaker()
    for n in range(100):
        breaker = send(breaker, answer if n % 10 == 9 else UNKNOWN, float(n), sku=Sku(str(n)))
        assert breaker.mode is Mode.CLOSED


def test_an_outage_does_not_slow_down_what_a_person_mends() -> None:
    breaker = opened()
    for _ in range(10):
        breaker = send(breaker, UNREACHABLE, breaker.until)
    now = breaker.until
    breaker = send(breaker, ADDRESS, now)
    assert breaker.until - now == 15
    now = breaker.until
    assert send(breaker, UNREACHABLE, now).until - now == 0.25


def test_a_network_that_flaps_does_not_start_afresh_each_time() -> None:
    breaker = opened()
    for n in range(10):
        breaker = send(breaker, (UNKNOWN, UNREACHABLE)[n % 2], breaker.until)
    assert breaker.failures == 11


outcomes = st.sampled_from(
    [APPLIED, REFUSED, UNKNOWN, UNREACHABLE, GIVEN_UP, ADDRESS, THROTTLED, throttled(40), throttled(1e6)]
)
moves = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.floats(0, 400)),
        st.tuples(st.just("send"), st.integers(1, 20)),
        st.tuples(st.just("result"), st.tuples(st.integers(0, 50), outcomes, st.floats(0, 1, exclude_max=True))),
    ),
    max_size=120,
)  # fmt: skip


def assert_never_shut_for_good(breaker: Breaker, now: float) -> None:
    at = breaker.next_probe_at
    if at is not None:
        assert at - now <= LONGEST_WAIT.total_seconds() + 1e-6  # binary fractions
        assert breaker.allowance(max(now, at)) == 1
        assert now >= at or breaker.allowance(now) == 0


@given(moves)
def test_whatever_arrives_in_whatever_order(steps: list[tuple[str, object]]) -> None:
    """Sends many, answers in any order, loses some, answers some twice."""
    breaker, now = Breaker(), 1_000.0
    tickets: list[Ticket] = []
    for move, detail in steps:
        before = breaker
        if move == "wait":
            assert isinstance(detail, float)
            now += detail
        elif move == "send":
            assert isinstance(detail, int)
            for _ in range(min(detail, breaker.allowance(now))):
                if not breaker.allowance(now):
                    break
                breaker, ticket = breaker.sent(now)
                tickets.append(ticket)
            if before.mode is not Mode.CLOSED and before.allowance(now):
                assert breaker.allowance(now) == 0, "one probe at a time"
        elif tickets:
            assert isinstance(detail, tuple)
            position, outcome, jitter = detail
            ticket = tickets[position % len(tickets)]
            is_stale = ticket != breaker.generation
            breaker, change = breaker.feed(ticket, Sku(str(position)), outcome, now, jitter)
            if is_stale:
                assert breaker is before
            if change is Transition.CLOSED:
                assert outcome.kind in (Kind.APPLIED, Kind.REFUSED)
                assert before.mode is Mode.PROBING
            if outcome.trouble is not None and not is_stale:
                assert breaker.mode is Mode.OPEN
                assert breaker.allowance(now) == 0
        assert breaker.generation >= before.generation
        assert_never_shut_for_good(breaker, now)


# Refusals: an answer about a SKU

NO_SUCH_PART = Outcome(Kind.UNKNOWN, "-1 no such part", is_about_sku=True)


def refused(breaker: Breaker, skus: int, rounds: int, outcome: Outcome, **facts: bool) -> Breaker:
    """Each of some SKUs is refused a few times, one after the other."""
    about = {"is_shared": False, "is_known": False, "has_acknowledged": True} | facts
    for number in range(skus * rounds):
        breaker, ticket = breaker.sent(0.0)
        to_open = refusals_to_open(outcome, **about)
        breaker, _ = breaker.feed(ticket, Sku(f"s{number % skus}"), outcome, 0.0, 0.0, to_open)
        if breaker.mode is not Mode.CLOSED:
            break
    return breaker


@pytest.mark.parametrize(
    ("outcome", "skus", "rounds", "facts", "opens"),
    [
        # SKUs of their own fault, in a channel that works.
        (NO_SUCH_PART, 3, 50, {}, False),
        (NO_SUCH_PART, 500, 1, {}, False),
        (REFUSED, 500, 1, {}, False),
        (REFUSED, 500, 1, {"is_known": True}, False),
        (NO_SUCH_PART, 3, 50, {"is_known": True}, False),
        # Any of many may be the reason.
        (NO_SUCH_PART, 50, 2, {"is_shared": True, "has_acknowledged": False}, False),
        # It takes nothing of what it took before.
        (NO_SUCH_PART, 10, 1, {"is_known": True}, True),
        # It has never taken anything: perhaps the wrong shop.
        (NO_SUCH_PART, 1, 50, {"has_acknowledged": False}, False),
        (NO_SUCH_PART, 3, 4, {"has_acknowledged": False}, True),
        (REFUSED, 10, 1, {"has_acknowledged": False}, True),
    ],
)
def test_a_channel_is_in_trouble_when_it_refuses_everything_and_not_for_a_sku(
    outcome: Outcome, skus: int, rounds: int, facts: dict[str, bool], opens: bool
) -> None:
    breaker = refused(Breaker(), skus, rounds, outcome, **facts)
    assert (breaker.mode is Mode.OPEN) is opens
    if opens:
        assert breaker.cause is not None
        assert (breaker.cause.trouble, breaker.cause.reason) == (Trouble.REFUSES_ALL, outcome.reason)


def test_an_acknowledgement_among_refusals_begins_the_count_anew_and_alone_closes() -> None:
    breaker = Breaker()
    for _ in range(5):
        breaker = send(refused(breaker, 9, 1, NO_SUCH_PART, is_known=True), APPLIED, 0.0)
    assert breaker.mode is Mode.CLOSED
    breaker = refused(breaker, 10, 1, NO_SUCH_PART, is_known=True)
    breaker = send(breaker, NO_SUCH_PART, breaker.until)
    assert breaker.mode is Mode.OPEN, "a probe that is refused as well"
    assert send(breaker, APPLIED, breaker.until).mode is Mode.CLOSED


def test_a_refusal_shows_that_a_channel_which_did_not_answer_works_again() -> None:
    assert send(opened(UNREACHABLE), NO_SUCH_PART, 100.0).mode is Mode.CLOSED
    breaker = Breaker()
    for number in range(UNKNOWNS_TO_OPEN - 1):
        breaker = send(breaker, UNKNOWN, 0.0, Sku(str(number)))
    breaker = send(send(breaker, NO_SUCH_PART, 0.0), UNKNOWN, 0.0)
    assert (breaker.mode, breaker.unknowns) == (Mode.CLOSED, 1)
