"""PostgreSQL for the tests: one server per version and session, a fresh database per test.

`server` runs a test on PostgreSQL 18 and 15, `server18` on 18 alone, `server15` on 15 alone. `database` is
a new database on both versions, `database18` on 18 alone: a copy of a template that holds the sample ERP.
All of it is synchronous, so that it belongs to no event loop.
"""

import gc
import logging
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from itertools import count
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import structlog

from daemon.demo.binaries import embedded_bin, system_bin
from daemon.demo.place import FOLDER_PREFIX
from daemon.demo.postgres import PostgresServer

TEMPLATE = "template_stockrelay"
SETTINGS = {
    "fsync": "off",
    "shared_preload_libraries": "plpgsql",
    "max_connections": "200",
    "max_prepared_transactions": "10",
}
_numbers = count(1)

# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")


@dataclass(frozen=True, slots=True)
class Database:
    """A database of one test. A test may restart or kill `server`; the next one starts it again."""

    server: PostgresServer
    name: str

    @property
    def dsn(self) -> str:
        """As the superuser `postgres`."""
        return self.server.dsn(self.name)

    def run_sql(self, sql: str) -> str:
        """Run `sql` with psql; for setting up and looking, not for what is under test."""
        return self.server.run_sql(sql, self.name)


def prepare_template(server: PostgresServer, name: str) -> None:
    """Fill the database that every test gets a copy of."""
    server.run_sql(files("daemon.demo").joinpath("erp.sql").read_text("utf-8"), name)


@pytest.fixture(autouse=True)
def _logging_of_its_own(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test sets up of logging (a command that runs in this process does) is taken down. No logger remembers what
    it was set up with: a later test of this process could not hear it."""
    configure = structlog.configure

    def configure_for_one_test(**settings: Any) -> None:  # noqa: ANN401 - whatever is set
        configure(**{**settings, "cache_logger_on_first_use": False})

    monkeypatch.setattr(structlog, "configure", configure_for_one_test)
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    yield
    root.handlers[:], root.level = before
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def postgres18() -> Iterator[PostgresServer]:
    """The server of the wheel."""
    yield from _run_server(embedded_bin())


@pytest.fixture(scope="session")
def postgres15() -> Iterator[PostgresServer]:
    """The server of this machine, where there is one."""
    bin_dir = system_bin(15)
    if bin_dir is None:
        pytest.skip("no PostgreSQL 15 on this machine (apt-get install postgresql-15)")
    yield from _run_server(bin_dir)


def _run_server(bin_dir: Path) -> Iterator[PostgresServer]:
    with PostgresServer(bin_dir, SETTINGS) as server:
        server.run_sql(f"CREATE DATABASE {TEMPLATE}")
        prepare_template(server, TEMPLATE)
        yield server


@pytest.fixture
def server18(postgres18: PostgresServer) -> PostgresServer:
    """PostgreSQL 18, running."""
    postgres18.start()
    return postgres18


@pytest.fixture
def server15(postgres15: PostgresServer) -> PostgresServer:
    """PostgreSQL 15, running; the test is skipped where it is not installed."""
    postgres15.start()
    return postgres15


@pytest.fixture(params=["pg18", "pg15"])
def server(request: pytest.FixtureRequest) -> PostgresServer:
    """Both, one after the other."""
    found = request.getfixturevalue("server" + request.param.removeprefix("pg"))
    assert isinstance(found, PostgresServer)
    return found


@pytest.fixture
def database(server: PostgresServer) -> Iterator[Database]:
    """A fresh database on PostgreSQL 18, then on 15."""
    yield from _copy_template(server)


@pytest.fixture
def database18(server18: PostgresServer) -> Iterator[Database]:
    """A fresh database on PostgreSQL 18 alone, for what no version changes."""
    yield from _copy_template(server18)


def _copy_template(server: PostgresServer) -> Iterator[Database]:
    name = f"test_{next(_numbers)}"
    server.run_sql(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY file_copy")
    yield Database(server, name)
    server.start()
    server.run_sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run all cases of a test on PostgreSQL 18, and the first and every fourth after it on 15. Both versions run all of
    the SQL; what its cases tell apart depends on no version. STOCKRELAY_LONG_TESTS=1 leaves nothing out."""
    if os.environ.get("STOCKRELAY_LONG_TESTS") == "1":
        return
    cases: Counter[tuple[str, str]] = Counter()
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        is_kept = True
        if (
            isinstance(item, pytest.Function)
            and hasattr(item, "callspec")
            and item.callspec.params.get("server") == "pg15"
        ):
            test = (str(item.path), item.originalname)
            is_kept = cases[test] % 4 == 0
            cases[test] += 1
        (kept if is_kept else left_out).append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept


def pytest_collection_finish() -> None:
    """What is loaded now stays: it is not looked through for garbage again and again."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A server that outlives the session's fixtures is a leak, and a failure."""
    if leaked := _running_servers():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.write_line(f"PostgreSQL servers were left running: {', '.join(leaked)}", red=True)


def _running_servers() -> list[str]:
    """Return the command lines of servers whose folder this process made."""
    mark = f"{FOLDER_PREFIX}{os.getpid()}-".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes()
        except OSError:
            continue
        if mark in words and b"/postgres\0" in words:
            found.append(words.replace(b"\0", b" ").decode(errors="replace").strip())
    return found
