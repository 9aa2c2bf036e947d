"""Capture health: what was seen of triggers, functions and doorbell, and what is wrong with it, in words. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from daemon.core.finding import Finding, Verdict
from daemon.core.notice import CAPTURE_FAILED, CAPTURE_RECOVERED, Notice

MIGRATE: Final = "run `stockrelay migrate` as the schema's owner"
_SHOWN: Final = 4
FAULTS: Final[Mapping[str, str]] = {
    "missing": "missing",
    "disabled": "disabled",
    "replica": "only in replicated sessions",
    "origin": "not in replicated sessions",
    "function": "calls another function",
    "definition": "fires for other events, rows or columns",
    "source": "another text",
    "definer": "with another's rights",
    "path": "with another search_path",
}


class Check(StrEnum):
    """What is looked at; the names stand in metrics, in `status` and in docs/operations.md."""

    TABLES = "tables"
    TRIGGERS = "triggers"
    PARTITIONS = "partitions"
    FUNCTIONS = "functions"
    RIGHTS = "rights"
    REPLICATION = "replication"
    LISTINGS = "listings"
    SPELLING = "spelling"
    DOORBELL = "doorbell"
    CANARY = "canary"
    READING = "reading"


SHARED: Final = tuple(check for check in Check if check not in (Check.CANARY, Check.READING))
"""What the catalogs say, to any replica the same."""


@dataclass(frozen=True, slots=True)
class InputFault:
    """A column that the SKU reads and the triggers can't: missing, virtual, or of another `type` than it was."""

    column: str
    fault: str
    type: str | None


@dataclass(frozen=True, slots=True)
class WatchedTable:
    """A watched table as it is found now. `called`: its name, None where it is gone. `replacement_has_triggers`:
    whether the table that has its name now has triggers of ours, None where there is none. `input`: a column of the SKU
    that can't be read any more; `broken`: why the SKU does not work."""

    relation: int
    name: str
    sku: str
    is_always: bool
    called: str | None
    has_name: bool
    replacement_has_triggers: bool | None
    input: InputFault | None = None
    broken: str | None = None
    skus: str | None = None


@dataclass(frozen=True, slots=True)
class TriggerFault:
    """One trigger that is not as it should be, on the table `relation`, which is watched as (a part of) `root`."""

    root: int
    relation: str
    is_root: bool
    name: str
    fault: str


@dataclass(frozen=True, slots=True)
class FunctionFault:
    """One function that is not what the program makes it; `root`: the watched table that it captures."""

    name: str
    fault: str
    root: int | None = None


@dataclass(frozen=True, slots=True)
class OpenFinding:
    """A finding as it is kept: who reports it ('': all replicas alike), and since when."""

    finding: Finding
    reporter: str
    since: datetime

    @property
    def identity(self) -> tuple[str, str, str]:
        return self.reporter, self.finding.check, self.finding.subject


def judge_table(table: WatchedTable) -> list[Finding]:
    """Whether a watched table is still what is watched, and its SKU still in it."""
    if table.called is None or (not table.has_name and table.replacement_has_triggers is not None):
        return [_judge_replacement(table)]
    if table.input is not None:
        return [_judge_input(table, table.input)]
    if table.broken is not None:
        found = f"the SKU ({table.sku}) does not work any more, so each change has everything compared: {table.broken}"
        advice = f"correct watch.sku, then {MIGRATE}"
        return [Finding(Check.TABLES, table.name, found, advice, is_lossy=False)]
    if not table.has_name:
        found = f"it is called {table.called} now; its changes are still captured"
        advice = f"write that name into watch.table, then {MIGRATE}"
        return [Finding(Check.TABLES, table.name, found, advice, verdict=Verdict.WARNING, is_lossy=False)]
    return []


def _judge_input(table: WatchedTable, fault: InputFault) -> Finding:
    why, advice = {
        "missing": (f"the column {fault.column} is gone", f"correct watch.sku, then {MIGRATE}"),
        "virtual": (
            f"the column {fault.column} is a virtual generated one, which a trigger cannot read",
            f"make the column STORED, or write its expression as watch.sku; then {MIGRATE}",
        ),
        "type": (f"the column {fault.column} has another type, {fault.type}", MIGRATE),
    }[fault.fault]
    found = f"the SKU ({table.sku}) cannot be captured, so each change has everything compared: {why}"
    return Finding(Check.TABLES, table.name, found, advice, is_lossy=False)


def _judge_replacement(table: WatchedTable) -> Finding:
    gone = "the table that was watched is gone"
    if table.replacement_has_triggers is None:
        advice = f"take it out of [[watch]], or make it again; then {MIGRATE}"
        return Finding(Check.TABLES, table.name, gone, advice, is_lossy=False)
    if table.replacement_has_triggers:
        found = (
            f"{gone}; the triggers of the one that has its name were made for it (a restore?): its changes "
        )
        found += "are found late, or have everything compared"
        return Finding(Check.TABLES, table.name, found, MIGRATE, is_lossy=False)
    found = f"{gone}: another one has its name, whose changes are not captured"
    return Finding(Check.TABLES, table.name, found, MIGRATE)


def judge_triggers(
    table: WatchedTable, faults: Sequence[TriggerFault], *, expects_always: bool
) -> list[Finding]:
    """Whether changes of the table and of its parts are captured. `expects_always`: in replicated sessions as well."""
    own = [fault for fault in faults if fault.root == table.relation]
    dead = [fault for fault in own if fault.fault != "origin"]
    findings = [
        Finding(check, table.name, _told(some), _remedy(some))
        for check, some in (
            (Check.TRIGGERS, [fault for fault in dead if fault.is_root]),
            (Check.PARTITIONS, [fault for fault in dead if not fault.is_root]),
        )
        if some
    ]
    asleep = [fault for fault in own if fault.fault == "origin"]
    if not asleep or findings or not expects_always:
        return findings
    found = f"changes that a replicated session makes are not captured: {_told(asleep)}"
    return [
        Finding(
            Check.TRIGGERS,
            table.name,
            found,
            f"as the table's owner: {_enable(asleep)}",
            verdict=Verdict.WARNING,
        )
    ]


def _told(faults: Sequence[TriggerFault]) -> str:
    words = [
        f"{fault.name} on {'' if fault.is_root else 'partition '}{fault.relation}: {FAULTS[fault.fault]}"
        for fault in faults[:_SHOWN]
    ]
    more = len(faults) - _SHOWN
    return "; ".join(words) + (f"; and {more} more" if more > 0 else "")


def _remedy(faults: Sequence[TriggerFault]) -> str:
    """`migrate` makes what is missing; what somebody disabled on purpose is theirs to enable."""
    if all(fault.fault in ("disabled", "replica") for fault in faults):
        return f"as the table's owner: {_enable(faults)}"
    # A trigger of the right name, event and function is left as it is.
    altered = [f"DROP TRIGGER {f.name} ON {f.relation};" for f in faults if f.fault == "definition"]
    return f"as the table's owner: {' '.join(altered)} Then {MIGRATE}" if altered else MIGRATE


def _enable(faults: Sequence[TriggerFault]) -> str:
    return " ".join(f"ALTER TABLE {fault.relation} ENABLE ALWAYS TRIGGER {fault.name};" for fault in faults)


def judge_functions(faults: Sequence[FunctionFault], tables: Sequence[WatchedTable]) -> list[Finding]:
    """Whether our functions are what this program made them."""
    names = {table.relation: table.name for table in tables}
    findings = []
    for root in dict.fromkeys(fault.root for fault in faults):
        some = [fault for fault in faults if fault.root == root]
        found = "not as `stockrelay migrate` made it: "
        found += "; ".join(f"stockrelay.{fault.name}: {FAULTS[fault.fault]}" for fault in some[:_SHOWN])
        found += f"; and {len(some) - _SHOWN} more" if len(some) > _SHOWN else ""
        if root is None:
            remedy = "make it again as the schema's owner: see `stockrelay migrate --sql`"
            findings.append(Finding(Check.FUNCTIONS, "", found, f"find out who changed it, and {remedy}"))
        elif root in names:
            findings.append(
                Finding(Check.FUNCTIONS, names[root], found, f"find out who changed it, and {MIGRATE}")
            )
    return findings


def judge_owners(lacking: Mapping[str, Sequence[str]]) -> list[Finding]:
    """Whether the roles that the triggers run as may still do what they do; `lacking` are the GRANTs by role."""
    findings = []
    for owner, commands in lacking.items():
        revoked = [each for each in commands if " ON FUNCTION pg_catalog." in each]
        own = [each for each in commands if each not in revoked]
        lacks = ["rights in the schema stockrelay"] if own else []
        if revoked:
            names = ", ".join(each.split(" pg_catalog.")[1].split(" TO ")[0] for each in revoked[:_SHOWN])
            more = len(revoked) - _SHOWN
            lacks.append(f"EXECUTE on {names}" + (f" and {more} more" if more > 0 else ""))
        advice = [f"as the schema's owner: {' '.join(own)}"] if own else []
        advice += [f"as a superuser: {' '.join(revoked)}"] if revoked else []
        found = f"the triggers run as {owner}, which lacks {' and '.join(lacks)}"
        findings.append(Finding(Check.RIGHTS, owner, found, "; ".join(advice)))
    return findings


def judge_replication(
    sessions: Sequence[str], tables: Sequence[WatchedTable], faults: Sequence[TriggerFault]
) -> list[Finding]:
    """Whether somebody works in replicated sessions by a setting while triggers do not fire in those.

    Triggers that are ENABLE ALWAYS fire there as anywhere: nothing is lost, and nothing is said.
    """
    asleep = [fault for fault in faults if fault.fault == "origin"]
    roots = {fault.root for fault in asleep}
    names = [table.name for table in tables if table.relation in roots]
    if not sessions or not names:
        return []
    found = f"session_replication_role is replica for {'; '.join(sessions)}: not captured: {', '.join(names)}"
    advice = f"as the tables' owner: {_enable(asleep)}, or take the setting back (ALTER ROLE or DATABASE ... RESET)"
    return [Finding(Check.REPLICATION, ", ".join(names), found, advice)]


def failure_notice(opened: OpenFinding) -> Notice:
    """The notice of a finding: one per finding and text."""
    finding, since = opened.finding, opened.since.isoformat()
    data = {
        "check": finding.check,
        "subject": finding.subject,
        "found": finding.found,
        "advice": finding.advice,
        "is_lossy": finding.is_lossy,
        "since": since,
    }
    key = f"capture:{':'.join(opened.identity)}:{since}:{finding.found}"
    return Notice(CAPTURE_FAILED, key, None, data)


def recovery_notice(ended: OpenFinding) -> Notice:
    """The notice that a finding is over."""
    finding, since = ended.finding, ended.since.isoformat()
    data = {
        "check": finding.check,
        "subject": finding.subject,
        "is_lossy": finding.is_lossy,
        "since": since,
    }
    return Notice(CAPTURE_RECOVERED, f"capture_recovered:{':'.join(ended.identity)}:{since}", None, data)
