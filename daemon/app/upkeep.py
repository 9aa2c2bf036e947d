"""What is done once: the schema, the adoption of a database, a test message."""

import asyncio
import sys

from daemon.app.building import (
    connect_options,
    opened,
    receivers,
)
from daemon.core.letters import Language, test_letter
from daemon.settings import Settings
from daemon.store import migrate as migrations
from daemon.store.intake import Intake


async def migrate(settings: Settings, *, sql: bool, grant_to: str | None = None) -> None:
    """Bring schema and triggers up to date and give a role the daemon's rights, or print what would be run."""
    watches = [(watch.table, watch.sku) for watch in settings.watch]
    has_doorbell = settings.database.doorbell
    if sql:
        sys.stdout.write(migrations.migration_sql(watches, has_doorbell=has_doorbell, grant_to=grant_to))
        return
    options = connect_options(settings, is_direct=True)
    for line in await migrations.migrate(options, watches, has_doorbell=has_doorbell, grant_to=grant_to):
        sys.stdout.write(line + "\n")


async def adopt(settings: Settings) -> None:
    """Make this database the one that is pushed from."""
    async with opened(settings) as database:
        # Half of the slowest channel's rate: the other half is for new changes.
        rate = min(channel.rate_per_s for channel in settings.enabled_channels().values()) / 2
        identifier = await Intake(database, [], {}).adopt(rate)
    sys.stdout.write(
        f"adopted: the database with system identifier {identifier} is pushed from now on; every number is confirmed "
        f"with the partners, {rate:g} per second\n"
    )


async def send_test(settings: Settings, language: Language | None) -> dict[str, str | None]:
    """Send a test message to every receiver; return why each failed, or None."""
    language = language or settings.notify.language
    told = receivers(settings)
    letter = test_letter(language)
    results = await asyncio.gather(
        *(receiver.send(letter, language, settings.notify.timeout) for receiver in told)
    )
    return {receiver.name: result for receiver, result in zip(told, results, strict=True)}
