"""Where a SKU stands and what happens next, from facts alone."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from daemon.core.explain.explanation import Explanation, explain_sku
from daemon.core.explain.facts import (
    ExplainSettings,
    Facts,
    Filling,
    PastAttempt,
    PastDifference,
    SkuState,
    Stop,
    Twin,
)
from daemon.core.explain.ledger_row import LedgerRow
from daemon.core.plan import Listed
from daemon.core.quoting import nearest
from daemon.core.times import TimeFormat, span
from daemon.core.types import Sku
from tests.channels import SEKORM

NOW = datetime(2026, 11, 22, 7, 0, 0, tzinfo=UTC)
NAME = ("PN-1", "AMS")


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


ROW = LedgerRow(
    want_seq=7,
    acked_seq=7,
    first_dirty_at=None,
    urgent=False,
    due_at=None,
    acked_quantity=5,
    acked_at=after(-90),
    identifiers=NAME,
    attempt_id=None,
    attempt_seq=None,
    attempt_quantity=None,
    attempt_at=None,
    doubt_at=None,
    doubt_until=None,
    failures=0,
    retry_at=None,
    parked_reason=None,
    parked_at=None,
    discarded_at=None,
    listed_rows=1,
    listed_identifiers=NAME,
    listed_quantity=5,
)
FACTS = Facts(
    channel=SEKORM,
    sku=Sku("SKU-1"),
    now=NOW,
    columns=("pn_code", "brand_name"),
    listing=({"sku": "SKU-1", "pn_code": "PN-1", "brand_name": "AMS", "quantity": 5},),
    listing_problem=None,
    listed=Listed(1, NAME, 5),
    row=ROW,
    successor=None,
    attempts=(),
    differences=(),
    guard=None,
    paused=None,
    trouble=None,
    has_owner=True,
    is_unread=False,
    resync_at=after(1800),
    settings=ExplainSettings(
        timedelta(seconds=10), timedelta(seconds=5), timedelta(seconds=60), timedelta(hours=1)
    ),
)
WAITING = replace(ROW, want_seq=8, first_dirty_at=after(-0.6), due_at=after(1.4))
FLYING = replace(
    ROW,
    want_seq=8,
    attempt_id=12,
    attempt_seq=8,
    attempt_quantity=6,
    attempt_at=after(-0.2),
)
DOUBTED = replace(
    ROW, doubt_at=after(-10), doubt_until=after(50), due_at=after(50), acked_at=after(-9), acked_quantity=5
)
PARKED = replace(ROW, parked_at=after(-120), parked_reason="no such part")
STOCK = Listed(1, NAME, 6)
SEEN = PastDifference("marketplace_differs", "still_open", 5, 9, after(-90_000), after(-60), 2, is_open=True)
TWIN = Twin(Sku("SKU-2"), 70, 70, after(-30), is_unclear=False)


def problem(identifiers: Sequence[str | None]) -> str | None:
    return None if identifiers[0] else "pn_code is missing"


def explained(facts: Facts) -> Explanation:
    return explain_sku(facts, problem, TimeFormat(NOW, UTC))


def part(explanation: Explanation, about: str) -> str:
    return "\n".join("\n".join(one.lines) for one in explanation.parts if one.about == about)


@pytest.mark.parametrize(
    ("facts", "state", "ledger", "coming"),
    [
        (
            FACTS,
            SkuState.IN_SYNC,
            "acknowledged: 5 as PN-1 / AMS, 06:58:30 (90 s ago)\nnothing waits, and nothing is in doubt",
            "Nothing is sent: the marketplace holds this number, and nothing is in doubt.",
        ),
        (
            replace(FACTS, row=WAITING, listed=STOCK),
            SkuState.DEBOUNCING,
            "(0.6 s ago); waiting for the debounce until 07:00:01 (in 1.4 s), at most until 07:00:09",
            "At 07:00:01 (in 1.4 s), 6 is sent as PN-1 / AMS.",
        ),
        (
            replace(FACTS, row=WAITING),
            SkuState.DEBOUNCING,
            "waiting for the debounce",
            "At 07:00:01 (in 1.4 s), nothing is sent: the marketplace holds 5 already.",
        ),
        (
            replace(FACTS, row=replace(WAITING, due_at=after(-3), urgent=True), listed=Listed(1, NAME, 0)),
            SkuState.WAITING,
            "due since 06:59:57 (3.0 s ago)\nurgent: it goes ahead of others",
            "Now, 0 is sent as PN-1 / AMS.",
        ),
        (
            replace(FACTS, row=FLYING, listed=STOCK),
            SkuState.IN_FLIGHT,
            "in flight since 06:59:59 (0.2 s ago): 6 as PN-1 / AMS (attempt 12)",
            "Without a clear one the SKU is in doubt until 07:00:59 (in 60 s) and is sent again.",
        ),
        (
            replace(FACTS, row=replace(FLYING, want_seq=9), listed=Listed(1, NAME, 4)),
            SkuState.IN_FLIGHT,
            "attempt 12",
            "A newer number, 4, waits for that: there are never two requests for one SKU.",
        ),
        (
            replace(
                FACTS,
                row=DOUBTED,
                attempts=(PastAttempt(after(-10), 3, NAME, 5, "unknown", "no answer in time", 5000.0),),
            ),
            SkuState.IN_DOUBT,
            'because 5, sent 06:59:50 (10 s ago), had no clear answer ("no answer in time") and may still land',
            "At 07:00:50 (in 50 s), 5 is sent as PN-1 / AMS, which ends the doubt.",
        ),
        (
            replace(FACTS, row=replace(DOUBTED, due_at=after(2)), listed=STOCK),
            SkuState.IN_DOUBT,
            "tried again 07:00:02 (in 2.0 s)",
            "6 is sent as PN-1 / AMS, and confirmed 07:00:50 (in 50 s), when nothing older can land.",
        ),
        (
            replace(FACTS, row=replace(DOUBTED, due_at=after(2))),
            SkuState.IN_DOUBT,
            "because its number has to be confirmed",
            "5 is confirmed 07:00:50 (in 50 s), when nothing older can land.",
        ),
        (
            replace(
                FACTS,
                row=replace(DOUBTED, doubt_at=after(0), doubt_until=after(0), due_at=after(0)),
                attempts=(PastAttempt(after(-86_400), 3, NAME, 5, "unknown", "long ago", 5000.0),),
            ),
            SkuState.IN_DOUBT,
            "in doubt until it is confirmed, because its number has to be confirmed",
            "Now, 5 is sent as PN-1 / AMS, which ends the doubt.",
        ),
        (
            replace(FACTS, row=PARKED),
            SkuState.PARKED,
            "parked since 06:58:00 (2 min ago), because no such part",
            "and not only in its number; or now, with `stockrelay parked retry sekorm SKU-1`.",
        ),
        (
            replace(FACTS, row=replace(PARKED, discarded_at=after(-60))),
            SkuState.PARKED,
            "known since 06:59:00 (60 s ago) (discarded): left out of summaries",
            "Nothing is sent until",
        ),
        (
            replace(
                FACTS,
                row=replace(WAITING, held_at=after(-60), zero_at=after(-60), due_at=None),
                listed=Listed(1, NAME, 0),
                guard=Stop(after(-60), "9 of 20 numbers fell to zero at once"),
            ),
            SkuState.HELD,
            "held by the guard since 06:59:00 (60 s ago): 9 of 20 numbers fell to zero at once",
            "`stockrelay release sekorm`",
        ),
        (
            replace(FACTS, row=replace(WAITING, due_at=after(0)), listed=None, listing=()),
            SkuState.DELISTED,
            "it has left the listing",
            "Now, 0 is sent as PN-1 / AMS, and once that is acknowledged the SKU is forgotten.",
        ),
        (
            replace(FACTS, row=replace(WAITING, acked_quantity=0, due_at=after(0)), listed=None, listing=()),
            SkuState.DELISTED,
            "acknowledged: 0",
            "Now, it is forgotten: the marketplace holds no number of it.",
        ),
        (
            replace(FACTS, row=WAITING, listed=None, listing=(), successor=Sku("SKU-2")),
            SkuState.DELISTED,
            "left",
            "At 07:00:01 (in 1.4 s), it is forgotten: SKU-2 is sold under its identifiers now.",
        ),
        (
            replace(FACTS, row=WAITING, listed=Listed(1, ("PN-2", "AMS"), 5)),
            SkuState.DEBOUNCING,
            "changed",
            "0 is sent as PN-1 / AMS, which it has left, and then its number as PN-2 / AMS.",
        ),
        (
            replace(FACTS, row=replace(WAITING, acked_quantity=0), listed=Listed(1, (None, "AMS"), 5)),
            SkuState.DEBOUNCING,
            "changed",
            "it is parked: pn_code is missing.",
        ),
        (
            replace(FACTS, listed=STOCK),
            SkuState.BEHIND,
            "nothing waits",
            "the next comparison of everything finds it, 07:30:00 (in 30 min).",
        ),
        (
            replace(FACTS, listed=STOCK, is_unread=True),
            SkuState.BEHIND,
            "nothing waits",
            "The change is captured and is read as soon as a daemon runs.",
        ),
        (
            replace(FACTS, row=replace(ROW, sync_at=after(-5))),
            SkuState.WAITING,
            "waits for the sync of the whole channel",
            "Now, after the SKUs that changed, 5 is sent as PN-1 / AMS.",
        ),
        (
            replace(FACTS, row=None, is_unread=True),
            SkuState.NEW,
            "nothing: it was never sent to the marketplace",
            "Then it waits for the debounce and is sent for the first time.",
        ),
        (
            replace(FACTS, differences=(SEEN,)),
            SkuState.DIFFERS,
            "acknowledged: 5",
            "the marketplace acknowledged this number, and reconcile saw another one there. Reconcile does not send it",
        ),
        (
            replace(FACTS, differences=(replace(SEEN, status="contested"),)),
            SkuState.DIFFERS,
            "acknowledged: 5",
            "Find out who else writes there. The next reconcile looks again.",
        ),
        (
            replace(FACTS, differences=(replace(SEEN, last_seen=after(-500)),)),
            SkuState.DIFFERS,
            "acknowledged: 5",
            "it was sent again since reconcile saw the difference. The next reconcile looks again.",
        ),
        (
            replace(FACTS, differences=(replace(SEEN, status="resolved", is_open=False),)),
            SkuState.IN_SYNC,
            "acknowledged: 5",
            "Nothing is sent: the marketplace holds this number, and nothing is in doubt.",
        ),
        (
            replace(FACTS, row=replace(FLYING, attempt_at=after(-600))),
            SkuState.IN_FLIGHT,
            "attempt 12",
            "Its answer is overdue, or its outcome could not be written yet",
        ),
        (
            replace(FACTS, row=FLYING, has_owner=False),
            SkuState.IN_FLIGHT,
            "attempt 12",
            "No daemon waits for its answer any more: when one owns its slot, the SKU is in doubt until 07:00:59",
        ),
        (
            replace(FACTS, row=None, is_unread=True, listed=Listed(1, NAME, None)),
            SkuState.NEW,
            "nothing",
            "Then it is parked: the listing's quantity is NULL",
        ),
        (
            replace(FACTS, row=None, is_unread=True, is_first_reading=True, has_owner=False),
            SkuState.NEW,
            "nothing",
            "This channel has read nothing yet: everything is compared as soon as a daemon runs. Not before a daemon",
        ),
        (
            replace(FACTS, row=None, is_unread=True, twins=(TWIN,)),
            SkuState.NEW,
            "nothing",
            'Then it is parked: "SKU-2" has the same identifiers (PN-1 / AMS)',
        ),
        (
            replace(FACTS, row=replace(PARKED, twins=(Sku("SKU-2"),)), twins=(TWIN,)),
            SkuState.PARKED,
            "because no such part",
            "Nothing is sent while other SKUs have its identifiers; when it has them for itself, its number is sent",
        ),
        (
            replace(FACTS, row=replace(PARKED, twins=(Sku("SKU-2"),)), is_unread=True),
            SkuState.PARKED,
            "because no such part",
            "The change is captured and is read as soon as a daemon runs. Then it is tried again.",
        ),
        (
            replace(FACTS, row=PARKED, is_unread=True, listed=Listed(2, NAME, None)),
            SkuState.PARKED,
            "because no such part",
            "Then it is parked again: the listing has 2 rows for this SKU",
        ),
        (
            replace(
                FACTS,
                row=replace(ROW, identifiers=None, acked_quantity=None, acked_at=None),
                listed=Listed(1, NAME, None, carrier=Sku("SKU-0")),
                duplicates="sum",
            ),
            SkuState.SUMMED,
            "nothing waits",
            "Nothing is sent for it: SKU-0 has the sum of all that have its identifiers.",
        ),
        (
            replace(
                FACTS,
                row=replace(WAITING, held_at=after(-60), zero_at=after(-60), due_at=None),
                listed=Listed(1, NAME, 0),
            ),
            SkuState.HELD,
            "held by the guard",
            "The guard holds nothing any more: the number is due within a moment.",
        ),
        (
            replace(FACTS, row=None, listed=None, listing=()),
            SkuState.NOT_LISTED,
            "nothing",
            "Nothing: it is neither listed here nor known from before.",
        ),
        (
            replace(FACTS, listed=None, listing=(), listing_problem='column "x" does not exist'),
            SkuState.UNREADABLE,
            "acknowledged: 5",
            "Nothing new is sent before the listing works: see `stockrelay check`.",
        ),
    ],
)
def test_state_and_what_comes_next(facts: Facts, state: SkuState, ledger: str, coming: str) -> None:
    explanation = explained(facts)
    assert explanation.state == state
    assert ledger in part(explanation, "ledger")
    assert coming in explanation.next
    assert explanation.parts[-1].lines == (explanation.next,)


@pytest.mark.parametrize(
    ("facts", "begins"),
    [
        (
            replace(FACTS, row=WAITING, listed=STOCK, paused=Stop(after(-60), "by ann: stocktaking")),
            "Not while the channel is paused: `stockrelay resume sekorm` ends that. Then: at 07:00:01",
        ),
        (
            replace(FACTS, row=WAITING, listed=STOCK, has_owner=False),
            "Not before a daemon runs: no daemon owns the SKU's slot. Then: at 07:00:01",
        ),
        (
            replace(FACTS, row=WAITING, listed=STOCK, trouble=Stop(after(-60), "credential: no; look")),
            "Not while the channel is in trouble: a request is tried from time to time. Then: at 07:00:01",
        ),
    ],
)
def test_what_keeps_the_channel_is_said_before_what_comes(facts: Facts, begins: str) -> None:
    assert explained(facts).next.startswith(begins)


def test_a_claimed_rows_next_step_says_what_a_pause_does_to_it() -> None:
    explanation = explained(replace(FACTS, row=FLYING, paused=Stop(after(-60), "by ann: stocktaking")))
    assert explanation.next.startswith("Its answer is awaited for at most 5 s.")
    assert explanation.next.endswith("Nothing after it is claimed until `stockrelay resume sekorm`.")
    assert part(explanation, "channel") == "paused since 06:59:00 (60 s ago) by ann: stocktaking"


def test_a_pause_changes_nothing_for_what_is_in_sync() -> None:
    explanation = explained(replace(FACTS, paused=Stop(after(-60), "by ann")))
    assert explanation.next.startswith("Nothing is sent: the marketplace holds this number")


GIVES = "channels.sekorm.listing gives"
SHOWN = "  sku=SKU-1, pn_code=PN-1, brand_name=AMS, quantity=5"
KNOWN = "the marketplace knows it as PN-1 / AMS (pn_code, brand_name)"


@pytest.mark.parametrize(
    ("listed", "listing", "number", "lines"),
    [
        (Listed(1, NAME, 5), FACTS.listing, "5", [f"{GIVES} one row for this SKU:", SHOWN, KNOWN]),
        (
            Listed(1, NAME, 5),
            ({"sku": "SKU-1", "quantity": "5.75"},),
            "5",
            [f"{GIVES} one row for this SKU:", "  sku=SKU-1, quantity=5.75", f"{KNOWN}; 5.75 is sent as 5"],
        ),
        (
            Listed(7, NAME, None),
            FACTS.listing * 5,
            "unknown: 7 rows for one SKU",
            [f"{GIVES} 7 rows for this SKU:", *[SHOWN] * 5, "  and 2 more"],
        ),
        (
            Listed(1, NAME, None),
            ({"sku": "SKU-1", "quantity": None},),
            "unknown: the listing's quantity is NULL: let the query say 0 where nothing may be sold",
            [f"{GIVES} one row for this SKU:", "  sku=SKU-1, quantity=NULL", KNOWN],
        ),
        (None, (), "not listed, so 0", [f"{GIVES} no row for this SKU"]),
    ],
)
def test_the_listing_is_shown_with_what_is_made_of_it(
    listed: Listed | None, listing: tuple[dict[str, object], ...], number: str, lines: list[str]
) -> None:
    explanation = explained(replace(FACTS, listed=listed, listing=listing))
    assert part(explanation, "ERP now") == number
    assert part(explanation, "listing").splitlines() == lines


def test_attempts_are_shown_with_the_marketplaces_words() -> None:
    explanation = explained(
        replace(
            FACTS,
            attempts=(
                PastAttempt(after(-90), 4, NAME, 5, "applied", "", 12.4),
                PastAttempt(after(-90_000), 3, NAME, 4, "refused", "no such part", 8.0),
                PastAttempt(after(-400_000), 2, NAME, 4, "not_sent", "stopping", None),
            ),
        )
    )
    assert part(explanation, "attempts").splitlines() == [
        "06:58:30 (90 s ago)  5 as PN-1 / AMS  acknowledged after 12 ms",
        '2026-11-21 06:00:00 (25 h ago)  4 as PN-1 / AMS  refused after 8 ms: "no such part"',
        '2026-11-17 15:53:20 (5 days ago)  4 as PN-1 / AMS  not sent: "stopping"',
    ]


def test_what_reconcile_saw_is_shown() -> None:
    seen = PastDifference("marketplace_differs", "still_open", 5, 9, after(-90_000), after(-3600), 2)
    assert part(explained(replace(FACTS, differences=(seen,))), "reconcile") == (
        "marketplace differs (ERP 5, marketplace 9): still open 06:00:00 (60 min ago); seen twice, first 2026-11-21 "
        "06:00:00 (25 h ago)"
    )


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-1, "0.0 s"), (1.44, "1.4 s"), (10, "10 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (172_800, "2 days")],
)  # fmt: skip
def test_spans_have_the_unit_that_suits_them(seconds: float, words: str) -> None:
    assert span(timedelta(seconds=seconds)) == words


def test_near_matches_ignore_case_and_separators_and_are_the_best_first() -> None:
    candidates = ["AB-123", "AB-1234", "ab_12-3X", "ZZ-999", "AB-123"]
    assert nearest("ab 123", candidates) == ["AB-123", "AB-1234", "ab_12-3X"]
    assert nearest("qqq", candidates) == []


def test_what_the_marketplace_keeps_of_several_skus_with_one_name_is_said() -> None:
    listed = replace(FACTS, twins=(TWIN,))
    assert part(explained(listed), "shared").splitlines() == [
        "PN-1 / AMS is also the name of:",
        "  SKU-2, listed with 70; acknowledged: 70",
        "the marketplace keeps one number for all of them: 70, acknowledged for SKU-2 06:59:30 (30 s ago)",
    ]
    unclear = replace(listed, twins=(replace(TWIN, is_unclear=True),))
    assert "which one is not clear just now" in part(explained(unclear), "shared")
    neither = replace(listed, row=None, twins=(replace(TWIN, acked_at=None, acked_quantity=None),))
    assert part(explained(neither), "shared").endswith("was sent none of theirs")


SUM = replace(
    FACTS,
    listed=Listed(1, NAME, 8, carrier=Sku("SKU-1")),
    twins=(replace(TWIN, acked_quantity=None, acked_at=None),),
    duplicates="sum",
)
SPOILT = Listed(1, NAME, None, "NaN", carrier=Sku("SKU-1"), lacks=Sku("SKU-2"))
REASON = 'the quantity of "SKU-2", which is part of the sum, is NaN: let the query say how many may be sold'
MEMBER = replace(
    SUM,
    sku=Sku("SKU-2"),
    row=replace(ROW, identifiers=None, acked_quantity=None, acked_at=None, listed_quantity=None),
    listed=Listed(1, NAME, None, carrier=Sku("SKU-1")),
    twins=(replace(TWIN, sku=Sku("SKU-1")),),
    attempts=(PastAttempt(after(-80), 3, ("PN-2", "AMS"), 0, "applied", "", 5.0),),
)


@pytest.mark.parametrize(
    ("facts", "number", "ledger", "shared", "coming"),
    [
        (SUM, "8, the sum of all SKUs with its identifiers (5 of its own)", "acknowledged: 5", "  SKU-2", ""),
        (
            replace(SUM, listed=SPOILT, row=replace(PARKED, parked_reason=REASON, listed_quantity=None)),
            f"5, part of a sum that can't be sent: {REASON}",
            f"because {REASON}",
            "  SKU-2",
            "Nothing is sent until the listing has a sum that can be sent.",
        ),
        (
            MEMBER,
            "5, part of SKU-1's sum",
            "nothing that was sent for it counts any more",
            "  SKU-1, which has the sum",
            "Nothing is sent for it: SKU-1 has the sum of all that have its identifiers.",
        ),
        (
            replace(
                MEMBER,
                listing=({"quantity": "NaN"},),
                listed=SPOILT,
                twins=(replace(TWIN, sku=Sku("SKU-1"), parked_reason=REASON),),
            ),
            f"NaN, part of a sum that can't be sent: {REASON}",
            "nothing that was sent for it counts any more",
            "  SKU-1, which has the sum, and is parked",
            f"Nothing is sent for it: its number is part of SKU-1's sum, which can't be sent: {REASON}.",
        ),
        (
            replace(
                MEMBER, attempts=(), twins=(replace(TWIN, sku=Sku("SKU-1"), parked_reason="no such part"),)
            ),
            "5, part of SKU-1's sum",
            "nothing is acknowledged for it\n",
            "  SKU-1, which has the sum, and is parked",
            "Nothing is sent for it: its number is part of SKU-1's sum, which is parked: no such part.",
        ),
        (
            replace(SUM, listed=Listed(1, NAME, None, "9" * 10, carrier=Sku("SKU-1"))),
            f"5, part of a sum that can't be sent: the sum of all SKUs with these identifiers is {'9' * 10}, which",
            "acknowledged: 5",
            "  SKU-2",
            "",
        ),
    ],
)
def test_a_sum_is_called_a_sum_and_says_which_sku_keeps_it_from_being_sent(
    facts: Facts, number: str, ledger: str, shared: str, coming: str
) -> None:
    explanation = explained(facts)
    assert part(explanation, "ERP now").startswith(number)
    assert ledger in part(explanation, "ledger")
    assert shared in part(explanation, "shared").splitlines()
    assert explanation.next.startswith(coming)
    assert "sent as" not in part(explanation, "listing")


GUARDED = Stop(after(-300), "50 of 60 numbers fall to 0")
HELD = replace(ROW, held_at=after(-300))
COVERED = Listed(1, NAME, None, carrier=Sku("SKU-0"))


@pytest.mark.parametrize(
    ("facts", "about", "words"),
    [
        (
            replace(FACTS, listed=Listed(1, NAME, None, fault="1/0")),
            "ERP now",
            "its row in the listing can't be read",
        ),
        (replace(FACTS, listed=Listed(1, NAME, None, fault="1/0")), "listing", "fails on this SKU: 1/0"),
        (
            replace(FACTS, listed=Listed(1, (), 5)),
            "listing",
            "bytes that are no text in the database's encoding",
        ),
        (replace(FACTS, listed=Listed(7, NAME, None)), "listing", "gives 7 rows for this SKU:"),
        (replace(FACTS, listed=Listed(7, NAME, None)), "listing", "and 6 more"),
        (replace(FACTS, listed=Listed(1, NAME, 6)), "listing", "; 5 is sent as 6"),
        (replace(FACTS, row=replace(ROW, failures=3)), "ledger", "without a clear answer 3 times in a row"),
        (
            replace(FACTS, row=replace(ROW, acked_quantity=None, acked_at=None)),
            "ledger",
            "nothing is acknowledged under that yet",
        ),
        (
            replace(FACTS, row=replace(ROW, acked_at=None)),
            "ledger",
            "the marketplace held 5 as PN-1 / AMS when the channel went live",
        ),
        (replace(FACTS, trouble=GUARDED), "channel", "in trouble since 06:55:00"),
        (
            replace(FACTS, guard=GUARDED, filling=Filling.HELD, threshold="t"),
            "channel",
            "held by the guard since",
        ),
        (replace(FACTS, guard=GUARDED, filling=Filling.HELD, threshold="t"), "channel", "the guard: t"),
        (
            replace(FACTS, row=WAITING, filling=Filling.HELD),
            "next",
            "until the ERP's numbers are corrected or the hold",
        ),
        (
            replace(FACTS, row=WAITING, filling=Filling.AWAITED),
            "next",
            "Not before the whole listing has been compared",
        ),
        (
            replace(FACTS, row=WAITING, trouble=GUARDED),
            "next",
            "in trouble: a request is tried from time to time. Then:",
        ),
        (replace(FACTS, row=HELD, guard=GUARDED, listed=None), "next", "the next comparison of everything"),
        (
            replace(FACTS, row=replace(HELD, zero_at=after(-300)), guard=GUARDED, listed=None),
            "next",
            "until the ERP's numbers are back or the hold is released",
        ),
        (
            replace(FACTS, row=HELD, guard=GUARDED, listed=Listed(1, NAME, 50), factor=5.0),
            "next",
            "are back or the hold",
        ),
        (
            replace(FACTS, row=replace(HELD, acked_quantity=0), guard=GUARDED, listed=STOCK),
            "next",
            "are back or the hold",
        ),
        (
            replace(FACTS, row=HELD, guard=GUARDED, listed=Listed(1, ("PN-2", "AMS"), 5)),
            "next",
            "are back or the hold",
        ),
        (
            replace(FACTS, row=HELD, listed=Listed(1, NAME, 50), factor=5.0),
            "next",
            "The guard holds nothing any more",
        ),
        (
            replace(FACTS, row=replace(WAITING, due_at=NOW), listed=Listed(1, NAME, 50), factor=5.0),
            "next",
            "counted first",
        ),
        (
            replace(FACTS, row=replace(WAITING, due_at=NOW), listed=None, successor=Sku("X")),
            "next",
            "X is sold under its",
        ),
        (
            replace(FACTS, row=replace(WAITING, due_at=NOW, acked_quantity=0), listed=None),
            "next",
            "holds no number of it",
        ),
        (
            replace(FACTS, row=replace(WAITING, due_at=NOW, identifiers=None), listed=COVERED),
            "next",
            "SKU-0 has the sum",
        ),
        (replace(FACTS, row=None, listed=COVERED), "next", "Then nothing is sent for it: SKU-0 has the sum"),
        (replace(FACTS, row=replace(PARKED, listed_rows=2), listed=STOCK), "next", "Then it is tried again."),
        (
            replace(FACTS, row=replace(PARKED, listed_rows=2), listed=Listed(3, NAME, None)),
            "next",
            "parked again: the",
        ),
    ],
)
def test_each_obstacle_and_each_fault_is_said(facts: Facts, about: str, words: str) -> None:
    assert words in part(explained(facts), about)
