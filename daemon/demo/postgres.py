"""A PostgreSQL server of our own: for the demo, the tests and the bench.

It lives in one temporary folder and listens on 127.0.0.1 and on a socket in that folder. `postgres` is our
direct child, in a session of its own so that Ctrl-C reaches us and not it. Two things end it: `close` (the
context manager) and, when this program dies without a chance to call that, the guard (`guard.py`), which
reads a pipe of ours. PostgreSQL refuses to run as root: then it runs as `nobody`, from a copy of its programs
where that account cannot reach them. No existing folder's permissions are touched.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

from daemon.core.errors import StockrelayError
from daemon.demo import guard
from daemon.demo.binaries import (
    ServerUnusable,
    clean_environment,
    copy_install,
    embedded_bin,
    give,
    install_trees,
    is_open_to_all,
    major_version,
    server_account,
)
from daemon.demo.guarded import ProcessGuard
from daemon.demo.place import FOLDER_PREFIX, PORT_TRIES, base_folder, children, free_port

StopMode = Literal["smart", "fast", "immediate"]
_STOP_SIGNALS: Final[dict[StopMode, signal.Signals]] = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}
_START_S: Final = 30.0
_STOP_S: Final = 20.0
_LOG_TAIL: Final = 4000

DEFAULTS: Final[Mapping[str, str]] = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "200",
    "max_prepared_transactions": "10",
    "shared_buffers": "64MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_messages": "warning",
    "lc_messages": "C",
    "dynamic_shared_memory_type": "mmap",  # a container's /dev/shm is often 64 MB
}


class PostgresServer:
    """One server with its data. Not thread-safe; every method blocks (well under a second, as a rule).

    `bin_dir` is where PostgreSQL's programs are (default: the wheel's PostgreSQL 18); `settings` go into its
    postgresql.conf over DEFAULTS; `port` 0 is any free one. Superuser `postgres`, no password, UTF-8, locale C.
    Raises ServerUnusable when it cannot be set up or started; the message ends with the server's own words.
    """

    def __init__(
        self, bin_dir: Path | None = None, settings: Mapping[str, str] | None = None, port: int = 0
    ) -> None:
        self._bin = bin_dir or embedded_bin()
        self._settings = {**DEFAULTS, **(settings or {})}
        self._account = server_account()
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: ProcessGuard | None = None
        self.port = port

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def folder(self) -> Path:
        """The temporary folder that holds all of it: data, socket, log."""
        if self._folder is None:
            raise ServerUnusable("this PostgreSQL server is not set up: use it as a context manager")
        return self._folder

    @property
    def bin_dir(self) -> Path:
        """The folder of the programs that this server runs from."""
        return self._bin

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    @property
    def major(self) -> int:
        """The major version, as 18."""
        return major_version(self._bin)

    @property
    def pid(self) -> int | None:
        """The postmaster's process id, None when it does not run."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def dsn(self, database: str = "postgres", user: str = "postgres") -> str:
        """Return the address of a database over TCP. Nothing is escaped: plain names only."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def log_tail(self) -> str:
        """Return the end of what the server wrote."""
        log = self.folder / "server.log"
        return log.read_text("utf-8", errors="replace")[-_LOG_TAIL:] if log.exists() else ""

    def start(self) -> None:
        """Start, setting the data folder up the first time; return when connections are accepted."""
        if self.pid is not None:
            return
        if self._folder is None:
            self._set_up()
        if self.port:
            self._launch()
            return
        for attempt in range(PORT_TRIES):
            self.port = free_port()
            try:
                self._launch()
            except ServerUnusable:
                if attempt == PORT_TRIES - 1 or "Address already in use" not in self.log_tail():
                    raise
                self.folder.joinpath("server.log").unlink()
            else:
                return

    def stop(self, mode: StopMode = "fast") -> None:
        """Shut down as `pg_ctl stop -m MODE` does; what does not end in time is killed. The data stay."""
        process = self._process
        if process is None:
            return
        process.send_signal(_STOP_SIGNALS[mode])
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self._forget_process()

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop and start again on the same port; `immediate` makes it recover, as after a crash."""
        self.stop(mode)
        self.start()

    def kill(self) -> None:
        """SIGKILL the postmaster and all its children, as the end of the machine would. The data stay."""
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGSTOP)  # so that it makes no further child while they are counted
            backends = children(process.pid)
            for pid in (*backends, process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait(_STOP_S)
            _wait_until(
                lambda: not any(map(guard.is_running, backends)), _STOP_S, "its backends outlived SIGKILL"
            )
        self._forget_process()

    def close(self) -> None:
        """Stop without ceremony and remove everything. May be called again."""
        self.stop("immediate")
        if self._guard is not None:
            self._guard.release()
            self._guard = None
        if self._folder is not None:
            shutil.rmtree(self._folder)
            self._folder = None

    def run_sql(self, sql: str, database: str = "postgres") -> str:
        """Run `sql` with psql as the superuser; return what it prints, unaligned and without headings.

        Each statement commits by itself. Raises ServerUnusable with psql's words at the first that fails.
        """
        options = ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-f", "-"]
        command = [str(self._bin / "psql"), *options, self.dsn(database)]
        done = subprocess.run(  # noqa: S603 - our own psql
            command, input=sql, env=self._environment(), capture_output=True, encoding="utf-8", check=False
        )
        if done.returncode:
            raise ServerUnusable(f"psql failed on {database}: {done.stderr.strip()}")
        return done.stdout.strip()

    def _set_up(self) -> None:
        base = base_folder(self._account)
        self._folder = Path(tempfile.mkdtemp(prefix=f"{FOLDER_PREFIX}{os.getpid()}-", dir=base))
        self._guard = ProcessGuard(self._folder, signal.SIGQUIT)  # an immediate shutdown, backends and all
        give(self._folder, self._account)
        if self._account is not None and not all(map(is_open_to_all, install_trees(self._bin))):
            self._bin = copy_install(self._bin, self._folder / "install", self._account)
        self._init()
        config = self.data_dir / "postgresql.conf"
        settings = {**self._settings, "unix_socket_directories": str(self._folder)}
        with config.open("a", encoding="utf-8") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())

    def _init(self) -> None:
        options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
        done = self._run_as_server([self._bin / "initdb", "-D", self.data_dir, *options])
        if done.returncode:
            hint = "; run it as a user that is in /etc/passwd" if "user does not exist" in done.stderr else ""
            raise ServerUnusable(f"initdb failed: {done.stderr.strip() or done.stdout.strip()}{hint}")

    def _launch(self) -> None:
        command = [str(self._bin / "postgres"), "-D", str(self.data_dir), "-p", str(self.port)]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own server
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=self._environment(),
                start_new_session=True,
                user=self._account.uid if self._account else None,
                group=self._account.gid if self._account else None,
                extra_groups=[] if self._account else None,
            )
        self._tell_guard(self._process.pid)
        try:
            _wait_until(self._is_ready, _START_S, "PostgreSQL did not get ready")
        except StockrelayError as error:
            self.kill()
            raise ServerUnusable(f"{error}; its log ends:\n{self.log_tail()}") from None

    def _is_ready(self) -> bool:
        """PostgreSQL writes its process id in line 1 of postmaster.pid and its state in line 8."""
        assert self._process is not None
        if self._process.poll() is not None:
            raise ServerUnusable(f"PostgreSQL ended with exit code {self._process.returncode}")
        try:
            lines = (self.data_dir / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0] == str(self._process.pid) and lines[7].strip() == "ready"

    def _run_as_server(self, command: list[str | Path]) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(  # noqa: S603 - our own initdb
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                cwd=self.folder,
                env=self._environment(),
                check=False,
                user=self._account.uid if self._account else None,
                group=self._account.gid if self._account else None,
                extra_groups=[] if self._account else None,
            )
        except OSError as error:
            uid = self._account.uid if self._account else os.geteuid()
            raise ServerUnusable(f"cannot run {command[0]} as the user id {uid}: {error}") from error

    def _environment(self) -> dict[str, str]:
        return clean_environment(os.environ)

    def _forget_process(self) -> None:
        self._process = None
        self._tell_guard(None)

    def _tell_guard(self, pid: int | None) -> None:
        if self._guard is not None:
            self._guard.watch(pid)


def _wait_until(is_so: Callable[[], bool], seconds: float, complaint: str) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            raise ServerUnusable(f"{complaint} within {seconds:.0f} s")
        time.sleep(0.01)
