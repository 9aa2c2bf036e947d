"""What is found of the doorbell, the canary and the reading: none of it loses a change."""

from dataclasses import replace

import pytest

from daemon.core.capture import MIGRATE, Check
from daemon.core.doorbell import (
    SILENCED_S,
    DoorbellState,
    bell_rings,
    judge_bell,
    unheard_canary,
    unread_canary,
    unreadable_bell,
)
from daemon.core.finding import Verdict

BELL = DoorbellState(is_on=True, silenced_s=0.0, fault=None, is_queue_full=False)
LATE = "changes are found up to 2 s late"


@pytest.mark.parametrize(
    ("bell", "wants", "found", "advice"),
    [
        (replace(BELL, is_on=False), True, f"off in the database, on in the configuration: {LATE}", MIGRATE),
        (BELL, False, "on in the database, off in the configuration: the ERP's commits still send", MIGRATE),
        (replace(BELL, fault="disabled"), True, "does not ring in every session", "ENABLE ALWAYS TRIGGER"),
        (replace(BELL, fault="replica"), True, "only in replicated sessions", "ENABLE ALWAYS TRIGGER"),
        (replace(BELL, fault="origin"), True, "not in replicated sessions", "ENABLE ALWAYS TRIGGER"),
        (replace(BELL, fault="missing"), True, f"missing: {LATE}", "prints CREATE CONSTRAINT TRIGGER"),
        (replace(BELL, silenced_s=SILENCED_S + 1), True, "silenced for longer", "clock is synchronised"),
        (replace(BELL, is_queue_full=True), True, "more than half full", "pg_stat_activity"),
    ],
)
def test_a_doorbell_that_does_not_ring_is_a_warning_that_says_how_late_changes_are(
    bell: DoorbellState, wants: bool, found: str, advice: str
) -> None:
    (finding,) = judge_bell(bell, wants=wants, poll_s=2.0)
    assert (finding.check, finding.subject) == (Check.DOORBELL, "stockrelay.bell")
    assert (finding.verdict, finding.is_lossy) == (Verdict.WARNING, False)
    assert found in finding.found
    assert advice in finding.advice
    assert wants is False or LATE in finding.found


@pytest.mark.parametrize(
    ("bell", "wants"),
    [
        (BELL, True),
        (replace(BELL, is_on=False), False),
        (replace(BELL, is_on=False, fault="missing"), False),
        (replace(BELL, silenced_s=SILENCED_S), True),
    ],
)
def test_a_doorbell_as_configured_is_no_finding(bell: DoorbellState, wants: bool) -> None:
    assert judge_bell(bell, wants=wants, poll_s=1.0) == []


def test_how_the_doorbell_works_is_said_where_transactions_are_prepared_too() -> None:
    assert bell_rings(BELL, poll_s=1.0) == "on"
    assert (
        bell_rings(replace(BELL, is_on=False), poll_s=1.5) == "off: changes are found by polling, every 1.5 s"
    )
    assert "max_prepared_transactions = 8) does not ring" in bell_rings(replace(BELL, prepared=8), poll_s=1.0)


@pytest.mark.parametrize(
    ("is_listening", "found"),
    [(True, "is not heard by the connection that listens"), (False, "the connection that listens is down")],
)
def test_a_canary_that_is_not_heard_names_the_replica_and_the_connection(
    is_listening: bool, found: str
) -> None:
    finding = unheard_canary("relay-0", is_listening=is_listening, poll_s=2.0)
    assert (finding.check, finding.subject) == (Check.CANARY, "listener of relay-0")
    assert (finding.verdict, finding.is_lossy) == (Verdict.WARNING, False)
    assert found in finding.found
    assert LATE in finding.found


def test_a_change_log_that_is_not_read_needs_an_operator_and_loses_nothing() -> None:
    finding = unread_canary()
    assert (finding.check, finding.verdict, finding.is_lossy) == (Check.READING, Verdict.FAILED, False)
    assert "intake.reading_failed" in finding.advice


def test_a_doorbell_that_cannot_be_looked_at_is_a_warning_with_the_reason() -> None:
    finding = unreadable_bell("permission denied")
    assert (finding.check, finding.verdict) == (Check.DOORBELL, Verdict.WARNING)
    assert finding.found.endswith("permission denied")
