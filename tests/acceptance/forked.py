"""Processes of the program without the second that each needs to load it.

A process that has loaded the program forks for each one that is wanted: what runs then is the program's main module,
with its own arguments, environment, directory, session and standard streams, as a shell would start it.
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
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

import daemon

_MOST: Final = 1 << 20
_FILES: Final = 3
"""Standard output, standard error, and the pipe for the process id and the exit code."""


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
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", __file__],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": str(root)},
            )

    async def start(
        self, words: Sequence[str], out: int, err: int, cwd: Path, env: Mapping[str, str], *, is_session: bool
    ) -> Forked:
        """Start `stockrelay WORDS`."""
        read_end, write_end = os.pipe()
        request = {"words": list(words), "cwd": str(cwd), "env": dict(env), "is_session": is_session}
        try:
            socket.send_fds(self._control, [json.dumps(request).encode()], [out, err, write_end])
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
        self._process.wait(20)


def _serve(control: socket.socket) -> dict[str, Any]:
    """Fork for each request, until nobody is there to ask; return in the process that was asked for."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        data, files, _, _ = socket.recv_fds(control, _MOST, _FILES)
        if not data:
            sys.exit()
        out, err, pipe = files
        if os.fork() == 0:
            control.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            if (pid := os.fork()) == 0:
                os.close(pipe)
                _become(out, err)
                request: dict[str, Any] = json.loads(data)
                return request
            _attend(pid, pipe, (out, err))
        for file in files:
            os.close(file)


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


def _become(out: int, err: int) -> None:
    """Be as a process that has just been started."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    null = os.open(os.devnull, os.O_RDONLY)
    for file, place in ((null, 0), (out, 1), (err, 2)):
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
    import sqlalchemy.dialects.postgresql.asyncpg
    import sqlalchemy.ext.asyncio  # noqa: F401

    for module in pkgutil.walk_packages(daemon.__path__, "daemon."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    gc.collect()
    gc.freeze()
    request = _serve(socket.socket(fileno=os.dup(0)))
    if request["is_session"]:
        os.setsid()
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    time.tzset()
    sys.argv = ["stockrelay", *request["words"]]
    runpy.run_module("daemon", run_name="__main__")


if __name__ == "__main__":
    main()
