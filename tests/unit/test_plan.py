"""The claim's decision: a table of what is done, and what holds whatever is put in."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.plan import (
    CapturedRow,
    CoveredBySum,
    Decision,
    Listed,
    NoSend,
    Park,
    Send,
    decide,
    unseen_anomaly,
    unsendable,
)
from daemon.core.types import Sku

OLD = ("old", "b")
NEW = ("new", "b")
BAD = ("", "b")
FINE = Listed(1, OLD, 5)
FORGET = NoSend.FORGET


def problem(identifiers: Sequence[str | None]) -> str | None:
    return None if all(identifiers) else "an identifier is missing"


def captured(
    acked: int | None = 5, identifiers: tuple[str, ...] | None = OLD, doubt: str = ""
) -> CapturedRow:
    """`doubt` is empty, `open` (nothing acknowledged since), `acked` (but not over) or `over`."""
    return CapturedRow(
        Sku("A"), acked, identifiers, bool(doubt), doubt in ("", "over"), doubt in ("acked", "over"), 0
    )


TWIN = captured(5)._replace(twins=(Sku("B"),))
CARRIED = Listed(1, OLD, None, carrier=Sku("0"))


@pytest.mark.parametrize(
    ("row", "listed", "has_successor", "expected"),
    [
        # Listed as it was
        (captured(None, None), FINE, False, Send(OLD, 5)),
        (captured(4), FINE, False, Send(OLD, 5)),
        (captured(5), FINE, False, NoSend.SETTLED),
        (captured(5, doubt="open"), FINE, False, Send(OLD, 5)),
        (captured(5, doubt="acked"), FINE, False, NoSend.WAIT),
        (captured(5, doubt="over"), FINE, False, Send(OLD, 5)),
        (captured(4, doubt="acked"), FINE, False, Send(OLD, 5)),
        (captured(None, doubt="open"), FINE, False, Send(OLD, 5)),
        (captured(0), Listed(1, OLD, 0), False, NoSend.SETTLED),
        (captured(None, None), Listed(1, OLD, 0), False, Send(OLD, 0)),
        # Not listed
        (captured(None, None), None, False, FORGET),
        (captured(5), None, False, Send(OLD, 0, is_delisting=True)),
        (captured(None), None, False, Send(OLD, 0, is_delisting=True)),
        (captured(0), None, False, FORGET),
        (captured(0, doubt="open"), None, False, Send(OLD, 0, is_delisting=True)),
        (captured(0, doubt="acked"), None, False, NoSend.WAIT),
        (captured(0, doubt="over"), None, False, Send(OLD, 0, is_delisting=True)),
        (captured(5), None, True, FORGET),
        (captured(5, doubt="open"), None, True, FORGET),
        # Under other identifiers
        (captured(5), Listed(1, NEW, 5), False, Send(OLD, 0, is_delisting=True)),
        (captured(0), Listed(1, NEW, 5), False, Send(NEW, 5)),
        (captured(0, doubt="open"), Listed(1, NEW, 5), False, Send(OLD, 0, is_delisting=True)),
        (captured(0, doubt="acked"), Listed(1, NEW, 5), False, NoSend.WAIT),
        (captured(0, doubt="over"), Listed(1, NEW, 5), False, Send(OLD, 0, is_delisting=True)),
        (captured(5), Listed(1, NEW, 5), True, Send(NEW, 5)),
        (captured(0), Listed(1, NEW, 0), False, Send(NEW, 0)),
        # What can't be sent
        (captured(5), Listed(2, OLD, None), False, Park("the listing has 2 rows for this SKU")),
        (captured(5), Listed(1, OLD, None), False, Park("the listing's quantity is NULL")),
        (captured(5), Listed(1, OLD, None, "NaN"), False, Park("the listing's quantity is NaN")),
        (
            captured(5),
            Listed(1, OLD, None, "5000000000"),
            False,
            Park("the listing's quantity is 5000000000"),
        ),
        (captured(None, None), Listed(1, BAD, 5), False, Park("an identifier is missing")),
        (captured(None, None), Listed(1, (None, "b"), 5), False, Park("an identifier is missing")),
        (captured(5), Listed(1, BAD, 5), False, Send(OLD, 0, is_delisting=True)),
        (captured(0), Listed(1, BAD, 5), False, Park("an identifier is missing")),
        # With the same identifiers as others
        (TWIN, FINE, False, Park('"B" has the same identifiers (old / b)')),
        (TWIN, Listed(1, NEW, 5), False, Send(OLD, 0, is_delisting=True)),
        (TWIN, Listed(1, NEW, 5), True, Park('"B" has the same identifiers (new / b)')),
        (TWIN, Listed(1, BAD, 5), True, Park("an identifier is missing")),
        (TWIN, None, True, FORGET),
        # ... and sold as one with them
        (captured(4), Listed(1, OLD, 5, carrier=Sku("A")), False, Send(OLD, 5)),
        (
            captured(5),
            Listed(1, OLD, None, carrier=Sku("A"), lacks=Sku("C")),
            False,
            Park('the quantity of "C", which is part of the sum, is NULL'),
        ),
        (
            captured(5),
            Listed(1, OLD, None, "NaN", carrier=Sku("A"), lacks=Sku("A")),
            False,
            Park('the quantity of "A", which is part of the sum, is NaN'),
        ),
        (
            captured(5),
            Listed(1, OLD, None, carrier=Sku("A"), lacks=Sku("C"), lacks_rows=2),
            False,
            Park('the listing has 2 rows for "C", which is part of the sum'),
        ),
        (
            captured(5),
            Listed(1, OLD, None, "5000000000", carrier=Sku("A")),
            False,
            Park("the sum of all SKUs with these identifiers is 5000000000, which is more than"),
        ),
        (captured(5), CARRIED, False, CoveredBySum(Sku("0"), keeps_name=True)),
        (captured(0), CARRIED, False, CoveredBySum(Sku("0"))),
        (captured(None, None), CARRIED, False, CoveredBySum(Sku("0"))),
        (captured(5, doubt="open"), CARRIED, True, CoveredBySum(Sku("0"))),
        (captured(5, doubt="open"), CARRIED, False, NoSend.WAIT),
        (captured(5, doubt="over"), CARRIED, False, CoveredBySum(Sku("0"), keeps_name=True)),
        (captured(5, NEW), CARRIED, False, Send(NEW, 0, is_delisting=True)),
        (captured(5), replace(CARRIED, rows=2), False, Park("the listing has 2 rows")),
    ],
)
def test_what_is_done_with_a_due_row(
    row: CapturedRow, listed: Listed | None, has_successor: bool, expected: Decision
) -> None:
    found = decide(row, listed, has_successor=has_successor, problem=problem)
    if isinstance(expected, Park):
        assert isinstance(found, Park)
        assert found.reason.startswith(expected.reason)
    else:
        assert found == expected


names = st.sampled_from([OLD, NEW])
captured_rows = st.builds(
    CapturedRow,
    sku=st.just(Sku("A")),
    acked_quantity=st.none() | st.integers(0, 3),
    identifiers=st.none() | names,
    is_doubted=st.booleans(),
    is_doubt_over=st.booleans(),
    is_acked_since_doubt=st.booleans(),
    failures=st.integers(0, 9),
).filter(lambda d: d.is_doubted or (d.is_doubt_over and not d.is_acked_since_doubt))
listings = st.none() | st.builds(
    Listed,
    rows=st.integers(1, 2),
    identifiers=names | st.just(BAD) | st.just((None, "b")),
    quantity=st.none() | st.integers(0, 3),
)


@given(captured_rows, listings, st.booleans())
def test_what_is_sent_can_be_sent(row: CapturedRow, listed: Listed | None, has_successor: bool) -> None:
    decision = decide(row, listed, has_successor=has_successor, problem=problem)
    if isinstance(decision, Send):
        assert decision.quantity >= 0
        assert problem(decision.identifiers) is None
        if decision.is_delisting:
            assert (decision.identifiers, decision.quantity) == (row.identifiers, 0)
        else:
            assert listed is not None
            assert (decision.identifiers, decision.quantity) == (listed.identifiers, listed.quantity)


@given(captured_rows, listings, st.booleans())
def test_nothing_rests_while_the_marketplace_may_hold_another_number(
    row: CapturedRow, listed: Listed | None, has_successor: bool
) -> None:
    decision = decide(row, listed, has_successor=has_successor, problem=problem)
    if decision is NoSend.SETTLED:
        assert listed is not None
        assert not row.is_doubted
        assert (row.acked_quantity, row.identifiers) in (
            (listed.quantity, listed.identifiers),
            (listed.quantity, None),
        )
    if decision is NoSend.FORGET:
        assert listed is None
        assert has_successor or row.identifiers is None or (row.acked_quantity == 0 and not row.is_doubted)
    if decision is NoSend.WAIT:
        assert row.is_doubted
        assert not row.is_doubt_over


@given(captured_rows, listings)
def test_a_successors_number_is_never_zeroed(row: CapturedRow, listed: Listed | None) -> None:
    decision = decide(row, listed, has_successor=True, problem=problem)
    if isinstance(decision, Send) and decision.is_delisting:
        pytest.fail("the identifiers belong to another SKU now")


@given(captured_rows, listings, st.booleans())
def test_a_doubt_that_has_settled_is_not_waited_for(
    row: CapturedRow, listed: Listed | None, has_successor: bool
) -> None:
    if row.is_doubt_over:
        decision = decide(row, listed, has_successor=has_successor, problem=problem)
        assert decision is not NoSend.WAIT


@pytest.mark.parametrize(
    ("row", "listed", "anomaly"),
    [
        # Zeroes
        (captured(5), None, "gone"),
        (captured(5), Listed(1, OLD, 0), "zero"),
        (captured(None, None), Listed(1, OLD, 0), "new"),
        (captured(None, None), None, None),
        (captured(0), None, None),
        (captured(0), Listed(1, OLD, 0), None),
        (captured(5)._replace(is_zero_known=True), Listed(1, OLD, 0), None),
        # Numbers far from what was sent last
        (captured(5), Listed(1, OLD, 25), "moved"),
        (captured(25), Listed(1, OLD, 5), "moved"),
        (captured(5), Listed(1, OLD, 24), None),
        (captured(5)._replace(listed_quantity=50), Listed(1, OLD, 25), None),
        (captured(5)._replace(listed_quantity=6), Listed(1, OLD, 25), "moved"),
        (captured(None, None), Listed(1, OLD, 25), None),
        # Other identifiers
        (captured(5), Listed(1, NEW, 5), "moved"),
        (captured(5)._replace(listed_identifiers=OLD), Listed(1, NEW, 5), "moved"),
        (captured(5)._replace(listed_identifiers=NEW), Listed(1, NEW, 5), None),
        (captured(0), Listed(1, NEW, 5), None),
        (captured(5), Listed(2, NEW, None), None),
        (captured(5), FINE, None),
    ],
)
def test_an_anomaly_that_no_marking_has_counted_is_named(
    row: CapturedRow, listed: Listed | None, anomaly: str | None
) -> None:
    assert unseen_anomaly(row, listed, 5.0) == anomaly


@pytest.mark.parametrize(
    ("listed", "reason"),
    [
        (FINE, None),
        (Listed(1, BAD, 5), "an identifier is missing"),
        (Listed(1, (), 5), "its identifiers hold bytes that are no text"),
        (Listed(1, OLD, None, fault="division by zero"), "the listing fails on this SKU: division by zero"),
        (Listed(3, OLD, None), "the listing has 3 rows for this SKU"),
        (Listed(1, OLD, None), "the listing's quantity is NULL"),
        (Listed(1, OLD, None, "NaN"), "is NaN: let the query say how many may be sold"),
        (Listed(1, OLD, None, "9" * 30), f"is {'9' * 24}..., which is more than the channel's max_quantity"),
        (Listed(1, OLD, None, "9", carrier=Sku("A")), "the sum of all SKUs with these identifiers is 9"),
        (
            Listed(1, OLD, None, lacks=Sku("B"), lacks_rows=2, carrier=Sku("A")),
            'the listing has 2 rows for "B"',
        ),
    ],
)
def test_what_cannot_be_sent_says_why(listed: Listed, reason: str | None) -> None:
    found = unsendable(listed, problem)
    assert found is None if reason is None else reason in (found or "")
