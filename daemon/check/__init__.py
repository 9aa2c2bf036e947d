"""`stockrelay check`: looks at everything the daemon relies on, as the daemon would, and changes nothing."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Final

from daemon.app.building import connect_options, listings
from daemon.check import coverage, listing, marketplace, notify, privacy, schema, server, watches
from daemon.check.findings import Findings
from daemon.core.capture import TriggerFault
from daemon.core.errors import ConfigError, StockrelayError
from daemon.core.finding import Finding
from daemon.core.types import ChannelName
from daemon.marketplaces.auth import TokenStore
from daemon.marketplaces.client import Client
from daemon.marketplaces.registry import spec_of
from daemon.settings import Settings
from daemon.store.database import Database
from daemon.store.inspect import Inspector, ServerInfo, Table
from daemon.store.tokens import Tokens

__all__ = ["run_checks"]

_Tokens = Callable[[ChannelName, str | None], TokenStore]
_CAPTURE: Final = (schema.FUNCTIONS, schema.OWNER, schema.REPLICATION)


async def run_checks(settings: Settings, exposed: Sequence[Path] = ()) -> list[Finding]:
    """Look at everything; what depends on a check that failed is skipped. `exposed` are files with secrets in them that
    every user of this machine may read.

    One thing is kept: a token that a marketplace grants for the proof is stored in the database, so that the daemon
    need not fetch another.
    """
    findings = Findings()
    privacy.check_files(findings, exposed)
    privacy.check_page(findings, settings.ops)
    is_ready = False
    async with AsyncExitStack() as stack:
        tokens: _Tokens = marketplace.DiscardedTokens
        connection = await stack.enter_async_context(server.connected(findings, settings))
        if connection is None:
            _skip_database(findings, settings)
        elif is_ready := await _check_database(findings, settings, *connection):
            tokens = await _kept_tokens(stack, settings)
        clients = _clients(findings, settings, tokens)
        for client in clients.values():
            stack.push_async_callback(client.close)
        if connection is not None:
            await _check_listings(findings, settings, connection[0])
        if connection is not None and is_ready:
            await coverage.check_coverage(findings, settings, connection[0])
        else:
            findings.skip(
                server.CONNECTION if connection is None else schema.SCHEMA, *coverage.names(settings)
            )
        await _check_marketplaces(findings, settings, clients)
    notify.check_notify(findings, settings)
    return findings.results


def _skip_database(findings: Findings, settings: Settings) -> None:
    findings.skip(
        server.CONNECTION,
        server.CLOCK,
        privacy.ENCRYPTION,
        privacy.SEARCH_PATH,
        privacy.ROW_SECURITY,
        server.CONNECTIONS,
        server.PREPARED,
        server.LISTEN,
        schema.SCHEMA,
        schema.RIGHTS,
        schema.IDENTITY,
        schema.CHANGE_LOG,
        schema.DOORBELL,
        *_CAPTURE,
        *(name for watch in settings.watch for name in watches.names(watch)),
        *(name for channel in settings.enabled_channels() for name in listing.names(channel)),
    )


async def _check_database(
    findings: Findings, settings: Settings, inspector: Inspector, found: ServerInfo
) -> bool:
    """Return whether the daemon could work with the schema."""
    server.check_clock(findings, server.CLOCK, "the database server", found.ahead, found.accuracy)
    privacy.check_encryption(findings, inspector, privacy.ENCRYPTION, "database.dsn")
    await privacy.check_search_path(findings, inspector, found)
    await privacy.check_row_security(findings, inspector, found)
    await server.check_connections(findings, settings, inspector)
    await server.check_prepared(findings, settings)
    await server.check_listening(findings, settings, inspector)
    blocker: str | None = None
    if not await schema.check_schema(findings, inspector, found):
        blocker = schema.SCHEMA
        findings.skip(blocker, schema.RIGHTS)
    elif not await schema.check_rights(findings, inspector, found):
        blocker = schema.RIGHTS
    if blocker is None:
        await schema.check_identity(findings, inspector)
        await schema.check_change_log(findings, inspector)
        await schema.check_replicas(findings, settings, inspector)
        await schema.check_channels(findings, settings, inspector)
        await schema.check_doorbell(findings, settings, inspector)
    else:
        findings.skip(blocker, schema.IDENTITY, schema.CHANGE_LOG, schema.DOORBELL)
    await _check_watches(findings, settings, inspector, found, blocker)
    return blocker is None


async def _check_watches(
    findings: Findings, settings: Settings, inspector: Inspector, found: ServerInfo, blocker: str | None
) -> None:
    watched, faults = None, list[TriggerFault]()
    if blocker is None:
        with findings.guarding("triggers"):
            faults = await inspector.capturing.triggers()
            watched = {table.relation: table for table in await inspector.capturing.tables()}
    tables: dict[str, Table] = {}
    for watch in settings.watch:
        table_name, triggers_name = watches.names(watch)
        with findings.guarding(table_name):
            tables[table_name] = await watches.check_table(findings, inspector, found, watch)
        if table_name not in tables:
            findings.skip(table_name, triggers_name)
        elif watched is None:
            findings.skip(blocker or "triggers", triggers_name)
        else:
            watches.check_triggers(findings, watch, tables[table_name], watched, faults)
    if watched is None:
        findings.skip(blocker or "triggers", *_CAPTURE)
        return
    watches.check_leftovers(findings, settings, watched, list(tables.values()))
    await schema.check_functions(findings, settings, inspector, list(watched.values()), faults)


async def _kept_tokens(stack: AsyncExitStack, settings: Settings) -> _Tokens:
    """The stores that the daemon uses."""
    database = Database(connect_options(settings, is_direct=False), 1)
    stack.push_async_callback(database.close)
    try:
        await database.open()
    except StockrelayError:
        # It answered a moment ago; a token can be proven without it.
        return marketplace.DiscardedTokens
    return partial(Tokens, database)


def _clients(findings: Findings, settings: Settings, tokens: _Tokens) -> dict[ChannelName, Client]:
    built: dict[ChannelName, Client] = {}
    for name, channel in settings.enabled_channels().items():
        try:
            built[name] = spec_of(channel).client(name, channel, partial(tokens, name))
        except ConfigError as error:
            findings.failed(f"marketplace {name}", str(error), f"check channels.{name}.ca_file")
    return built


async def _check_listings(findings: Findings, settings: Settings, inspector: Inspector) -> None:
    for name, its_listing in listings(settings).items():
        query, *_ = listing.names(name)
        with findings.guarding(query):
            await listing.check_listing(findings, settings, inspector, its_listing)


async def _check_marketplaces(
    findings: Findings, settings: Settings, clients: dict[ChannelName, Client]
) -> None:
    """All at once: one that does not answer takes its time."""
    channels = settings.enabled_channels()

    async def look(name: ChannelName, client: Client) -> Findings:
        its_findings = Findings()
        await marketplace.check(its_findings, client, channels[name].base_url)
        return its_findings

    for each in await asyncio.gather(*(look(name, client) for name, client in clients.items())):
        findings.results += each.results
