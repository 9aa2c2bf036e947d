"""The database server: reached, of a version we know, its clock, its connections, and whether LISTEN works."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Final

from daemon.app.building import LEASE_CONNECTIONS, connect_options
from daemon.check import privacy
from daemon.check.findings import CheckFailed, Findings
from daemon.core.errors import StockrelayError
from daemon.settings import Settings
from daemon.store.inspect import Inspector, ServerInfo
from daemon.store.inspect_connecting import Unreachable, inspecting, keeps_prepared_statements

CONNECTION: Final = "database"
ENCODING: Final = "database encoding"
CLOCK: Final = "database clock"
CONNECTIONS: Final = "database connections"
LISTEN: Final = "listening connection"
PREPARED: Final = "prepared statements"

OLDEST: Final = 14
NOTABLE: Final = timedelta(seconds=30)
INTOLERABLE: Final = timedelta(minutes=5)
_ROUND_TRIPS: Final = 5
_RING_S: Final = 3.0


@asynccontextmanager
async def connected(
    findings: Findings, settings: Settings
) -> AsyncIterator[tuple[Inspector, ServerInfo] | None]:
    """Look at the connection as the daemon makes it; None where there is none."""
    options = connect_options(settings, is_direct=False)
    async with AsyncExitStack() as stack:
        try:
            inspector = await stack.enter_async_context(
                inspecting(options, settings.database.statement_timeout)
            )
            server = await inspector.server()
        except StockrelayError as error:
            advice = error.advice or "check {key}, and what stands between here and there"
            findings.failed(CONNECTION, str(error), advice.format(key="database.dsn"))
            yield None
        else:
            _judge_server(findings, server)
            yield inspector, server


def _judge_server(findings: Findings, server: ServerInfo) -> None:
    found = f"PostgreSQL {server.version}, database {server.database}, as {server.role}"
    if server.is_standby:
        advice = "it is read-only: let database.dsn lead to the primary"
        findings.failed(CONNECTION, f"{found}; a standby", advice)
    elif server.major < OLDEST:
        findings.failed(CONNECTION, found, f"PostgreSQL {OLDEST} or newer is needed")
    else:
        findings.passed(CONNECTION, found)
    if server.encoding != "UTF8":
        findings.warn(
            ENCODING,
            f"{server.encoding}, not UTF8",
            "marketplaces' words are kept with what it lacks escaped; SKUs and identifiers that are no text in it are "
            "not sent",
        )


def check_clock(findings: Findings, name: str, whose: str, ahead: timedelta, accuracy: timedelta) -> None:
    """Judge a clock against this machine's: `ahead` is the other's lead, known to within `accuracy`."""
    off = abs(ahead)
    found = (
        f"{off.total_seconds():.1f} s {'ahead of' if ahead > timedelta(0) else 'behind'} this machine's clock"
    )
    if off - accuracy <= NOTABLE:
        findings.passed(name, found)
        return
    advice = f"see that this machine and {whose} are synchronised (NTP: timedatectl, chronyc tracking)"
    if off - accuracy > INTOLERABLE:
        findings.failed(name, found, advice)
    else:
        findings.warn(name, found, advice)


async def check_connections(findings: Findings, settings: Settings, inspector: Inspector) -> None:
    """Whether the pool, the listener and a migration find room."""
    with findings.guarding(CONNECTIONS):
        free, ours = await inspector.connections()
        needed = settings.database.pool_size + LEASE_CONNECTIONS + len(settings.enabled_channels()) + 2
        found = f"{free} free" + (f", {ours} held by us" if ours > 1 else "") + f"; {needed} are wanted"
        # The check's own connection is among ours, and goes.
        if free + ours >= needed:
            findings.passed(CONNECTIONS, found)
        else:
            advice = "lower database.pool_size, or raise max_connections or the role's CONNECTION LIMIT"
            findings.warn(CONNECTIONS, found, advice)


async def check_prepared(findings: Findings, settings: Settings) -> None:
    """Whether prepared statements outlive a transaction, which a pooler in transaction mode may prevent."""
    if not settings.database.prepared_statements:
        findings.passed(PREPARED, "not used (database.prepared_statements = false)")
        return
    with findings.guarding(PREPARED):
        if await keeps_prepared_statements(connect_options(settings, is_direct=False)):
            findings.passed(PREPARED, "kept")
        else:
            raise CheckFailed(
                "a pooler in transaction mode stands between, and loses prepared statements",
                "set database.prepared_statements = false, and database.listen_dsn to a direct address past the pooler",
            )


async def check_listening(findings: Findings, settings: Settings, inspector: Inspector) -> None:
    """LISTEN, then see over several round trips that it holds, then let another connection ring."""
    key = "database.listen_dsn" if settings.database.listen_dsn is not None else "database.dsn"
    options = connect_options(settings, is_direct=True)
    try:
        async with inspecting(options, settings.database.statement_timeout) as listener:
            if settings.database.listen_dsn is not None:
                privacy.check_encryption(findings, listener, privacy.LISTENING, key)
            with findings.guarding(LISTEN, f"let {key} lead straight to the primary"):
                await _listen(findings, listener, inspector, key)
    except Unreachable as error:
        findings.failed(LISTEN, str(error), error.advice.format(key=key))


async def _listen(findings: Findings, listener: Inspector, other: Inspector, key: str) -> None:
    # A channel of its own: a running daemon is not woken.
    channel = f"stockrelay_check_{secrets.token_hex(6)}"
    rung = asyncio.Event()
    await listener.listen(channel, rung.set)
    answers = [await listener.backend(channel) for _ in range(_ROUND_TRIPS)]
    pids = {pid for pid, _ in answers}
    if len(pids) > 1 or not all(is_listening for _, is_listening in answers):
        why = f"{len(pids)} server processes answered in turn" if len(pids) > 1 else "LISTEN had no effect"
        raise CheckFailed(
            f"a pooler in transaction mode stands between: {why}",
            "set database.listen_dsn to a direct address, past the pooler; the daemon polls otherwise",
        )
    await other.notify(channel)
    try:
        await asyncio.wait_for(rung.wait(), _RING_S)
    except TimeoutError as error:
        raise CheckFailed(
            f"a notification sent through database.dsn did not arrive within {_RING_S:g} s",
            f"a pooler stands between, or {key} leads to another database than database.dsn: "
            "set database.listen_dsn to a direct address of the same database",
        ) from error
    findings.passed(LISTEN, "notifications arrive")
