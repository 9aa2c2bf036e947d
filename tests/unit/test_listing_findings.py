"""What is found of the relations that listings read, and of how the watched tables spell SKUs."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from daemon.core.capture import MIGRATE, Check, OpenFinding
from daemon.core.dependencies import (
    Reads,
    Relation,
    Unseen,
    judge_fan_outs,
    judge_reads,
    judge_subscribed,
    listing_subject,
    unreadable_listing,
)
from daemon.core.finding import Finding, Verdict
from daemon.core.spelling import FEW, Spelling, is_inconclusive, judge_spellings, misspelling, subject
from tests.channels import SEKORM

STOCK = Relation("erp.stock", None)
KNOWN = Spelling("erp.stock", known=5, unknown=100, example="x")
UNKNOWN = Spelling("erp.stock", known=0, unknown=FEW, example=" A-1")
BLANK = Spelling("erp.stock", 3, 1, "A1", alike="A1 ", listed="A1", channel=SEKORM)


@pytest.mark.parametrize(
    ("unseen", "found", "advice"),
    [
        (Unseen.UNWATCHED, "which is not watched", "watch it ([[watch]]"),
        (Unseen.MATERIALIZED, "its REFRESH fires no trigger", "NOTIFY stockrelay, 'resync'"),
        (Unseen.FOREIGN, "on its own server fires no trigger here", "copy what the listing needs"),
        (Unseen.SUBSCRIBED, "whose rows come from a subscription", "lower run.resync_s"),
    ],
)
def test_a_relation_whose_changes_are_not_captured_is_a_warning_with_its_own_advice(
    unseen: Unseen, found: str, advice: str
) -> None:
    (finding,) = judge_reads(Reads(SEKORM, [STOCK, Relation("erp.price", unseen)]), 3600)
    assert (finding.check, finding.subject) == (Check.LISTINGS, listing_subject(SEKORM))
    assert (finding.verdict, finding.is_lossy) == (Verdict.WARNING, False)
    assert finding.found.startswith("it reads erp.price, ")
    assert found in finding.found
    assert "found up to 3600 s late" in finding.found
    assert advice in finding.advice
    assert finding.advice.endswith("(docs/listings.md)")


def test_many_such_relations_are_cut_and_each_advice_is_given_once() -> None:
    relations = [Relation(f"erp.t{n}", Unseen.UNWATCHED) for n in range(7)]
    (finding,) = judge_reads(Reads(SEKORM, [*relations, Relation("erp.view", Unseen.MATERIALIZED)]), 60)
    assert "; and 3 more" in finding.found
    assert finding.advice.count("watch it ([[watch]]") == 1
    assert "NOTIFY stockrelay" in finding.advice


def test_a_listing_that_reads_only_captured_relations_is_no_finding() -> None:
    assert judge_reads(Reads(SEKORM, [STOCK]), 60) == judge_fan_outs([]) == judge_subscribed([], 60) == []


def test_what_cannot_be_asked_of_a_listing_is_a_warning_about_that_listing() -> None:
    finding = unreadable_listing(SEKORM, "division by zero")
    assert (finding.subject, finding.verdict) == (listing_subject(SEKORM), Verdict.WARNING)
    assert finding.found.endswith("division by zero")
    assert f"channels.{SEKORM}.listing" in finding.advice


def test_a_query_for_skus_that_fails_names_its_table() -> None:
    (finding,) = judge_fan_outs([("erp.parts", "no such column")])
    assert (finding.check, finding.subject, finding.is_lossy) == (Check.TABLES, "erp.parts", False)
    assert finding.found.endswith("everything compared: no such column")
    assert MIGRATE in finding.advice


def test_a_watched_table_whose_rows_come_from_a_subscription_is_a_warning() -> None:
    (finding,) = judge_subscribed(["erp.stock"], 90)
    assert (finding.check, finding.subject) == (Check.REPLICATION, "erp.stock")
    assert (finding.verdict, finding.is_lossy) == (Verdict.WARNING, False)
    assert "found up to 90 s late" in finding.found


@pytest.mark.parametrize(
    ("spelling", "is_open", "words"),
    [
        (KNOWN, False, None),
        (replace(UNKNOWN, unknown=FEW - 1), False, None),
        (UNKNOWN, True, 'none of its SKUs is known to a listing, such as " A-1"'),
        (replace(UNKNOWN, is_part=True), True, None),
        (replace(UNKNOWN, example=None), True, None),
        (replace(UNKNOWN, channel=SEKORM), True, f"is known to the listing of {SEKORM}"),
        (BLANK, False, f'it calls a SKU "A1 " that the listing of {SEKORM} calls "A1"'),
        (replace(BLANK, channel=None), False, 'that the listing calls "A1"'),
        (replace(BLANK, listed=None), False, None),
    ],
)
def test_a_spelling_is_wrong_where_a_listing_has_it_almost_or_knows_none(
    spelling: Spelling, is_open: bool, words: str | None
) -> None:
    assert is_inconclusive(spelling) is is_open
    found = misspelling(spelling)
    assert found is None if words is None else words in (found or "")


def test_a_wrong_spelling_is_a_warning_by_which_changes_may_be_missed() -> None:
    (finding,) = judge_spellings([BLANK, KNOWN], set(), [])
    assert finding.subject == subject("erp.stock", SEKORM) == f"erp.stock, listing {SEKORM}"
    assert (finding.check, finding.verdict, finding.is_lossy) == (Check.SPELLING, Verdict.WARNING, True)


def test_a_finding_about_spelling_stays_in_its_words_until_changes_show_that_it_is_over() -> None:
    kept = Finding(Check.SPELLING, "erp.stock", "as it was said before")
    other = Finding(Check.TRIGGERS, "erp.stock", "disabled")
    before = [OpenFinding(each, "", datetime(2026, 11, 22, tzinfo=UTC)) for each in (kept, other)]
    assert judge_spellings([], {"erp.stock"}, before) == [kept]
    assert judge_spellings([UNKNOWN], {"erp.stock"}, before) == [kept]
    assert judge_spellings([KNOWN], {"erp.stock"}, before) == []
    assert judge_spellings([replace(UNKNOWN, is_part=True)], {"erp.stock"}, before) == []
    assert judge_spellings([], set(), before) == []
