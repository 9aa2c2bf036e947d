"""One test's world: an ERP database, both marketplaces, and daemon processes with one configuration."""

import asyncio
import json
import os
import random
import signal
import time
from collections.abc import Collection, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import asyncpg

from daemon.core.types import ChannelName
from daemon.simulator import Key, Simulator, SimulatorSettings
from daemon.simulator.marketplaces.sekorm import SekormShop
from daemon.simulator.marketplaces.ymatou.settings import YmatouShop
from tests.acceptance import oracle
from tests.acceptance.replica import LOOK_S, Done, Replica, command
from tests.channels import SEKORM, WEBHOOK, YMATOU
from tests.conftest import Database

IS_LONG: Final = os.environ.get("STOCKRELAY_LONG_TESTS") == "1"
"""Whether outages last as long as the promises say, instead of a part of it."""

ERP: Final = """
CREATE SCHEMA erp;
CREATE TABLE erp.stock (
    sku text PRIMARY KEY, part_no text NOT NULL, brand text NOT NULL, on_hand integer NOT NULL
) WITH (fillfactor = 50);
"""
LISTINGS: Final = {
    SEKORM: "SELECT sku, part_no AS pn_code, brand AS brand_name, on_hand AS quantity FROM erp.stock",
    YMATOU: "SELECT sku, sku AS outer_sku_id, on_hand AS quantity FROM erp.stock",
}
SETTINGS: Final[Mapping[str, Mapping[str, Any]]] = {
    "database": {},
    "debounce": {"quiet_s": 0.05, "max_wait_s": 0.5},
    # No resync but those at start and after a new LISTEN: it would heal what the change log has lost.
    "run": {"poll_s": 1.0, "lease_s": 2.0, "resync_s": 3600, "grace_s": 10, "heartbeat_s": 60},
    "guard": {},
    "notify": {},
    # Its hour may come while a test runs.
    "reconcile": {"enabled": False},
    # Replicas share this machine.
    "ops": {"port": 0},
    "log": {"level": "info", "format": "json"},
    "channel": {
        "first_start": "live",
        "rate_per_s": 2000,
        "concurrency": 16,
        "timeout_s": 2.0,
        "settle_s": 5.0,
    },
    "sekorm": {"listing": LISTINGS[SEKORM]},
    "ymatou": {"listing": LISTINGS[YMATOU]},
}


def toml(sections: Mapping[str, Mapping[str, Any]]) -> str:
    """Return sections of plain values as TOML."""
    parts = []
    for name, values in sections.items():
        lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
        parts.append("\n".join([f"[{name}]", *lines]))
    return "\n\n".join(parts) + "\n"


class Stage:
    """The ERP, the marketplaces and the daemons of one test. `settings` overrides SETTINGS, section by section;
    "channel" is for both channels. Everything is put away at the end, and every log is looked at."""

    def __init__(self, database: Database, folder: Path, /, **settings: Mapping[str, Any]) -> None:
        self.database = database
        self.seed = int(os.environ.get("STOCKRELAY_SEED") or random.SystemRandom().randrange(10**6))
        self.random = random.Random(self.seed)
        self.marketplaces = SimulatorSettings()
        self.simulator = Simulator(self.marketplaces)
        self.config = folder / "config.toml"
        self.erp: oracle.Connection
        self._folder = folder
        self._settings = settings
        self._replicas: list[Replica] = []
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        print(f"seed {self.seed} (STOCKRELAY_SEED repeats it)")  # noqa: T201 - shown when the test fails
        await self.simulator.start()
        self._stack.push_async_callback(self.simulator.stop)
        try:
            self.erp = await asyncpg.connect(self.database.dsn)
            await self.make_erp()
            self.configure()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for replica in self._replicas:
            await replica.close()
        self.erp.terminate()
        await self._stack.aclose()
        if error is None:
            for replica in self._replicas:
                self._check_log(replica)

    # Setting up

    async def make_erp(self) -> None:
        """Make the ERP's tables, in place of what the database had."""
        await self.erp.execute("DROP SCHEMA IF EXISTS erp CASCADE")
        await self.erp.execute(ERP)

    def configure(self, **settings: Mapping[str, Any]) -> None:
        """Write the configuration file; what is given goes over what was given before."""
        self._settings = {
            name: {**self._settings.get(name, {}), **settings.get(name, {})}
            for name in {*SETTINGS, *self._settings, *settings}
        }
        merged = {name: {**values, **self._settings[name]} for name, values in SETTINGS.items()}
        common, sekorm, ymatou = (merged.pop(name) for name in ("channel", "sekorm", "ymatou"))
        url, here, there = (
            self.simulator.url,
            self.marketplaces.of(SekormShop),
            self.marketplaces.of(YmatouShop),
        )
        sections = {
            "database": {"dsn": self.database.dsn, **merged.pop("database")},
            "[watch]": {"table": "erp.stock", "sku": "sku"},
            **merged,
            "channels.sekorm": {
                "base_url": f"{url}/serviceGate",
                "account": here.account,
                "app_secret": here.app_secret,
                **common,
                **sekorm,
            },
            "channels.ymatou": {
                "base_url": url,
                "app_id": there.app_id,
                "app_secret": there.app_secret,
                "auth_code": there.auth_code,
                **common,
                **ymatou,
            },
        }
        self.config.write_text(toml(sections), "utf-8")

    def setting(self, section: str, name: str) -> Any:  # noqa: ANN401 - whatever TOML can hold
        """Return what the configuration says."""
        return self._settings.get(section, {}).get(name, SETTINGS[section][name])

    async def fill(self, skus: int, on_hand: int = 100) -> None:
        """Put SKU-1 to SKU-n into the ERP."""
        await self.erp.execute(
            "INSERT INTO erp.stock SELECT 'SKU-' || i, 'PN-' || i, 'AMS', $2 FROM generate_series(1, $1) AS i",
            skus,
            on_hand,
        )

    async def stockrelay(self, *words: str) -> Done:
        """Run one command to its end."""
        return await command(self.config, *words)

    async def migrate(self) -> None:
        """`stockrelay migrate`."""
        done = await self.stockrelay("migrate")
        assert done.code == 0, done

    def replica(self, name: str = "one") -> Replica:
        """Make a daemon that is not started."""
        folder = self._folder / name
        folder.mkdir()
        replica = Replica(name, self.config, folder)
        self._replicas.append(replica)
        return replica

    async def started(self, name: str = "one", timeout: float = 30.0) -> Replica:
        """Make a daemon, start it and wait until it listens and owns the slots of both channels."""
        replica = self.replica(name)
        await replica.start()
        await replica.wait_for("doorbell.listening", timeout=timeout)
        await replica.wait_for("slots.leases_taken", times=2, timeout=timeout)
        return replica

    async def running(self, skus: int) -> Replica:
        """Fill, migrate, start one daemon and wait until both marketplaces hold everything."""
        await self.fill(skus)
        await self.migrate()
        replica = await self.started()
        await self.converged()
        return replica

    async def reconnect(self) -> None:
        """Open the ERP's connection anew, after a restart of the server."""
        self.erp.terminate()
        self.erp = await asyncpg.connect(self.database.dsn)

    # Looking

    async def status(self) -> dict[str, Any]:
        """Return what `stockrelay status --json` says."""
        done = await self.stockrelay("status", "--json")
        assert done.code == 0, done
        answer = json.loads(done.out)
        assert isinstance(answer, dict)
        return answer

    async def wanted(
        self, channels: Collection[ChannelName] = (SEKORM, YMATOU)
    ) -> dict[ChannelName, dict[Key, int]]:
        """Return what the ERP lists now, channel by channel."""
        wanted: dict[ChannelName, dict[Key, int]] = {SEKORM: {}, YMATOU: {}, WEBHOOK: {}}
        for row in await self.erp.fetch("SELECT sku, part_no, brand, on_hand FROM erp.stock"):
            number = max(row["on_hand"], 0)
            wanted[SEKORM][row["part_no"], row["brand"]] = number
            wanted[YMATOU][row["sku"]] = number
            wanted[WEBHOOK][row["part_no"]] = number
        return {name: wanted[name] for name in channels}

    async def converged(
        self,
        timeout: float = 30.0,
        spared: Collection[tuple[ChannelName, Key]] = (),
        channels: Collection[ChannelName] = (SEKORM, YMATOU),
    ) -> float:
        """Wait until ERP, ledger and marketplaces agree and nothing is left to do, at most `timeout` seconds beyond the
        last number that a marketplace took; return the seconds it took."""
        began = last = time.monotonic()
        answered = 0
        while True:
            difference = await oracle.unconverged(
                self.erp, self.simulator, await self.wanted(channels), spared
            )
            if difference is None:
                return time.monotonic() - began
            # A busy machine takes longer; what stands still is a fault. pytest ends what never comes to rest.
            if len(self.simulator.journal) > answered:
                answered, last = len(self.simulator.journal), time.monotonic()
            if time.monotonic() - last > timeout:
                raise AssertionError(f"not converged after {timeout:g} s: {difference}\n{self._tails()}")
            await asyncio.sleep(5 * LOOK_S)

    async def silent(self, replica: Replica) -> None:
        """After convergence: two resyncs find nothing to mark, and nothing is sent (I1, I7)."""
        requests = self.simulator.stats.requests.total()
        async with asyncio.timeout(30):
            for _ in range(2):
                since = replica.mark()
                # What a capture says that could not write.
                await self.erp.execute("SELECT pg_notify('stockrelay', 'resync')")
                for channel in (SEKORM, YMATOU):
                    line = await replica.wait_for("intake.resync_finished", since=since, channel=channel)
                    assert line["marked"] == 0, f"a change was lost: {line}"
        assert await oracle.unconverged(self.erp, self.simulator, await self.wanted()) is None
        assert self.simulator.stats.requests.total() == requests, "something was sent after convergence"

    async def cut_listener(self) -> None:
        """End the server's side of the connections that listen."""
        await self.erp.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'stockrelay' AND datname = current_database() "
            "AND query ~ '(LISTEN|pg_listening_channels)'"
        )

    async def judged(self, *, rises_only: bool = True) -> oracle.Finding:
        """Hold the marketplaces' journal against the attempt log; print and return the result."""
        log = await oracle.attempts(self.erp)
        settle_s = float(self.setting("channel", "settle_s"))
        finding = oracle.judge(self.simulator.journal, log, settle_s, rises_only=rises_only)
        print(finding)  # noqa: T201 - the figures of the run
        return finding

    def _check_log(self, replica: Replica) -> None:
        """Every line is an event, none is a traceback, and no secret stands in any."""
        replica.read()
        assert replica.not_json == [], replica.not_json[:3]
        text = replica.text()
        traces = [line for line in text.splitlines() if "Traceback" in line]
        assert traces == [], traces[0][:5000]
        assert "exception" not in {line.get("level") for line in replica.lines}
        here, there = self.marketplaces.of(SekormShop), self.marketplaces.of(YmatouShop)
        for secret in (here.account, here.app_secret, there.app_secret, there.auth_code):
            assert secret not in text, f"a secret stands in the log of {replica.name}"

    def _tails(self) -> str:
        return "\n".join(f"replica {replica.name}: {replica.tail()}" for replica in self._replicas)


async def stopped(replica: Replica, number: signal.Signals = signal.SIGTERM) -> None:
    """Stop a daemon in order."""
    assert await replica.stop(number) == 0, replica.tail()
