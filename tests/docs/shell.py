"""A reader at a terminal: one shell that keeps its folder and variables, and what runs beside it."""

import asyncio
import os
import shlex
import signal
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from daemon.demo.guarded import ProcessGuard
from daemon.demo.place import free_port
from tests.acceptance.replica import forker
from tests.docs.likeness import contains
from tests.docs.pages import ROOT

WAIT_S: Final = 30.0
_LOOK_S: Final = 0.1


class Shell:
    """Bash in `folder`, with `stockrelay`, `python` and psql on its path and nothing of an operator's settings.

    `ports` are those that the documents name; free ones are taken in their stead. `places` are other texts of the
    documents and what stands for them here. `variables` are for what differs between a test and a terminal.
    """

    def __init__(
        self,
        folder: Path,
        postgres: Path,
        *,
        ports: Iterable[int] = (),
        places: Mapping[str, str] | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self._folder = folder
        self._notes = folder / ".notes"
        self._postgres = postgres
        self._places = dict(places or {})
        for port in ports:
            here = free_port()
            self._places |= {f"127.0.0.1:{port}": f"127.0.0.1:{here}", f"--port {port}": f"--port {here}"}
        self._variables = dict(variables or {})
        self._bash: asyncio.subprocess.Process
        self._stays: dict[str, tuple[int, ProcessGuard, Path]] = {}
        self._count = 0

    async def __aenter__(self) -> Self:
        bin_dir = self._set_up()
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("STOCKRELAY_", "PG"))
        }
        path = os.pathsep.join([str(bin_dir), str(self._postgres), os.environ["PATH"]])
        self._bash = await asyncio.create_subprocess_exec(
            "bash", "--noprofile", "--norc", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            cwd=self._folder, env={**kept, "PATH": path, "COLUMNS": "120", "LC_ALL": "C.UTF-8", **self._variables},
        )  # fmt: skip
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in list(self._stays):
            await self.end(name)
        assert self._bash.stdin is not None
        self._bash.stdin.close()
        await self._bash.wait()

    async def run(self, line: str) -> tuple[int, str]:
        """Run a command to its end; return its exit code and what it printed, on both streams."""
        script, out = self._script(line)
        code = await self._say(f". {script} > {out} 2>&1 < /dev/null; echo $?")
        return int(code), self._printed(out)

    async def stay(self, line: str, shown: str) -> None:
        """Start a command that goes on, and wait until it has printed what is shown, in whatever order."""
        script, out = self._script(f"exec {line}")
        pid = int(await self._say(f"bash {script} > {out} 2>&1 < /dev/null & echo $!"))
        guard = ProcessGuard(self._notes, signal.SIGKILL)
        guard.watch(pid)
        self._stays[line.strip()] = pid, guard, out
        deadline = time.monotonic() + WAIT_S
        while not contains(shown, printed := self._printed(out)):
            assert time.monotonic() < deadline, f"{line!r} has printed:\n{printed}\ninstead of:\n{shown}"
            await asyncio.sleep(_LOOK_S)

    async def end(self, beginning: str) -> str:
        """End what stays and begins so, as Ctrl-C does; return what it has printed.

        By SIGTERM: a shell without a terminal has what runs beside it ignore SIGINT.
        """
        (line,) = [line for line in self._stays if line.startswith(beginning)]
        pid, guard, out = self._stays.pop(line)
        await self._say(f"kill -TERM {pid}; wait {pid}; echo")
        guard.release()
        return self._printed(out)

    def _set_up(self) -> Path:
        self._notes.mkdir()
        bin_dir = self._notes / "bin"
        bin_dir.mkdir()
        here = f"PYTHONPATH={shlex.quote(str(ROOT))} exec {shlex.quote(sys.executable)} -P"
        (bin_dir / "python").write_text(f'#!/bin/sh\n{here} "$@"\n')
        (bin_dir / "python").chmod(0o755)
        forker().write_command(bin_dir / "stockrelay")
        return bin_dir

    def here(self, text: str) -> str:
        """A text of a document, with the addresses that are here."""
        for there, here in self._places.items():
            text = text.replace(there, here)
        return text

    def _printed(self, out: Path) -> str:
        text = out.read_text("utf-8", errors="replace")
        for there, here in self._places.items():
            text = text.replace(here, there)
        return text

    def _script(self, line: str) -> tuple[Path, Path]:
        self._count += 1
        script = self._notes / f"{self._count}.sh"
        script.write_text(self.here(line), "utf-8")
        out = script.with_suffix(".out")
        out.touch()
        return script, out

    async def _say(self, line: str) -> str:
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        self._bash.stdin.write(f"{line}\n".encode())
        async with asyncio.timeout(2 * WAIT_S):
            return (await self._bash.stdout.readline()).decode()
