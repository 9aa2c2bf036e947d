"""The watched tables: there, with the SKU as configured, and with triggers that fire."""

from collections.abc import Mapping, Sequence
from typing import Final

from daemon.check.findings import Findings
from daemon.core.errors import StoreRefused
from daemon.settings import Settings
from daemon.settings.model import Watch
from daemon.store.inspect import Denied, Inspector, Server, Table, Trigger

_MIGRATE: Final = "run `stockrelay migrate` as the schema's owner"
_STATES: Final[Mapping[str | None, str]] = {
    None: "missing",
    "D": "disabled",
    "R": "only in replicated sessions",
}
_SHOWN: Final = 4


def names(watch: Watch) -> tuple[str, str]:
    """What the two checks of one watched table are called."""
    return f"watch {watch.table}", f"triggers {watch.table}"


async def check_table(findings: Findings, inspector: Inspector, server: Server, watch: Watch) -> Table | None:
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
    try:
        await inspector.try_expression(table.name, watch.sku)
    except StoreRefused as error:
        columns = ", ".join(table.columns)
        findings.failed(
            name,
            f"the SKU ({watch.sku}) does not work: {error}",
            f"check watch.sku; the table has: {columns}. Functions outside pg_catalog are written with their schema",
        )
        return None
    findings.passed(name, f"the SKU is {watch.sku}")
    return table


async def check_triggers(
    findings: Findings,
    inspector: Inspector,
    watch: Watch,
    table: Table,
    watched: Mapping[int, tuple[str, str]],
) -> None:
    """Whether changes of the table and of its partitions are captured, in every kind of session."""
    _, name = names(watch)
    if table.relation not in watched:
        findings.failed(
            name, "no triggers have been made for this table: its changes are not captured", _MIGRATE
        )
        return
    _, sku = watched[table.relation]
    if sku != watch.sku:
        findings.failed(
            name, f"the triggers take the SKU from {sku}, the configuration from {watch.sku}", _MIGRATE
        )
        return
    with findings.guarding(name):
        faulty = await inspector.faulty_triggers(table.relation)
        dead = [trigger for trigger in faulty if trigger.state != "O"]
        if dead:
            findings.failed(name, _told(dead), _remedy(dead))
        elif faulty:
            findings.warn(
                name,
                f"changes that a replicated session makes are not captured: {_told(faulty)}",
                f"as the table's owner: {_enable(faulty)}",
            )
        else:
            findings.passed(name, "INSERT, UPDATE, DELETE and TRUNCATE are captured")


def check_leftovers(
    findings: Findings, settings: Settings, watched: Mapping[int, tuple[str, str]], found: Sequence[Table]
) -> None:
    """Tables that have triggers of ours and are no longer in the configuration."""
    known = {table.relation for table in found}
    configured = {watch.table for watch in settings.watch}
    for relation, (table, _) in watched.items():
        if relation not in known and table not in configured:
            findings.warn(
                f"triggers {table}", "still captured, but not in the configuration any more", _MIGRATE
            )


def _told(triggers: Sequence[Trigger]) -> str:
    words = [
        f"{trigger.name} on {'' if trigger.is_root else 'partition '}{trigger.relation}: "
        f"{_STATES.get(trigger.state, 'not in replicated sessions')}"
        for trigger in triggers[:_SHOWN]
    ]
    more = len(triggers) - _SHOWN
    return "; ".join(words) + (f"; and {more} more" if more > 0 else "")


def _remedy(triggers: Sequence[Trigger]) -> str:
    """`migrate` makes what is missing; what somebody disabled on purpose is theirs to enable."""
    disabled = [trigger for trigger in triggers if trigger.state is not None]
    if len(disabled) < len(triggers):
        return _MIGRATE
    return f"as the table's owner: {_enable(disabled)}"


def _enable(triggers: Sequence[Trigger]) -> str:
    return " ".join(
        f"ALTER TABLE {trigger.relation} ENABLE ALWAYS TRIGGER {trigger.name};" for trigger in triggers
    )
