"""What is known of a moment in the past, from what was recorded."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import click
import pytest

from daemon.commands.explain_past import moment_of
from daemon.core.explain.facts import PastDifference
from daemon.core.explain.past import ReadNumber, RecordedAttempt, SkuHistory, reconstruct
from daemon.core.explain.past_words import explain_past
from daemon.core.types import Sku
from tests.channels import SEKORM
from tests.settings import settings_of
from tests.unit.test_explain import ROW

NOON = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
NAME = ("PN-1", "AMS")
OTHER = ("PN-2", "AMS")
SETTLE = timedelta(seconds=60)
CHANNEL = {
    "database": {"dsn": "postgresql:///x"},
    "watch": [{"table": "erp.stock", "sku": "sku"}],
    "channels": {"sekorm": {"account": "a", "app_secret": "s", "listing": "SELECT 1"}},
}


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def sent(
    seconds: float,
    quantity: int,
    outcome: str = "applied",
    *,
    name: tuple[str, ...] = NAME,
    logged: float | None = None,
    since: float | None = None,
) -> RecordedAttempt:
    """An attempt that was claimed then; its outcome was written 0.1 s later, or when `logged` says."""
    end = at(seconds + 0.1 if logged is None else logged)
    began = None if since is None else at(since)
    return RecordedAttempt(
        at(seconds), int(seconds * 10) + 100_000, name, quantity, outcome, "", 50.0, began, end
    )


def history(*sends: RecordedAttempt, moment: float = 0) -> SkuHistory:
    """Of attempts; those after the moment are later ones."""
    return SkuHistory(
        SEKORM,
        Sku("SKU-1"),
        at(moment),
        at(86_400),
        SETTLE,
        at(-86_400),
        at(-86_400),
        tuple(one for one in sends if one.at <= at(moment)),
        tuple(one for one in sends if one.at > at(moment)),
    )


@pytest.mark.parametrize(
    ("sends", "acknowledged", "unclear"),
    [
        pytest.param([sent(-50, 7)], 7, [], id="acknowledged"),
        pytest.param([sent(-50, 7), sent(-40, 6)], 6, [], id="the last acknowledged counts"),
        pytest.param([sent(-50, 7), sent(-0.05, 6)], 7, [6], id="in flight: it may have been applied"),
        pytest.param([sent(-50, 7), sent(-5, 6, logged=30)], 7, [6], id="answered, and not written yet"),
        pytest.param([sent(-50, 7), sent(-5, 6, "unknown")], 7, [6], id="no clear answer"),
        pytest.param([sent(-500, 7), sent(-400, 6, "unknown")], 7, [6], id="in doubt until it is confirmed"),
        pytest.param(
            [sent(-50, 7), sent(-40, 6, "unknown"), sent(-30, 5)], 5, [6], id="the lost one may land later"
        ),
        pytest.param(
            [sent(-150, 7), sent(-140, 6, "unknown"), sent(-100, 5), sent(-70, 5)],
            5,
            [],
            id="confirmed when nothing could land",
        ),
        pytest.param(
            [sent(-50, 7), sent(-40, 6, "unknown"), sent(-30, 6)], 6, [6], id="in doubt between equal numbers"
        ),
        pytest.param([sent(-50, 7), sent(-5, 6, "refused")], 7, [], id="refused"),
        pytest.param([sent(-50, 7), sent(-5, 6, "not_sent")], 7, [], id="not sent"),
        pytest.param([sent(-50, 7), sent(-5, 6, "trouble")], 7, [], id="the channel was refused"),
        pytest.param([sent(-50, 7), sent(-5, 6, "shadow")], 7, [], id="an outcome that sends nothing"),
        pytest.param([sent(-5, 6, "unknown")], None, [6], id="nothing before a lost one is known"),
        pytest.param([sent(-50, 7), sent(-5, 0, "gone")], None, [], id="not offered"),
        pytest.param([sent(-50, 7), sent(5, 6)], 7, [], id="what is sent later does not count"),
    ],
)
def test_what_the_marketplace_held_follows_from_the_attempts(
    sends: list[RecordedAttempt], acknowledged: int | None, unclear: list[int]
) -> None:
    (held,) = reconstruct(history(*sends)).marketplace
    assert (held.acknowledged.quantity if held.acknowledged else None) == acknowledged
    assert [one.quantity for one in held.unclear] == unclear


def test_nothing_recorded_is_nothing_known() -> None:
    past = reconstruct(history(sent(5, 7)))
    assert (past.erp, past.marketplace, past.ledger.acknowledged) == (None, (), None)
    assert past.erp_next == ReadNumber(at(5), 7)


def test_each_identifier_has_its_own_number_and_a_delisting_zero_is_no_reading() -> None:
    sends = (sent(-50, 7), sent(-40, 0), sent(-30, 7, name=OTHER))
    past = reconstruct(history(*sends))
    assert [(one.identifiers, one.quantities) for one in past.marketplace] == [(OTHER, (7,)), (NAME, (0,))]
    assert past.erp == ReadNumber(at(-30), 7)
    assert reconstruct(history(*sends, moment=-35)).erp == ReadNumber(at(-50), 7), (
        "the zero was for the old name"
    )


@pytest.mark.parametrize(
    ("known", "erp"),
    [
        (history(sent(-50, 7)), ReadNumber(at(-50), 7)),
        (replace(history(sent(-50, 7)), reading=ReadNumber(at(-5), 6)), ReadNumber(at(-5), 6)),
        (replace(history(sent(-5, 7)), reading=ReadNumber(at(-50), 6)), ReadNumber(at(-5), 7)),
        (replace(history(sent(-50, 7)), reading=ReadNumber(at(-5), None, 0)), ReadNumber(at(-5), None, 0)),
        # Marked before readings were recorded, and not read otherwise since.
        (replace(history(), row=ROW), ReadNumber(None, 5)),
        (replace(history(), row=ROW, next_reading=ReadNumber(at(5), 5)), None),
        (replace(history(), row=ROW, readings_begin=at(5)), None),
    ],
)
def test_the_erps_number_is_the_last_one_read(known: SkuHistory, erp: ReadNumber | None) -> None:
    assert reconstruct(known).erp == erp


def test_the_ledger_that_has_not_changed_since_knows_what_the_log_has_forgotten() -> None:
    known = replace(history(), row=replace(ROW, acked_at=at(-90_000)))
    (held,) = reconstruct(known).marketplace
    assert (held.quantities, held.is_certain) == ((5,), True)
    assert reconstruct(replace(known, moment=at(-90_001))).marketplace == ()


def test_an_attempt_that_is_open_until_now_was_in_flight() -> None:
    row = replace(
        ROW, attempt_id=9, attempt_at=at(-2), attempt_quantity=4, attempt_seq=8, acked_at=at(-90_000)
    )
    past = reconstruct(replace(history(), row=row))
    assert past.marketplace[0].quantities == (5, 4)
    assert past.ledger.in_flight is not None
    assert past.ledger.in_flight.quantity == 4
    assert reconstruct(replace(history(moment=-3), row=row)).marketplace[0].quantities == (5,)


def test_the_ledger_waits_since_the_change_that_the_next_attempt_answers() -> None:
    known = history(sent(-50, 7), sent(5, 6, since=-3))
    assert reconstruct(known).ledger.waits_since == at(-3)
    assert reconstruct(replace(known, moment=at(-4))).ledger.waits_since is None
    parked = replace(history(sent(-50, 7), sent(-5, 6, "refused", since=-6)), unacked_since=at(-6))
    ledger = reconstruct(parked).ledger
    assert (ledger.waits_since, ledger.refused) == (at(-6), parked.attempts[-1])


def test_parked_and_held_are_told_only_where_they_have_lasted() -> None:
    row = replace(ROW, parked_at=at(-5), held_at=at(5))
    ledger = reconstruct(replace(history(), row=row)).ledger
    assert (ledger.parked_since, ledger.held_since) == (at(-5), None)


def said(known: SkuHistory) -> dict[str, str]:
    parts = explain_past(known, reconstruct(known), UTC, 5)
    return {part.about: "\n".join(part.lines) for part in parts}


def test_words_for_a_number_in_doubt() -> None:
    known = history(sent(-50, 7), sent(-5, 6, "unknown", since=-6), sent(60, 6, since=-6))
    words = said(replace(known, reading=ReadNumber(at(-6), 6)))
    assert words["ERP"] == "6, as read 11:59:55.000 (5.0 s before)\nread next 12:01:00.000 (60 s after): 6"
    assert words["marketplace"] == (
        "in doubt as PN-1 / AMS: 7, sent 11:59:10.000 (50 s before) and acknowledged; or:\n"
        "  6, sent 11:59:55.000 (5.0 s before) without a clear answer, and could still land until 12:00:55.000"
    )
    assert "a change was waiting since 11:59:54.000" in words["ledger"]
    assert "today's settle time, 60 s" in words["record"]


def test_words_where_the_record_is_silent() -> None:
    words = said(history())
    begins = "2026-11-21 12:00:00 UTC"
    assert words["ERP"].endswith(f"the record of readings begins {begins}")
    assert words["marketplace"].startswith("not known")
    assert words["marketplace"].endswith(f"the record of attempts begins {begins}")
    assert "no attempts are recorded" in said(replace(history(), begins=None))["marketplace"]


def test_words_for_a_difference_that_reconcile_saw() -> None:
    seen = PastDifference("marketplace_differs", "opened", 7, 9, at(-60), at(-30), 2)
    assert (
        "last 11:59:30.000 (30 s before), when the marketplace had 9"
        in said(replace(history(sent(-50, 7)), differences=(seen,)))["reconcile"]
    )
    later = replace(seen, first_seen=at(5), last_seen=at(6))
    assert "reconcile" not in said(replace(history(sent(-50, 7)), differences=(later,)))


@pytest.mark.parametrize(
    ("at", "words"),
    [
        ("2026-11-21", "add the time"),
        ("20261121", "add the time"),
        ("2999-01-01T12:00", "yet to come"),
        ("yesterday", "is no time"),
        ("0001-01-01T00:00", "is not between"),
    ],
)
def test_a_moment_that_is_none_is_refused(at: str, words: str) -> None:
    with pytest.raises(click.BadParameter, match=words) as caught:
        moment_of(settings_of(CHANNEL), at)
    assert caught.value.param_hint == "--at"


def test_a_moment_is_in_the_operators_zone_unless_it_says_another() -> None:
    settings = settings_of(CHANNEL)
    assert moment_of(settings, "2026-11-21 08:00") == datetime(2026, 11, 21, tzinfo=UTC)
    assert moment_of(settings, "2026-11-21T08:00+00:00") == datetime(2026, 11, 21, 8, tzinfo=UTC)
