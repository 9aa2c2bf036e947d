"""Builds the parts from the settings: listings, clients, ledgers, limits, connections."""

import os
import socket
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Final
from zoneinfo import ZoneInfo

from daemon.app.configuration import titles
from daemon.core.guard import GuardRule
from daemon.core.plan import Problem
from daemon.core.types import ChannelName
from daemon.marketplaces.client import Client
from daemon.marketplaces.registry import spec_of
from daemon.services.dispatch.channel import Limits
from daemon.services.notify import DeliveryPolicy, Receiver
from daemon.services.reconcile.engine import Reconciler
from daemon.services.reconcile.session import ReconcileLimits
from daemon.settings import ChannelSettings, Settings
from daemon.settings.fingerprints import account_hash
from daemon.store import migrate as migrations
from daemon.store.accounts import Accounts
from daemon.store.comparing import ComparedNumbers
from daemon.store.connecting import ConnectOptions
from daemon.store.database import Database
from daemon.store.exposure import Exposure
from daemon.store.identity import refuse_copy
from daemon.store.listing import ChannelListing, Only
from daemon.store.live import BY_CONFIGURATION, LiveChannels, why_shadow
from daemon.store.reconcile import Reconciles
from daemon.store.tokens import Tokens

LEASE_CONNECTIONS: Final = 2


def connect_options(settings: Settings, *, is_direct: bool) -> ConnectOptions:
    """Return how to reach the database: for queries, or directly for LISTEN and migrations."""
    database = settings.database
    dsn = database.doorbell_dsn if is_direct else database.dsn
    return ConnectOptions(
        dsn.get_secret_value(),
        database.statement_timeout,
        is_pooled=not is_direct and database.listen_dsn is not None,
        prepared_statements=is_direct or database.prepared_statements,
        is_read_only=database.is_read_only,
    )


def lease_pool(settings: Settings) -> Database:
    """Make the leases' own connections, which the caller opens: taking a lease must not wait for slow claims, nor
    renewing one for slots being taken."""
    return Database(connect_options(settings, is_direct=False), LEASE_CONNECTIONS, refuse_copy)


@dataclass(frozen=True, slots=True)
class Pools:
    """Connections. `intakes` and `claims` are each channel's own, as they wait for its listing: what one channel waits
    for takes none from another, nor from what is `shared`, nor from the leases. A channel without one takes a shared
    one."""

    shared: Database
    leases: Database
    intakes: Mapping[ChannelName, Database] = field(default_factory=dict)
    claims: Mapping[ChannelName, Database] = field(default_factory=dict)

    def all(self) -> list[Database]:
        return [self.shared, self.leases, *self.intakes.values(), *self.claims.values()]

    def use(self, settings: Settings) -> None:
        """Make new connections with the new password."""
        for pool in self.all():
            pool.use(connect_options(settings, is_direct=False).dsn)


def pools_of(settings: Settings) -> Pools:
    options = connect_options(settings, is_direct=False)
    for_listings = replace(options, is_for_listings=True)
    channels = settings.enabled_channels()
    return Pools(
        Database(options, max(2, settings.database.pool_size - len(channels)), refuse_copy),
        lease_pool(settings),
        {name: Database(options, 1, refuse_copy) for name in channels},
        {name: Database(for_listings, 1, refuse_copy) for name in channels},
    )


@asynccontextmanager
async def opened(
    settings: Settings, connections: int = 1, *, refuses_copy: bool = False
) -> AsyncIterator[Database]:
    """Open connections for a command once the schema's version has been checked."""
    await migrations.check_version(connect_options(settings, is_direct=True))
    options = connect_options(settings, is_direct=False)
    database = Database(options, connections, refuse_copy if refuses_copy else None)
    try:
        await database.open()
        yield database
    finally:
        await database.close()


async def take_accounts(settings: Settings, database: Database) -> None:
    """Note whose stock each enabled channel's rows describe, and log which channels are not configured.

    Raises ConfigError, StoreUnavailable."""
    accounts, names = Accounts(database), settings.channels.keys()
    begins = live_from_the_start(settings)
    for name, channel in settings.enabled_channels().items():
        confirmed = (confirmed_per_s(settings), longest_settle(settings))
        await accounts.take(name, channel.marketplace, account_hash(channel), names, *confirmed)
        if name in begins:
            await LiveChannels(database).begin(name, BY_CONFIGURATION, socket.gethostname())
    await accounts.warn_of_others(names)


def live_from_the_start(settings: Settings) -> set[ChannelName]:
    """Return the channels that are sent to without being asked about where they are new to the database."""
    return {
        name
        for name, channel in settings.enabled_channels().items()
        if (channel.mode, channel.first_start) == ("live", "live")
    }


async def why_not_sent(settings: Settings, database: Database, name: ChannelName) -> str | None:
    """Say why nothing is sent to the channel; None: it is live, or goes live when a daemon starts."""
    if name in live_from_the_start(settings):
        return None
    return await why_shadow(database, name, is_shadow=settings.enabled_channels()[name].mode == "shadow")


def listings(settings: Settings) -> dict[ChannelName, ChannelListing]:
    return {
        name: ChannelListing(
            name,
            channel.listing,
            spec_of(channel).identifier_columns,
            channel.max_quantity,
            channel.duplicates,
            Only(frozenset(channel.only) or None, channel.only_where),
        )
        for name, channel in settings.enabled_channels().items()
    }


@asynccontextmanager
async def opened_clients(settings: Settings, database: Database) -> AsyncIterator[dict[ChannelName, Client]]:
    """Make the client of every enabled channel; closed at the end."""
    async with AsyncExitStack() as stack:
        clients: dict[ChannelName, Client] = {}
        for name, channel in settings.enabled_channels().items():
            clients[name] = spec_of(channel).client(name, channel, partial(Tokens, database, name))
            stack.push_async_callback(clients[name].close)
        yield clients


def problems_of(settings: Settings) -> dict[ChannelName, Problem]:
    """Return for each channel what says why a SKU with given identifiers can never be sent."""
    return {name: spec_of(channel).problem for name, channel in settings.enabled_channels().items()}


def confirmed_per_s(settings: Settings) -> float:
    """Return how many of a channel's SKUs are confirmed per second when all of them are in doubt: half of the slowest
    channel's rate; the other half is for new changes."""
    return min(channel.rate_per_s for channel in settings.enabled_channels().values()) / 2


def longest_settle(settings: Settings) -> timedelta:
    """Return how long after its start a request of any channel may still be applied."""
    return max(channel.settle for channel in settings.enabled_channels().values())


def guard_rule(settings: Settings) -> GuardRule | None:
    """Return the guard's limits; None: the guard is off."""
    guard = settings.guard
    if not guard.enabled:
        return None
    return GuardRule(
        guard.zero_share,
        guard.zero_count,
        guard.row_share,
        guard.window,
        guard.move_factor,
        guard.move_share,
        guard.drip_share,
        guard.drip_window,
    )


def limits(settings: Settings, channel: ChannelSettings) -> Limits:
    return Limits(
        rate_per_s=channel.rate_per_s,
        concurrency=channel.concurrency,
        timeout=channel.timeout,
        settle=channel.settle,
        max_claim_age=settings.run.lease,
        park_after=channel.park_after,
        poll=settings.run.poll,
        grace=settings.run.grace,
        batch=channel.batch,
        batch_above=channel.batch_above,
        is_shadow=channel.mode == "shadow",
    )


def reconcile_limits(settings: Settings, channel: ChannelSettings) -> ReconcileLimits:
    return ReconcileLimits(
        settings.reconcile,
        settings.run.lease,
        channel.timeout,
        # The other half of the rate is for new changes.
        channel.rate_per_s / 2,
        is_shadow=channel.mode == "shadow",
    )


def reconcilers(
    settings: Settings, database: Database, clients: Mapping[ChannelName, Client]
) -> dict[ChannelName, Reconciler]:
    """Build what reconciles every enabled channel, by schedule or by hand."""
    runs = Reconciles(database)
    channels = settings.enabled_channels()
    return {
        name: Reconciler(
            name,
            clients[name],
            runs,
            ComparedNumbers(database, listing),
            reconcile_limits(settings, channels[name]),
            partial(Exposure(database, operators_zone(settings)).worst_of, name),
            partial(why_shadow, database, name, is_shadow=False),
        )
        for name, listing in listings(settings).items()
    }


def delivery_policy(settings: Settings) -> DeliveryPolicy:
    return DeliveryPolicy(
        settings.notify, titles(settings, settings.notify.language), operators_zone(settings)
    )


def receivers(settings: Settings) -> Sequence[Receiver]:
    """All receivers. Raises ConfigError."""
    if not settings.notify.urls:
        return ()
    # Imported only where there are receivers.
    from daemon.receivers import make_receivers

    return make_receivers(settings.notify.urls)


def operators_zone(settings: Settings) -> ZoneInfo:
    """Return the zone in which people read times."""
    return ZoneInfo(settings.reconcile.timezone)


def new_holder() -> str:
    return f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex[:8]}"
