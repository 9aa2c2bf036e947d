"""What is found of tables, triggers, functions and rights, and what an operator has to do about it."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from daemon.core.capture import (
    FAULTS,
    MIGRATE,
    Check,
    FunctionFault,
    InputFault,
    OpenFinding,
    TriggerFault,
    WatchedTable,
    finding_notice,
    judge_functions,
    judge_owners,
    judge_replication,
    judge_table,
    judge_triggers,
)
from daemon.core.finding import Finding, Verdict
from daemon.core.notice import CAPTURE_FAILED, CAPTURE_RECOVERED

TABLE = WatchedTable(
    7, "erp.stock", "sku", is_always=True, called="erp.stock", has_name=True, replacement_has_triggers=None
)
GONE = replace(TABLE, called=None, has_name=False)


def fault(name: str, relation: str = "erp.stock", *, root: int = 7, is_root: bool = True) -> TriggerFault:
    return TriggerFault(root, relation, is_root, "stockrelay_update", name)


@pytest.mark.parametrize(
    ("table", "found", "advice", "verdict", "is_lossy"),
    [
        (
            GONE,
            "the table that was watched is gone",
            f"take it out of [[watch]], or make it again; then {MIGRATE}",
            Verdict.FAILED,
            False,
        ),
        (replace(GONE, replacement_has_triggers=True), "(a restore?)", MIGRATE, Verdict.FAILED, False),
        (
            replace(GONE, replacement_has_triggers=False),
            "another one has its name, whose changes are not captured",
            MIGRATE,
            Verdict.FAILED,
            True,
        ),
        (
            replace(TABLE, called="erp.old", has_name=False, replacement_has_triggers=False),
            "whose changes are not captured",
            MIGRATE,
            Verdict.FAILED,
            True,
        ),
        (
            replace(TABLE, called="erp.moved", has_name=False),
            "it is called erp.moved now; its changes are still captured",
            "write that name into watch.table",
            Verdict.WARNING,
            False,
        ),
        (
            replace(TABLE, input=InputFault("sku", "missing", None)),
            "the column sku is gone",
            "correct watch.sku",
            Verdict.FAILED,
            False,
        ),
        (
            replace(TABLE, input=InputFault("sku", "virtual", None)),
            "a virtual generated one, which a trigger cannot read",
            "make the column STORED",
            Verdict.FAILED,
            False,
        ),
        (
            replace(TABLE, input=InputFault("sku", "type", "bigint")),
            "the column sku has another type, bigint",
            MIGRATE,
            Verdict.FAILED,
            False,
        ),
        (
            replace(TABLE, broken="function f(text) does not exist"),
            "so each change has everything compared: function f(text) does not exist",
            "correct watch.sku",
            Verdict.FAILED,
            False,
        ),
    ],
)
def test_a_watched_table_that_changed_is_named_with_what_to_do(
    table: WatchedTable, found: str, advice: str, verdict: Verdict, is_lossy: bool
) -> None:
    (finding,) = judge_table(table)
    assert (finding.check, finding.subject) == (Check.TABLES, "erp.stock")
    assert found in finding.found
    assert advice in finding.advice
    assert (finding.verdict, finding.is_lossy) == (verdict, is_lossy)


def test_nothing_is_found_of_a_table_as_migrate_left_it() -> None:
    assert judge_table(TABLE) == []
    assert judge_triggers(TABLE, [fault("missing", root=8)], expects_always=True) == []
    assert judge_functions([], [TABLE]) == judge_replication([], [TABLE], []) == judge_owners({}) == []


@pytest.mark.parametrize(
    ("faults", "advice"),
    [
        (["disabled"], "ALTER TABLE erp.stock ENABLE ALWAYS TRIGGER stockrelay_update;"),
        (["replica", "disabled"], "ENABLE ALWAYS TRIGGER"),
        (["missing", "disabled"], MIGRATE),
        (
            ["definition"],
            f"as the table's owner: DROP TRIGGER stockrelay_update ON erp.stock; Then {MIGRATE}",
        ),
    ],
)
def test_what_migrate_leaves_alone_is_left_to_the_tables_owner(faults: list[str], advice: str) -> None:
    (finding,) = judge_triggers(TABLE, [fault(name) for name in faults], expects_always=True)
    assert finding.check == Check.TRIGGERS
    assert advice in finding.advice
    assert finding.is_lossy


def test_partitions_are_named_apart_from_their_table() -> None:
    parts = [fault("missing", f"erp.part{n}", is_root=False) for n in range(6)]
    table, partitions = judge_triggers(TABLE, [fault("function"), *parts], expects_always=True)
    assert table.found == f"stockrelay_update on erp.stock: {FAULTS['function']}"
    assert partitions.check == Check.PARTITIONS
    assert "stockrelay_update on partition erp.part0: missing" in partitions.found
    assert partitions.found.endswith("; and 2 more")


@pytest.mark.parametrize(
    ("faults", "expects_always", "is_found"),
    [(["origin"], True, True), (["origin"], False, False), (["origin", "missing"], True, False)],
)
def test_triggers_that_miss_replicated_sessions_are_a_warning_where_these_count(
    faults: list[str], expects_always: bool, is_found: bool
) -> None:
    findings = judge_triggers(TABLE, [fault(name) for name in faults], expects_always=expects_always)
    warnings = [finding for finding in findings if finding.verdict is Verdict.WARNING]
    assert bool(warnings) is is_found
    assert all("a replicated session" in finding.found and finding.is_lossy for finding in warnings)


def test_replicated_sessions_are_reported_only_where_a_trigger_does_not_fire_in_them() -> None:
    sessions, tables = ["role repl", "database erp"], [TABLE, replace(TABLE, relation=8, name="erp.other")]
    assert judge_replication(sessions, tables, [fault("disabled")]) == []
    assert judge_replication([], tables, [fault("origin")]) == []
    (finding,) = judge_replication(sessions, tables, [fault("origin")])
    assert (finding.subject, finding.is_lossy) == ("erp.stock", True)
    assert "role repl; database erp" in finding.found
    assert "ENABLE ALWAYS" in finding.advice


def test_changed_functions_are_found_for_each_table_and_for_all() -> None:
    common = [FunctionFault(f"take_{n}", "source") for n in range(5)]
    faults = [*common, FunctionFault("capture_7_u", "definer", 7), FunctionFault("capture_9_u", "source", 9)]
    everywhere, own = judge_functions(faults, [TABLE])
    assert everywhere.subject == ""
    assert everywhere.found.endswith("; and 1 more")
    assert "stockrelay migrate --sql" in everywhere.advice
    assert (own.subject, own.found) == (
        "erp.stock",
        f"not as `stockrelay migrate` made it: stockrelay.capture_7_u: {FAULTS['definer']}",
    )
    assert own.advice.endswith(MIGRATE)
    assert everywhere.is_lossy
    assert own.is_lossy


def test_lacking_rights_are_named_with_who_has_to_grant_them() -> None:
    own = "GRANT INSERT ON stockrelay.change_0 TO erp;"
    built_in = "GRANT EXECUTE ON FUNCTION pg_catalog.pg_notify(text,text) TO erp;"
    (both,) = judge_owners({"erp": [own, built_in]})
    assert both.found == (
        "the triggers run as erp, which lacks rights in the schema stockrelay and EXECUTE on pg_notify(text,text)"
    )
    assert both.advice == f"as the schema's owner: {own}; as a superuser: {built_in}"
    (only,) = judge_owners({"erp": [own]})
    assert (only.advice, only.is_lossy) == (f"as the schema's owner: {own}", True)


@pytest.mark.parametrize("reporter", ["", "relay-0/1/6f3a"])
def test_a_finding_is_notified_once_for_each_text_and_once_when_it_is_over(reporter: str) -> None:
    finding = Finding(Check.TRIGGERS, "erp.stock", "disabled", "enable it", is_lossy=True)
    opened = OpenFinding(finding, reporter, datetime(2026, 11, 22, 2, 3, tzinfo=UTC))
    began, over = finding_notice(opened, is_over=False), finding_notice(opened, is_over=True)
    worse = finding_notice(replace(opened, finding=replace(finding, found="two are off")), is_over=False)
    later = finding_notice(replace(opened, since=datetime(2026, 11, 23, tzinfo=UTC)), is_over=True)
    assert (began.kind, over.kind) == (CAPTURE_FAILED, CAPTURE_RECOVERED)
    assert len({began.key, over.key, worse.key, later.key}) == 4
    assert began.key == finding_notice(opened, is_over=False).key
    shared = {
        "check": "triggers",
        "subject": "erp.stock",
        "is_lossy": True,
        "since": opened.since.isoformat(),
    }
    assert over.data == shared
    assert began.data == {**shared, "found": "disabled", "advice": "enable it"}
