"""Runs one case: the real daemon beside the ERP, the marketplaces as simulators, and the comparison at rest."""

import asyncio
import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import asyncpg

from daemon.demo.postgres import PostgresServer
from daemon.simulator import Key, Simulator, SimulatorSettings
from daemon.simulator.marketplaces.sekorm import SekormShop
from daemon.simulator.marketplaces.ymatou.settings import YmatouShop
from tests.acceptance.harness import toml
from tests.acceptance.oracle import Connection
from tests.acceptance.replica import LOOK_S, Replica, command
from tests.oracle.cases import Case
from tests.oracle.transactions import Statement, Transaction

RESYNC_S: Final = 2.0
"""How often a case that depends on the time has everything compared."""
REST_S: Final = 20.0
"""A difference that stays for this long after the last number arrived is a fault."""
_OWN: Final = (
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.TransactionRollbackError,
    asyncpg.LockNotAvailableError,
    asyncpg.InFailedSQLTransactionError,
    asyncpg.NumericValueOutOfRangeError,
)
"""Errors that the ERP makes by itself: of keys, and of deadlocks among its sessions."""
_UNREAD: Final = "SELECT count(*) FROM stockrelay.read_position AS p, stockrelay.unread(p.read_until)"
_WAITING: Final = """
    SELECT channel, sku FROM stockrelay.ledger
    WHERE parked_at IS NULL
      AND (want_seq > acked_seq OR doubt_at IS NOT NULL OR attempt_id IS NOT NULL OR due_at IS NOT NULL) LIMIT 3"""
_PARKED: Final = (
    "SELECT channel, sku, parked_reason FROM stockrelay.ledger WHERE parked_at IS NOT NULL LIMIT 3"
)
_LAST_MOMENT: Final = """
    SELECT extract(epoch FROM max(t) - clock_timestamp())::float8 FROM (
        SELECT valid_until AS t FROM erp.item UNION ALL SELECT until FROM erp.block) AS u
    WHERE t < now() + interval '1 minute'"""


class Violation(Exception):
    """Something does not hold: of which kind it is, and what."""

    def __init__(self, kind: str, what: str) -> None:
        super().__init__(what)
        self.kind = kind


@dataclass(slots=True)
class Outcome:
    """What became of a run. `failure` is empty when everything holds."""

    kind: str = ""
    failure: str = ""
    transactions: int = 0
    refused: int = 0
    compared: int = 0
    writes: int = 0
    seconds: float = 0.0


async def run(case: Case, server: PostgresServer, folder: Path, rest_s: float = REST_S) -> Outcome:
    """Run a case in a database of its own."""
    outcome = Outcome()
    began = time.monotonic()
    name = f"oracle_{case.seed}_{time.monotonic_ns()}"
    await asyncio.to_thread(server.run_sql, f"CREATE DATABASE {name} STRATEGY file_copy")
    try:
        async with Run(case, server.dsn(name), folder, outcome, rest_s) as running:
            await running.to_the_end()
    except Violation as violation:
        outcome.kind, outcome.failure = violation.kind, str(violation)
    except ExceptionGroup as group:
        violations, others = group.split(Violation)
        if others or violations is None:
            raise
        first = violations.exceptions[0]
        assert isinstance(first, Violation)
        outcome.kind, outcome.failure = first.kind, str(first)
    finally:
        await asyncio.to_thread(server.run_sql, f"DROP DATABASE {name} WITH (FORCE)")
    outcome.seconds = time.monotonic() - began
    return outcome


class Run:
    """One run under way."""

    def __init__(self, case: Case, dsn: str, folder: Path, outcome: Outcome, rest_s: float) -> None:
        self._case = case
        self._dsn = dsn
        self._outcome = outcome
        self._rest_s = rest_s
        self._listings = case.written()
        settings = SimulatorSettings()
        for name, made in case.listings:
            settings = settings.with_shop(name, made.marketplace)
        self._shops = settings
        self._simulator = Simulator(settings)
        self._config = folder / "config.toml"
        self._replica = Replica("oracle", self._config, folder)
        self._erp: Connection
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> "Run":
        await self._simulator.start()
        self._stack.push_async_callback(self._simulator.stop)
        self._stack.push_async_callback(self._replica.close)
        self._erp = await asyncpg.connect(self._dsn)
        self._stack.callback(self._erp.terminate)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def to_the_end(self) -> None:
        """Set up, let the waves happen, compare after each, and stop."""
        await self._erp.execute(self._case.ddl())
        self._config.write_text("".join(toml({name: values}) for name, values in self._sections()), "utf-8")
        done = await command(self._config, "migrate")
        if done.code:
            raise Violation("migrate", f"stockrelay migrate failed: {done.err}{done.out}")
        await self._replica.start()
        await self._replica.wait_for("doorbell.listening")
        await self._replica.wait_for("slots.leases_taken", times=len(self._listings))
        for name in self._listings:
            await self._replica.wait_for("intake.resync_finished", channel=name, reason="listening anew")
        await self._at_rest("at the start")
        began = self._replica.mark()
        for number, wave in enumerate(self._case.waves, 1):
            await self._happen(wave)
            await self._at_rest(f"after wave {number}")
        if not self._case.is_timed:
            self._check_nothing_was_healed(began)
            await self._silent()
        if await self._replica.stop():
            raise Violation("end", f"the daemon did not end in order\n{self._replica.tail()}")
        self._check_log()
        self._outcome.writes = len(self._simulator.journal)

    def _sections(self) -> Iterator[tuple[str, dict[str, Any]]]:
        yield "database", {"dsn": self._dsn}
        yield "debounce", {"quiet_s": 0.05, "max_wait_s": 0.3}
        resync_s = RESYNC_S if self._case.is_timed else 3600
        yield "run", {"poll_s": 0.5, "lease_s": 2.0, "resync_s": resync_s}
        for section in ("guard", "reconcile"):
            yield section, {"enabled": False}
        yield "ops", {"enabled": False}
        yield "log", {"format": "json"}
        common = {
            "first_start": "live",
            "rate_per_s": 2000,
            "concurrency": 16,
            "timeout_s": 2.0,
            "settle_s": 5.0,
        }
        for name, made in self._case.listings:
            yield (
                f"channels.{name}",
                {
                    "marketplace": made.marketplace,
                    "listing": self._listings[name].sql,
                    "duplicates": "sum" if made.is_summed else "park",
                    **common,
                    **self._account(name, made.marketplace),
                },
            )
        for watch in self._case.watches():
            yield "[watch]", dict(watch)

    def _account(self, name: str, marketplace: str) -> dict[str, str]:
        url = self._simulator.url
        if marketplace == "sekorm":
            account = self._shops.of(SekormShop, name)
            return {
                "base_url": f"{url}/serviceGate",
                "account": account.account,
                "app_secret": account.app_secret,
            }
        shop = self._shops.of(YmatouShop, name)
        return {
            "base_url": url,
            "app_id": shop.app_id,
            "app_secret": shop.app_secret,
            "auth_code": shop.auth_code,
        }

    # What the ERP does

    async def _happen(self, wave: tuple[Transaction, ...]) -> None:
        """Let the sessions of a wave write at the same time."""
        by_session = groupby(wave, lambda transaction: transaction.session)
        async with asyncio.TaskGroup() as group:
            for _, transactions in by_session:
                group.create_task(self._session(tuple(transactions)))

    async def _session(self, transactions: tuple[Transaction, ...]) -> None:
        connection = await asyncpg.connect(self._dsn, server_settings={"statement_timeout": "20s"})
        try:
            for number, transaction in enumerate(transactions):
                self._outcome.transactions += 1
                try:
                    await self._write(
                        connection, transaction, f"{transaction.session}-{number}-{id(transaction)}"
                    )
                except _OWN:
                    self._outcome.refused += 1
                    if connection.is_in_transaction():
                        await connection.execute("ROLLBACK")
                except asyncpg.PostgresError as error:
                    raise Violation("refused", f"the ERP was refused: {error!r} by {transaction}") from error
        finally:
            connection.terminate()

    async def _write(self, connection: Connection, transaction: Transaction, name: str) -> None:
        if transaction.end == "alone":
            await self._execute(connection, transaction.statements[0])
            return
        await connection.execute("BEGIN")
        for statement in transaction.statements:
            await self._execute(connection, statement)
        if transaction.end == "prepare":
            await connection.execute(f"PREPARE TRANSACTION '{name}'")
            await connection.execute(f"COMMIT PREPARED '{name}'")
        else:
            await connection.execute(transaction.end)

    async def _execute(self, connection: Connection, statement: Statement) -> None:
        if not statement.rows:
            await connection.execute(statement.sql)
            return
        columns = statement.sql.partition("(")[2].partition(")")[0].split(", ")
        await connection.copy_records_to_table(
            statement.table, records=statement.rows, columns=columns, schema_name="erp"
        )

    # What must hold

    async def _at_rest(self, when: str) -> None:
        """Wait until every marketplace holds what its listing says. Where that depends on the time, the last moment
        must have passed, and everything is compared once more."""
        remaining = await self._erp.fetchval(_LAST_MOMENT) if self._case.is_timed else None
        last = time.monotonic() + max(remaining or 0.0, 0.0)
        await asyncio.sleep(last - time.monotonic())
        answered = len(self._simulator.journal)
        while (difference := await self._difference()) is not None:
            if len(self._simulator.journal) > answered:
                answered, last = len(self._simulator.journal), time.monotonic()
            if time.monotonic() > last + self._rest_s:
                raise Violation("differs", f"{when}: {difference}\n{self._replica.tail()}")
            await asyncio.sleep(2 * LOOK_S)
        self._outcome.compared += 1

    async def _difference(self) -> str | None:
        """Say what differs; None: nothing does, and nothing is left to do."""
        if unread := await self._erp.fetchval(_UNREAD):
            return f"{unread} changes are unread"
        if parked := await self._erp.fetch(_PARKED):
            return f"parked: {[tuple(row) for row in parked]}"
        if waiting := await self._erp.fetch(_WAITING):
            return f"not clean in the ledger: {[tuple(row) for row in waiting]}"
        for name, made in self._case.listings:
            wanted = await self._wanted(name, is_summed=made.is_summed)
            held = self._simulator.state.of(name)
            wrong = {key: (wanted.get(key, 0), held.get(key)) for key in wanted.keys() | held.keys()}
            # What has left the listing is held as zero; what never had a number may be unknown.
            wrong = {key: pair for key, pair in wrong.items() if pair[0] != pair[1]}
            if wrong:
                return (
                    f"{name}: {len(wrong)} differ, as (listing, marketplace): {dict(list(wrong.items())[:5])}"
                )
        return None

    async def _wanted(self, name: str, *, is_summed: bool) -> dict[Key, int]:
        rows = await self._erp.fetch(self._listings[name].sql)
        sums: dict[Key, Decimal] = {}
        for row in rows:
            _, *identifiers, quantity = row.values()
            key = identifiers[0] if len(identifiers) == 1 else (identifiers[0], identifiers[1])
            if key in sums and not is_summed:
                raise Violation("case", f"{name}: two rows for {key}: the case is wrong")
            sums[key] = sums.get(key, Decimal(0)) + Decimal(quantity)
        return {key: max(int(total.to_integral_value("ROUND_FLOOR")), 0) for key, total in sums.items()}

    async def _silent(self) -> None:
        """A comparison of everything finds nothing that the change log has not named."""
        since = self._replica.mark()
        await self._erp.execute("NOTIFY stockrelay, 'resync'")
        for name in self._listings:
            line = await self._replica.wait_for("intake.resync_finished", since=since, channel=name)
            if line["marked"]:
                raise Violation(
                    "unnamed", f"the comparison of everything found what no trigger named: {line}"
                )

    def _check_nothing_was_healed(self, since: int) -> None:
        """Nothing but a bulk change had everything compared: that would have healed what no trigger named."""
        finished = self._replica.find("intake.resync_finished", since)
        if others := [line for line in finished if line["reason"] != "bulk change"]:
            raise Violation("healed", f"everything was compared: {others[0]}")

    def _check_log(self) -> None:
        failures = ("intake.fan_out_failed", "intake.listing_failed")
        wrong = [line for line in self._replica.read() if line["event"] in failures]
        if wrong or self._replica.not_json or "Traceback" in self._replica.text():
            raise Violation("log", f"the log has {wrong[:1] or 'a traceback'}\n{self._replica.tail()}")
