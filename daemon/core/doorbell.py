"""Whether the doorbell rings and is heard, and whether the change log is read."""

from dataclasses import dataclass
from typing import Final

from daemon.core.capture import FAULTS, MIGRATE, Check
from daemon.core.finding import Finding, Verdict

SILENCED_S: Final = 60.0
"""No intake silences the bell for longer."""
_SUBJECT: Final = "stockrelay.bell"


@dataclass(frozen=True, slots=True)
class DoorbellState:
    """The doorbell as the database has it. `fault`: of its trigger; `prepared`: max_prepared_transactions."""

    is_on: bool
    silenced_s: float
    fault: str | None
    is_queue_full: bool
    prepared: int = 0


def judge_bell(bell: DoorbellState, *, wants: bool, poll_s: float) -> list[Finding]:
    """Judge whether the doorbell is as configured, and can ring. Nothing is lost when it is not: changes are polled
    for."""
    problem = _problem(bell, f"changes are found up to {poll_s:g} s late", wants=wants)
    return [Finding(Check.DOORBELL, _SUBJECT, *problem, Verdict.WARNING)] if problem else []


def _problem(bell: DoorbellState, late: str, *, wants: bool) -> tuple[str, str] | None:
    """Return what is wrong with the doorbell, and what to do about it."""
    if wants != bell.is_on:
        words = {True: "on", False: "off"}
        effect = late if wants else "the ERP's commits still send notifications"
        return f"{words[bell.is_on]} in the database, {words[wants]} in the configuration: {effect}", MIGRATE
    if not bell.is_on:
        return None
    if bell.fault is not None:
        found = f"stockrelay_ring on {_SUBJECT}: {FAULTS[bell.fault]}: {late}"
        if bell.fault in ("disabled", "replica", "origin"):
            enable = f"ALTER TABLE {_SUBJECT} ENABLE ALWAYS TRIGGER stockrelay_ring;"
            return f"does not ring in every session: {found}", f"as the schema's owner: {enable}"
        again = "`stockrelay migrate --sql` prints CREATE CONSTRAINT TRIGGER"
        return found, f"make it again as the schema's owner: {again}"
    if bell.silenced_s > SILENCED_S:
        found = (
            f"silenced for longer than any intake does, as if the database's clock had been set back: {late}"
        )
        return found, "nothing: the daemon has it ring again; see that the database's clock is synchronised"
    if bell.is_queue_full:
        advice = "see in pg_stat_activity which session listens and stays in a transaction, and end it"
        return f"the server's notification queue is more than half full: {late}", advice
    return None


def unreadable_bell(reason: str) -> Finding:
    """Return the finding that the doorbell could not be looked at."""
    advice = "see what the database says; `stockrelay check` names the rights that are lacking"
    return Finding(Check.DOORBELL, _SUBJECT, f"cannot be looked at: {reason}", advice, Verdict.WARNING)


def bell_rings(bell: DoorbellState, *, poll_s: float) -> str:
    """Say how a doorbell works that is as it should be."""
    if not bell.is_on:
        return f"off: changes are found by polling, every {poll_s:g} s"
    if not bell.prepared:
        return "on"
    return (
        f"on; a transaction that is prepared (max_prepared_transactions = {bell.prepared}) does not ring: "
        f"its changes are found by polling, every {poll_s:g} s"
    )


def unheard_canary(replica: str, *, is_listening: bool, poll_s: float) -> Finding:
    """Return the finding that the rings of changes do not reach this replica."""
    found = "a change's ring is not heard by the connection that listens"
    found = found if is_listening else "the connection that listens is down"
    found += f": changes are found up to {poll_s:g} s late"
    advice = "see whether notifications arrive: `stockrelay check`; database.listen_dsn leads straight to the primary"
    return Finding(Check.CANARY, f"listener of {replica}", found, advice, Verdict.WARNING)


def unread_canary() -> Finding:
    """Return the finding that the change log is not read."""
    advice = "see intake.reading_failed and intake.reading_delayed in the log; run `stockrelay check`"
    found = "changes are captured but not read: nothing new is sent"
    return Finding(Check.READING, "change log", found, advice)
