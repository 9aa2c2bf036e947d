"""`office`: a migrated database with the sample ERP, both marketplaces, and the settings that fit them."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from daemon.check import run_checks
from daemon.core.finding import Finding, Verdict
from daemon.demo import erp
from daemon.demo.catalogue import make_catalogue
from daemon.settings import Settings
from daemon.simulator import Simulator
from daemon.simulator.marketplaces.sekorm import SekormShop
from daemon.simulator.marketplaces.ymatou.settings import YmatouShop
from daemon.store.connecting import ConnectOptions
from daemon.store.migrate import migrate
from tests.conftest import Database
from tests.settings import settings_of

PRODUCTS = 20


def merged(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """`change` over `base`, section by section."""
    result = dict(base)
    for name, value in change.items():
        old = result.get(name)
        result[name] = (
            merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
        )
    return result


@dataclass
class Office:
    """Where an operator sits and types `stockrelay check`."""

    database: Database
    simulator: Simulator

    @property
    def role(self) -> str:
        """A role of this test alone, without any right until it is given some."""
        return f"daemon_{self.database.name}"

    def settings(self, **changes: object) -> Settings:
        """The settings, with `changes` over them section by section."""
        marketplaces = self.simulator.settings
        base: dict[str, Any] = {
            "database": {"dsn": self.database.dsn, "pool_size": 2},
            "watch": [{"table": table, "sku": sku} for table, sku in erp.WATCHES],
            "debounce": {"quiet_s": 0, "max_wait_s": 0},
            "ops": {"port": 0},
            "notify": {"urls": ["json://127.0.0.1:1/planted-Zq8"]},
            "channels": {
                "sekorm": {
                    "base_url": f"{self.simulator.url}/serviceGate",
                    "account": marketplaces.of(SekormShop).account,
                    "app_secret": marketplaces.of(SekormShop).app_secret,
                    "listing": erp.SEKORM_LISTING,
                    "timeout_s": 1,
                },
                "ymatou": {
                    "base_url": self.simulator.url,
                    "app_id": marketplaces.of(YmatouShop).app_id,
                    "app_secret": marketplaces.of(YmatouShop).app_secret,
                    "auth_code": marketplaces.of(YmatouShop).auth_code,
                    "listing": erp.YMATOU_LISTING,
                    "timeout_s": 1,
                },
            },
        }
        return settings_of(merged(base, changes))

    def listing(self, sql: str, **changes: object) -> Settings:
        """The settings with another listing for Ymatou alone."""
        channels = {"sekorm": {"enabled": False}, "ymatou": {"listing": sql}}
        return self.settings(channels=channels, **changes)

    def make_role(self) -> None:
        self.database.run_sql(f"CREATE ROLE {self.role} LOGIN")

    def dsn_of_role(self) -> str:
        return self.database.server.dsn(self.database.name, self.role)

    async def check(self, settings: Settings | None = None) -> "Answers":
        return Answers(await run_checks(settings or self.settings()))


class Answers(list[Finding]):
    """What the command found."""

    def of(self, name: str) -> Finding:
        """The one result of that name."""
        (result,) = (result for result in self if result.check == name)
        return result

    def bad(self) -> dict[str, Verdict]:
        """What did not pass."""
        return {result.check: result.verdict for result in self if result.verdict is not Verdict.PASSED}

    def failed(self, name: str) -> Finding:
        result = self.of(name)
        assert result.verdict is Verdict.FAILED, result
        assert result.advice
        return result

    def warned(self, name: str) -> Finding:
        result = self.of(name)
        assert result.verdict is Verdict.WARNING, result
        assert result.advice
        return result


async def _open_office(database: Database) -> AsyncIterator[Office]:
    simulator = Simulator()
    await simulator.start()
    office = Office(database, simulator)
    try:
        connection = await asyncpg.connect(database.dsn)
        await erp.fill(connection, make_catalogue(PRODUCTS, 1), 1)
        await connection.close()
        await migrate(options(database.dsn), erp.WATCHES, has_doorbell=True)
        yield office
    finally:
        await simulator.stop()
        database.server.start()
        role = database.run_sql(f"SELECT rolname FROM pg_roles WHERE rolname = '{office.role}'")
        if role:
            database.run_sql(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")


def options(dsn: str) -> ConnectOptions:
    """How the owner connects."""
    return ConnectOptions(dsn, timedelta(seconds=30))


@pytest.fixture
async def office(database: Database) -> AsyncIterator[Office]:
    """On PostgreSQL 18, then on 15."""
    async for made in _open_office(database):
        yield made


@pytest.fixture
async def office18(database18: Database) -> AsyncIterator[Office]:
    """On PostgreSQL 18 alone."""
    async for made in _open_office(database18):
        yield made
