"""The watched tables: there, with the SKU as configured, and with triggers that fire."""

from collections.abc import Mapping, Sequence

from daemon.check.findings import CheckFailed, Findings
from daemon.core.capture import MIGRATE, TriggerFault, WatchedTable, judge_triggers
from daemon.core.errors import StoreRefused
from daemon.settings import Settings, Watch
from daemon.store.dependencies import Dependencies
from daemon.store.inspect import Denied, Inspector, ServerInfo, Table


def names(watch: Watch) -> tuple[str, str]:
    return f"watch {watch.table}", f"triggers {watch.table}"


async def check_table(findings: Findings, inspector: Inspector, server: ServerInfo, watch: Watch) -> Table:
    """Return the watched table. Raises CheckFailed when it or the SKU expression does not work."""
    name, _ = names(watch)
    try:
        table = await inspector.table(watch.table)
    except Denied as error:
        schema = watch.table.rpartition(".")[0] or "..."
        advice = f"GRANT USAGE ON SCHEMA {schema} TO {server.quoted_role};"
        raise CheckFailed(str(error), advice) from error
    except StoreRefused as error:
        advice = f"write watch.table as in SQL, in quotes where needed: {watch.table}"
        raise CheckFailed(str(error), advice) from error
    if table is None:
        advice = "check watch.table: with its schema, and in quotes if it has capitals; does the role see it?"
        raise CheckFailed("there is no such table", advice)
    if not table.is_table:
        advice = "watch the tables below a view, each of them, and read the view in the listing"
        raise CheckFailed("this is not a table", advice)
    findings.passed(name, await _try_sku(inspector, table, watch))
    return table


async def _try_sku(inspector: Inspector, table: Table, watch: Watch) -> str:
    """Try the SKU expression, or the query for the SKUs of a row. Raises CheckFailed."""
    if watch.skus is None:
        try:
            await inspector.capturing.try_expression(table.name, watch.sku)
        except StoreRefused as error:
            advice = (
                f"check watch.sku; the table has: {', '.join(table.columns)}. Functions outside pg_catalog are written "
                "with their schema"
            )
            raise CheckFailed(f"the SKU ({watch.sku}) does not work: {error}", advice) from error
        return f"the SKU is {watch.sku}"
    try:
        await Dependencies(inspector.look).try_fan_out(table.name, watch.skus)
    except StoreRefused as error:
        advice = (
            "correct watch.skus: one SELECT of SKUs over the row `changed`, tables written with their schema"
        )
        raise CheckFailed(f"its query skus does not work: {error}", advice) from error
    return "its rows stand for the SKUs of a query (skus)"


def check_triggers(
    findings: Findings,
    watch: Watch,
    table: Table,
    watched: Mapping[int, WatchedTable],
    faults: Sequence[TriggerFault],
) -> None:
    """Whether changes of the table and of its partitions are captured, in every kind of session."""
    _, name = names(watch)
    if (found := watched.get(table.relation)) is None:
        missing = "no triggers have been made for this table: its changes are not captured"
        findings.failed(name, missing, MIGRATE)
    elif (captured := found.skus or found.sku) != (configured := watch.skus or watch.sku):
        other = f"the triggers take the SKU from {captured}, the configuration from {configured}"
        findings.failed(name, other, MIGRATE)
    else:
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
