"""Processes of the program without the second that each needs to load it.

A process that has loaded the program forks for each one that is wanted: what runs then is the program's main module,
with its own arguments, environment, directory, session and standard streams, as a shell would start it. A shell gets
the same by `write_command`: a small program that asks for such a process, hands signals on, and ends as it ends.
"""

import asyncio
import contextlib
import gc
import importlib
import io
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NoReturn

import daemon

FAULTS: Final = "TEST_FAULTS"
"""The variable that names a file of Python to be run before the program: it makes some of its code faulty."""
_MOST: Final = 1 << 20
_FILES: Final = 4
"""The three standard streams, and the pipe for the process id and the exit code."""
_COMMAND: Final = """\
#!{python} -IS
import json, os, signal, socket, sys
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asking:
    asking.connect({address!r})
    os.umask(mask := os.umask(0))
    request = {{"words": sys.argv[1:], "cwd": os.getcwd(), "env": dict(os.environ), "umask": mask}}
    socket.send_fds(asking, [json.dumps(request).encode()], [0, 1, 2])
    pid = int(asking.recv(32))
    def hand_on(number, _):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, hand_on)
    code = int(asking.recv(32))
if code < 0:
    signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


class Forked:
    """A running process; a part of what asyncio.subprocess.Process offers."""

    def __init__(self, pid: int, status: asyncio.StreamReader, transport: asyncio.ReadTransport) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._transport = transport
        self._end = asyncio.create_task(self._read_end(status))

    async def _read_end(self, status: asyncio.StreamReader) -> int:
        line = await status.readline()
        self._transport.close()
        self.returncode = int(line) if line else -signal.SIGKILL
        return self.returncode

    async def wait(self) -> int:
        """Return the exit code, or the number of the signal that ended it, negative."""
        return await asyncio.shield(self._end)

    def send_signal(self, number: int) -> None:
        """Send a signal, if it has not ended."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


class Forker:
    """The process that has loaded the program. It ends with this one."""

    def __init__(self, root: Path) -> None:
        self._null = os.open(os.devnull, os.O_RDONLY)
        self._folder = tempfile.TemporaryDirectory(prefix="stockrelay-forker-")
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(self._address)
            listener.listen()
            self._process = subprocess.Popen(
                [sys.executable, "-P", __file__, str(listener.fileno())],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": str(root)},
                pass_fds=[listener.fileno()],
            )

    @property
    def _address(self) -> str:
        return f"{self._folder.name}/asked"

    @cached_property
    def command(self) -> Path:
        """A program that runs as `stockrelay` would."""
        file = Path(self._folder.name, "stockrelay")
        self.write_command(file)
        return file

    def write_command(self, file: Path) -> None:
        """Make `file` a program that runs as `stockrelay` would."""
        file.write_text(_COMMAND.format(python=sys.executable, address=self._address), "utf-8")
        file.chmod(0o755)

    async def start(
        self, words: Sequence[str], out: int, err: int, cwd: Path, env: Mapping[str, str], *, is_session: bool
    ) -> Forked:
        """Start `stockrelay WORDS`."""
        read_end, write_end = os.pipe()
        request = {"words": list(words), "cwd": str(cwd), "env": dict(env), "is_session": is_session}
        try:
            socket.send_fds(self._control, [json.dumps(request).encode()], [self._null, out, err, write_end])
        finally:
            os.close(write_end)
        status = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(status), os.fdopen(read_end, "rb", 0)
        )
        return Forked(int(await status.readline()), status, transport)

    def close(self) -> None:
        """End it; what it has started goes on."""
        self._control.close()
        # It may still be loading the program, which takes long on a busy machine.
        self._process.terminate()
        self._process.wait(20)
        self._folder.cleanup()
        os.close(self._null)


def _serve(control: socket.socket, listener: socket.socket) -> dict[str, Any]:
    """Fork for each request, until nobody is there to ask; return in the process that was asked for."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        if listener in select.select([control, listener], [], [])[0]:
            asking, _ = listener.accept()
            data, files, _, _ = socket.recv_fds(asking, _MOST, _FILES)
            files.append(asking.detach())
        else:
            asking = None
            data, files, _, _ = socket.recv_fds(control, _MOST, _FILES)
        if not data and asking is None:
            sys.exit()
        *streams, pipe = files
        if data and os.fork() == 0:
            control.close()
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            if (pid := os.fork()) == 0:
                os.close(pipe)
                _become(streams)
                request: dict[str, Any] = json.loads(data)
                return request
            if asking is not None:
                threading.Thread(target=_end_with, args=(pipe, pid), daemon=True).start()
            _attend(pid, pipe, streams)
        for file in files:
            os.close(file)


def _end_with(pipe: int, pid: int) -> None:
    """End the process when the one that asked for it is gone."""
    with contextlib.suppress(OSError):
        os.read(pipe, 1)
        os.kill(pid, signal.SIGKILL)


def _attend(pid: int, pipe: int, files: Sequence[int]) -> NoReturn:
    """Report the process id, and the exit code when the process has ended."""
    with contextlib.suppress(BrokenPipeError):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        for file in files:
            os.close(file)
        os.write(pipe, b"%d\n" % pid)
        _, ended = os.waitpid(pid, 0)
        os.write(pipe, b"%d\n" % os.waitstatus_to_exitcode(ended))
    os._exit(0)


def _become(streams: Sequence[int]) -> None:
    """Be as a process that has just been started."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for place, file in enumerate(streams):
        os.dup2(file, place)
        os.close(file)
    sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, "r", closefd=False)))
    sys.stdout = io.TextIOWrapper(io.BufferedWriter(io.FileIO(1, "w", closefd=False)))
    sys.stderr = io.TextIOWrapper(
        io.BufferedWriter(io.FileIO(2, "w", closefd=False)), errors="backslashreplace", line_buffering=True
    )


def main() -> None:
    """Load the program, and serve."""
    # Importing is what takes the time; these are imported only where they are wanted.
    import alembic.command  # noqa: F401
    import apprise
    import sqlalchemy.dialects.postgresql.asyncpg
    import sqlalchemy.ext.asyncio  # noqa: F401

    for module in pkgutil.walk_packages(daemon.__path__, "daemon."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    # What is told by a URL has more than a hundred kinds, which are loaded all at once.
    apprise.Apprise.instantiate("json://127.0.0.1")
    gc.collect()
    gc.freeze()
    request = _serve(socket.socket(fileno=os.dup(0)), socket.socket(fileno=int(sys.argv[1])))
    if request.get("is_session"):
        os.setsid()
    if "umask" in request:
        os.umask(request["umask"])
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    time.tzset()
    sys.argv = ["stockrelay", *request["words"]]
    if FAULTS in os.environ:
        runpy.run_path(os.environ[FAULTS])
    runpy.run_module("daemon", run_name="__main__")


if __name__ == "__main__":
    main()
