"""The watched tables: there, with the SKU as configured, and with triggers that fire."""

from collections.abc import Mapping, Sequence

from daemon.check.findings import Findings
from daemon.core.capture import MIGRATE, TriggerFault, WatchedTable, judge_triggers
from daemon.core.errors import StoreRefused
from daemon.settings import Settings, Watch
from daemon.store.dependencies import Dependencies
from daemon.store.inspect import Denied, Inspector, ServerInfo, Table


def names(watch: Watch) -> tuple[str, str]:
    """What the two checks of one watched table are called."""
    return f"watch {watch.table}", f"triggers {watch.table}"


async def check_table(
    findings: Findings, inspector: Inspector, server: ServerInfo, watch: Watch
) -> Table | None:
    """Return the watched table, when it and the SKU expression work."""
    name, _ = names(watch)
    try:
        table = await inspector.table(watch.table)
    except Denied as error:
        schema = watch.table.rpartition(".")[0] or "..."
        findings.failed(name, str(error), f"GRANT USAGE ON SCHEMA {schema} TO {server.quoted_role};")
        return None
    except StoreRefused as error:
        findings.failed(
            name, str(error), f"write watch.table as in SQL, in quotes where needed: {watch.table}"
        )
        return None
    if table is None:
        advice = "check watch.table: with its schema, and in quotes if it has capitals; does the role see it?"
        findings.failed(name, "there is no such table", advice)
        return None
    if not table.is_table:
        advice = "watch the tables below a view, each of them, and read the view in the listing"
        findings.failed(name, "this is not a table", advice)
        return None
    works = await _check_sku(findings, name, inspector, table, watch)
    return table if works else None


async def _check_sku(findings: Findings, name: str, inspector: Inspector, table: Table, watch: Watch) -> bool:
    """Try the SKU expression, or the query for the SKUs of a row."""
    if watch.skus is None:
        try:
            await inspector.capturing.try_expression(table.name, watch.sku)
        except StoreRefused as error:
            advice = (
                f"check watch.sku; the table has: {', '.join(table.columns)}. Functions outside pg_catalog are written "
                "with their schema"
            )
            findings.failed(name, f"the SKU ({watch.sku}) does not work: {error}", advice)
            return False
        findings.passed(name, f"the SKU is {watch.sku}")
        return True
    try:
        await Dependencies(inspector.look).try_fan_out(table.name, watch.skus)
    except StoreRefused as error:
        advice = (
            "correct watch.skus: one SELECT of SKUs over the row `changed`, tables written with their schema"
        )
        findings.failed(name, f"its query skus does not work: {error}", advice)
        return False
    findings.passed(name, "its rows stand for the SKUs of a query (skus)")
    return True


def check_triggers(
    findings: Findings,
    watch: Watch,
    table: Table,
    watched: Mapping[int, WatchedTable],
    faults: Sequence[TriggerFault],
) -> None:
    """Whether changes of the table and of its partitions are captured, in every kind of session."""
    _, name = names(watch)
    if table.relation not in watched:
        findings.failed(
            name, "no triggers have been made for this table: its changes are not captured", MIGRATE
        )
        return
    found = watched[table.relation]
    captured, configured = found.skus or found.sku, watch.skus or watch.sku
    if captured != configured:
        findings.failed(
            name,
            f"the triggers take the SKU from {captured}, the configuration from {configured}",
            MIGRATE,
        )
        return
    wrong = judge_triggers(found, faults, expects_always=True)
    findings.add(name, wrong, "INSERT, UPDATE, DELETE and TRUNCATE are captured")


def check_leftovers(
    findings: Findings, settings: Settings, watched: Mapping[int, WatchedTable], found: Sequence[Table]
) -> None:
    """Tables that have triggers of ours and are no longer in the configuration."""
    known = {table.relation for table in found}
    configured = {watch.table for watch in settings.watch}
    for relation, table in watched.items():
        if relation not in known and table.name not in configured:
            findings.warn(
                f"triggers {table.name}", "still captured, but not in the configuration any more", MIGRATE
            )
