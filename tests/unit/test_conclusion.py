"""What becomes of a SKU, given how its attempt ended."""

from datetime import timedelta

import pytest

from daemon.core.outcome import GONE, RETRY_CAP, Conclusion, Kind, Outcome, conclude

_DEFAULTS = {
    "failures": 0,
    "is_delisting": False,
    "do_others_pass": True,
    "park_after": 5,
    "jitter": 0.5,
}


def _conclude(kind: Kind, **changes: object) -> Conclusion:
    return conclude(Outcome(kind, "words"), **(_DEFAULTS | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [Kind.APPLIED, Kind.NOT_SENT, Kind.TROUBLE])
def test_an_end_that_is_known_is_written_as_it_is(kind: Kind) -> None:
    assert _conclude(kind, failures=99) == Conclusion(kind, "words")


def test_a_refused_sku_is_parked_with_the_marketplaces_words() -> None:
    assert _conclude(Kind.REFUSED) == Conclusion("refused", "words", is_parked=True)


def test_a_refused_delisting_means_that_the_marketplace_does_not_offer_it() -> None:
    assert _conclude(Kind.REFUSED, is_delisting=True) == Conclusion(GONE, "words")


def test_an_unknown_end_is_tried_again_later_and_later_up_to_the_cap() -> None:
    waits = [_conclude(Kind.UNKNOWN, failures=n, do_others_pass=False).wait for n in range(12)]
    assert waits == sorted(waits)
    assert timedelta(seconds=0.5) <= waits[0] <= timedelta(seconds=1)
    assert waits[-1] <= RETRY_CAP


def test_a_sku_that_fails_while_others_pass_is_parked_at_its_limit_and_not_before() -> None:
    assert not _conclude(Kind.UNKNOWN, failures=3).is_parked
    parked = _conclude(Kind.UNKNOWN, failures=4)
    assert parked.is_parked
    assert parked.outcome == "unknown"
    assert parked.reason == "failed 5 times in a row while others passed: words"


def test_no_sku_is_parked_while_the_whole_channel_fails() -> None:
    assert not _conclude(Kind.UNKNOWN, failures=50, do_others_pass=False).is_parked
