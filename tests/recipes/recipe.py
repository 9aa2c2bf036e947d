"""A recipe of docs/recipes.md, and what Stockrelay makes of an ERP's changes with it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from daemon.app.administration import migrate
from daemon.app.building import connect_options, listings
from daemon.app.configuration import load
from daemon.settings import Settings
from daemon.store.database import Database
from daemon.store.intake import Intake
from daemon.store.ledger import Debounce
from daemon.store.ledger.ledger import Ledger
from tests.channels import YMATOU
from tests.docs.pages import ROOT, blocks

PAGE: Final = ROOT / "docs" / "recipes.md"

_DEBOUNCE: Final = Debounce(timedelta(0), timedelta(0), 3)
_TIMEOUT: Final = timedelta(seconds=20)


def _no_problem(identifiers: Sequence[str | None]) -> str | None:
    """Every name is one that the marketplace takes."""
    return None if identifiers else "no name"


@dataclass(frozen=True, slots=True)
class Recipe:
    """What the page has under the heading of one ERP."""

    configuration: str
    indexes: str

    def settings(self, dsn: str, folder: Path) -> Settings:
        """The settings of somebody who copies the recipe."""
        file = folder / "config.toml"
        file.write_text(self.configuration, "utf-8")
        secrets = {
            "APP_ID": "app",
            "APP_SECRET": "secret",
            "AUTH_CODE": "code",
            "BASE_URL": "http://127.0.0.1:9",
        }
        environment = {f"STOCKRELAY_CHANNELS__YMATOU__{key}": value for key, value in secrets.items()}
        return load(file, None, {"STOCKRELAY_DATABASE__DSN": dsn, **environment})


def recipe(erp: str) -> Recipe:
    """Return the recipe for that ERP."""
    page = PAGE.read_text("utf-8")
    begin = page.index(f"\n## {erp}\n")
    end = page.find("\n## ", begin + 1)
    found = [block for block in blocks(PAGE) if begin < block.begin < (end if end > 0 else len(page))]
    (configuration,) = (block.text for block in found if block.language == "toml")
    (indexes,) = (block.text for block in found if block.language == "sql")
    return Recipe(configuration, indexes)


class Relay:
    """Stockrelay beside an ERP: which changes it notices, and the numbers that it would send."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        listing = listings(settings)[YMATOU]
        self._ledger = Ledger(database, listing, _no_problem)
        self._intake = Intake(database, self._ledger, _DEBOUNCE)

    async def noticed(self) -> dict[str, int | None]:
        """Read the change log; return the numbers to send (None: the SKU left the listing)."""
        drained = await self._intake.drain(notify_replicas=False, timeout=_TIMEOUT)
        assert (drained.failed, drained.rows_failed, drained.fan_outs_failed) == (None, None, {})
        return await self._sent()

    async def missed(self) -> dict[str, int | None]:
        """Compare everything; return the numbers to send that the change log had nothing of."""
        drained = await self._intake.resync(notify_replicas=False, timeout=_TIMEOUT)
        assert (drained.failed, drained.rows_failed) == (None, None)
        return await self._sent()

    async def _sent(self) -> dict[str, int | None]:
        """Return what is to be sent, and treat it as acknowledged."""
        async with self._database.transaction("reading what is to be sent") as connection:
            sent = await connection.fetch(
                "UPDATE stockrelay.ledger SET acked_seq = want_seq, acked_quantity = listed_quantity, "
                "identifiers = listed_identifiers, due_at = NULL, first_dirty_at = NULL "
                "WHERE want_seq > acked_seq RETURNING sku, listed_quantity"
            )
            await connection.execute("DELETE FROM stockrelay.ledger WHERE listed_rows = 0")
        return {row["sku"]: row["listed_quantity"] for row in sent}


@asynccontextmanager
async def relay(settings: Settings) -> AsyncIterator[Relay]:
    """Make our schema and the recipe's triggers in the ERP's database."""
    await migrate(settings, None)
    database = Database(connect_options(settings, is_direct=True), 2)
    await database.open()
    try:
        yield Relay(database, settings)
    finally:
        await database.close()
