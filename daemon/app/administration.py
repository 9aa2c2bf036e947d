"""What an operator does once: set up the schema, remove it, adopt a database, send a test message."""

import asyncio
from typing import Any

from daemon.app.building import (
    confirmed_per_s,
    connect_options,
    longest_settle,
    opened,
    receivers,
)
from daemon.core.notifications import Language, sample_notification
from daemon.settings import Settings
from daemon.store import migrate as migrations
from daemon.store.identity import Identity


def migration_sql(settings: Settings, grant_to: str | None) -> str:
    return migrations.migration_sql(
        _watches(settings), has_doorbell=settings.database.doorbell, grant_to=grant_to
    )


async def migrate(settings: Settings, grant_to: str | None) -> list[str]:
    """Bring schema and triggers up to date, and give a role the daemon's rights; return what was done, in words."""
    return await migrations.migrate(
        connect_options(settings, is_direct=True),
        _watches(settings),
        has_doorbell=settings.database.doorbell,
        grant_to=grant_to,
    )


def _watches(settings: Settings) -> list[tuple[str, str]]:
    return [
        migrations.FanOut(watch.table, watch.skus) if watch.skus is not None else (watch.table, watch.sku)
        for watch in settings.watch
    ]


async def adopt(settings: Settings) -> dict[str, Any]:
    """Make this database the one whose stock is sent; return its identifier, and how fast every number is confirmed."""
    async with opened(settings) as database:
        rate = confirmed_per_s(settings)
        identifier = await Identity(database).adopt(rate, longest_settle(settings))
    return {"system_identifier": identifier, "confirmed_per_s": rate}


async def send_test(settings: Settings, language: Language | None) -> dict[str, str | None]:
    """Send a test message to every receiver; return why each failed, or None."""
    language = language or settings.notify.language
    every = receivers(settings)
    message = sample_notification(language)
    results = await asyncio.gather(
        *(receiver.send(message, language, settings.notify.timeout) for receiver in every)
    )
    return {receiver.name: result for receiver, result in zip(every, results, strict=True)}
