"""Capture health: whether tables, triggers, functions and rights are such that every change is captured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from daemon.core.finding import Finding, Verdict, listed_in_short
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
    """The names stand in metrics, in `status` and in docs/operations.md."""

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
"""Checks of the catalogs, which come out the same in every replica."""


@dataclass(frozen=True, slots=True)
class InputFault:
    """A column of the SKU expression that the triggers can't read: `fault` is missing, virtual or type (its type is
    not what it was, but `type`)."""

    column: str
    fault: str
    type: str | None


@dataclass(frozen=True, slots=True)
class WatchedTable:
    """A watched table as the database has it now. `called`: its name there; None: it was dropped. `has_name`: it still
    has the name of its [[watch]]. `replacement_has_triggers`: whether the table that has that name now has triggers of
    ours; None: there is no such table. `input`: a column that can't be read any more; `broken`: the error of the SKU
    expression."""

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
    """One trigger that is not as it should be, on `relation`: the watched table `root`, or a partition of it."""

    root: int
    relation: str
    is_root: bool
    name: str
    fault: str


@dataclass(frozen=True, slots=True)
class FunctionFault:
    """One function of ours that was changed. `root`: the watched table that it captures; None: it serves all."""

    name: str
    fault: str
    root: int | None = None


@dataclass(frozen=True, slots=True)
class OpenFinding:
    """A finding as it is kept. `reporter`: the replica that it is about; empty: it holds for all replicas."""

    finding: Finding
    reporter: str
    since: datetime

    @property
    def identity(self) -> tuple[str, str, str]:
        return self.reporter, self.finding.check, self.finding.subject


def judge_table(table: WatchedTable) -> list[Finding]:
    """Judge whether a watched table still has its name, and a SKU that the triggers can read."""
    if table.called is None or (not table.has_name and table.replacement_has_triggers is not None):
        return [_judge_replacement(table)]
    uncaptured = "so each change has everything compared"
    if table.input is not None:
        why, advice = _input_fault(table.input)
        found = f"the SKU ({table.sku}) cannot be captured, {uncaptured}: {why}"
        return [Finding(Check.TABLES, table.name, found, advice)]
    if table.broken is not None:
        found = f"the SKU ({table.sku}) does not work any more, {uncaptured}: {table.broken}"
        return [Finding(Check.TABLES, table.name, found, f"correct watch.sku, then {MIGRATE}")]
    if not table.has_name:
        found = f"it is called {table.called} now; its changes are still captured"
        advice = f"write that name into watch.table, then {MIGRATE}"
        return [Finding(Check.TABLES, table.name, found, advice, Verdict.WARNING)]
    return []


def _input_fault(fault: InputFault) -> tuple[str, str]:
    """Return what is wrong with a column, and what to do about it."""
    column = f"the column {fault.column}"
    if fault.fault == "missing":
        return f"{column} is gone", f"correct watch.sku, then {MIGRATE}"
    if fault.fault == "type":
        return f"{column} has another type, {fault.type}", MIGRATE
    advice = f"make the column STORED, or write its expression as watch.sku; then {MIGRATE}"
    return f"{column} is a virtual generated one, which a trigger cannot read", advice


def _judge_replacement(table: WatchedTable) -> Finding:
    gone = "the table that was watched is gone"
    if table.replacement_has_triggers is None:
        advice = f"take it out of [[watch]], or make it again; then {MIGRATE}"
        return Finding(Check.TABLES, table.name, gone, advice)
    if table.replacement_has_triggers:
        found = f"{gone}; the triggers of the one that has its name were made for it (a restore?): its changes are "
        return Finding(Check.TABLES, table.name, found + "found late, or have everything compared", MIGRATE)
    found = f"{gone}: another one has its name, whose changes are not captured"
    return Finding(Check.TABLES, table.name, found, MIGRATE, is_lossy=True)


def judge_triggers(
    table: WatchedTable, faults: Sequence[TriggerFault], *, expects_always: bool
) -> list[Finding]:
    """Judge whether changes of the table and of its partitions are captured. `expects_always`: those of replicated
    sessions as well."""
    own = [fault for fault in faults if fault.root == table.relation]
    dead = [fault for fault in own if fault.fault != "origin"]
    findings = [
        Finding(check, table.name, _described(some), _remedy(some), is_lossy=True)
        for check, some in (
            (Check.TRIGGERS, [fault for fault in dead if fault.is_root]),
            (Check.PARTITIONS, [fault for fault in dead if not fault.is_root]),
        )
        if some
    ]
    asleep = [fault for fault in own if fault.fault == "origin"]
    if not asleep or findings or not expects_always:
        return findings
    names = ", ".join(sorted({fault.name for fault in asleep}))
    found = f"what a replicated session (session_replication_role = replica) writes is not captured: {names}"
    parts = sorted({fault.relation for fault in asleep if not fault.is_root})
    found += f"; also of {listed_in_short(parts, _SHOWN)}" if parts else ""
    advice = f"if no program writes like that, nothing; otherwise as the table's owner: {_enable(asleep)}"
    return [Finding(Check.TRIGGERS, table.name, found, advice, Verdict.WARNING, is_lossy=True)]


def _described(faults: Sequence[TriggerFault]) -> str:
    return listed_in_short(
        [f"{f.name} on {'' if f.is_root else 'partition '}{f.relation}: {FAULTS[f.fault]}" for f in faults],
        _SHOWN,
    )


def _remedy(faults: Sequence[TriggerFault]) -> str:
    """`migrate` makes a missing trigger, but leaves one disabled that somebody has disabled on purpose."""
    if all(fault.fault in ("disabled", "replica") for fault in faults):
        return f"as the table's owner: {_enable(faults)}"
    # `migrate` leaves a trigger alone that has the right name, event and function.
    altered = [f"DROP TRIGGER {f.name} ON {f.relation};" for f in faults if f.fault == "definition"]
    return f"as the table's owner: {' '.join(altered)} Then {MIGRATE}" if altered else MIGRATE


def _enable(faults: Sequence[TriggerFault]) -> str:
    return " ".join(f"ALTER TABLE {fault.relation} ENABLE ALWAYS TRIGGER {fault.name};" for fault in faults)


def judge_functions(faults: Sequence[FunctionFault], tables: Sequence[WatchedTable]) -> list[Finding]:
    """Judge whether our functions are as this program's migrations make them."""
    names: dict[int | None, str] = {table.relation: table.name for table in tables}
    findings = []
    for root in dict.fromkeys(fault.root for fault in faults if fault.root in {None, *names}):
        some = [f"stockrelay.{fault.name}: {FAULTS[fault.fault]}" for fault in faults if fault.root == root]
        found = f"not as `stockrelay migrate` made it: {listed_in_short(some, _SHOWN)}"
        again = (
            "make it again as the schema's owner: see `stockrelay migrate --sql`" if root is None else MIGRATE
        )
        advice = f"find out who changed it, and {again}"
        findings.append(Finding(Check.FUNCTIONS, names.get(root, ""), found, advice, is_lossy=True))
    return findings


def judge_owners(lacking: Mapping[str, Sequence[str]]) -> list[Finding]:
    """Judge the rights of the roles that the triggers run as; `lacking` has the GRANTs that each role lacks."""
    findings = []
    for owner, commands in lacking.items():
        revoked = [each for each in commands if " ON FUNCTION pg_catalog." in each]
        own = [each for each in commands if each not in revoked]
        lacks = ["rights in the schema stockrelay"] if own else []
        advice = [f"as the schema's owner: {' '.join(own)}"] if own else []
        if revoked:
            names = [each.split(" pg_catalog.")[1].split(" TO ")[0] for each in revoked]
            lacks.append(f"EXECUTE on {listed_in_short(names, _SHOWN)}")
            advice.append(f"as a superuser: {' '.join(revoked)}")
        found = f"the triggers run as {owner}, which lacks {' and '.join(lacks)}"
        findings.append(Finding(Check.RIGHTS, owner, found, "; ".join(advice), is_lossy=True))
    return findings


def judge_replication(
    sessions: Sequence[str], tables: Sequence[WatchedTable], faults: Sequence[TriggerFault]
) -> list[Finding]:
    """Judge whether a setting makes `sessions` replicated ones in which triggers of these tables do not fire. Triggers
    that are ENABLE ALWAYS fire in every session."""
    asleep = [fault for fault in faults if fault.fault == "origin"]
    roots = {fault.root for fault in asleep}
    names = ", ".join(table.name for table in tables if table.relation in roots)
    if not sessions or not names:
        return []
    found = f"session_replication_role is replica for {'; '.join(sessions)}: not captured: {names}"
    advice = f"as the tables' owner: {_enable(asleep)}, or take the setting back (ALTER ROLE or DATABASE ... RESET)"
    return [Finding(Check.REPLICATION, names, found, advice, is_lossy=True)]


def finding_notice(of: OpenFinding, *, is_over: bool) -> Notice:
    """Return the notice that a finding began, or is over: one for each finding and text."""
    finding, since = of.finding, of.since.isoformat()
    identity = ":".join(of.identity)
    data = {"check": finding.check, "subject": finding.subject, "is_lossy": finding.is_lossy, "since": since}
    if is_over:
        return Notice(CAPTURE_RECOVERED, f"capture_recovered:{identity}:{since}", None, data)
    data |= {"found": finding.found, "advice": finding.advice}
    return Notice(CAPTURE_FAILED, f"capture:{identity}:{since}:{finding.found}", None, data)
