"""Whether the doorbell rings and is heard, and the change log is read: what was seen of it, and what is wrong. Pure."""

from dataclasses import dataclass
from typing import Final

from daemon.core.capture import FAULTS, MIGRATE, Check
from daemon.core.finding import Finding, Verdict

SILENCED_S: Final = 60.0
"""No intake that is awake silences the bell for longer."""


@dataclass(frozen=True, slots=True)
class DoorbellState:
    """The doorbell as the database has it. `fault`: of its trigger; `prepared`: max_prepared_transactions."""

    is_on: bool
    silenced_s: float
    fault: str | None
    is_queue_full: bool
    prepared: int = 0


def judge_bell(bell: DoorbellState, *, wants: bool, poll_s: float) -> list[Finding]:
    """Whether the doorbell is as configured, and can ring. Nothing is lost when it is not: changes are polled for."""
    subject = "stockrelay.bell"
    late = f"changes are found up to {poll_s:g} s late"

    def warning(found: str, advice: str) -> list[Finding]:
        return [Finding(Check.DOORBELL, subject, found, advice, verdict=Verdict.WARNING, is_lossy=False)]

    if wants != bell.is_on:
        words = {True: "on", False: "off"}
        found = f"{words[bell.is_on]} in the database, {words[wants]} in the configuration"
        return warning(
            found + (f": {late}" if wants else ": the ERP's commits still send notifications"), MIGRATE
        )
    if not bell.is_on:
        return []
    if bell.fault in ("disabled", "replica", "origin"):
        enable = f"ALTER TABLE {subject} ENABLE ALWAYS TRIGGER stockrelay_ring;"
        found = f"does not ring in every session: stockrelay_ring on {subject}: {FAULTS[bell.fault]}"
        return warning(f"{found}: {late}", f"as the schema's owner: {enable}")
    if bell.fault is not None:
        found = f"stockrelay_ring on {subject}: {FAULTS[bell.fault]}: {late}"
        return warning(
            found,
            "make it again as the schema's owner: `stockrelay migrate --sql` prints CREATE CONSTRAINT TRIGGER",
        )
    if bell.silenced_s > SILENCED_S:
        return warning(
            f"silenced for longer than anybody may, as if the database's clock had been set back: {late}",
            "nothing: the daemon has it ring again; see that the database's clock is synchronised",
        )
    if bell.is_queue_full:
        return warning(
            f"the server's notification queue is more than half full: {late}",
            "see in pg_stat_activity which session listens and stays in a transaction, and end it",
        )
    return []


def bell_unseen(reason: str) -> Finding:
    """The doorbell could not be looked at."""
    advice = "see what the database says; `stockrelay check` names the rights that are lacking"
    return Finding(
        Check.DOORBELL,
        "stockrelay.bell",
        f"cannot be looked at: {reason}",
        advice,
        verdict=Verdict.WARNING,
        is_lossy=False,
    )


def bell_rings(bell: DoorbellState, *, poll_s: float) -> str:
    """How a doorbell that is as it should be works, in words."""
    if not bell.is_on:
        return f"off: changes are found by polling, every {poll_s:g} s"
    if not bell.prepared:
        return "on"
    return (
        f"on; a transaction that is prepared (max_prepared_transactions = {bell.prepared}) does not ring: "
        f"its changes are found by polling, every {poll_s:g} s"
    )


def canary_unheard(replica: str, *, is_listening: bool, poll_s: float) -> Finding:
    """What a change's ring does not reach: the replica's listener."""
    found = (
        "a change's ring is not heard by the connection that listens"
        if is_listening
        else "the connection that listens is down"
    )
    advice = "see whether notifications arrive: `stockrelay check`; database.listen_dsn leads straight to the primary"
    late = f"{found}: changes are found up to {poll_s:g} s late"
    return Finding(
        Check.CANARY, f"listener of {replica}", late, advice, verdict=Verdict.WARNING, is_lossy=False
    )


def canary_unread() -> Finding:
    """The finding that the change log is not read."""
    return Finding(
        Check.READING,
        "change log",
        "changes are captured but not read: nothing new is sent",
        "see intake.reading_failed and intake.reading_delayed in the log; run `stockrelay check`",
        is_lossy=False,
    )
