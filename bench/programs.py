"""The programs of a measurement: each a process of its own, which ends with ours however that ends."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import psutil

from daemon.demo.guarded import ProcessGuard

ROOT: Final = Path(__file__).resolve().parents[1]
_STOP_S: Final = 20.0
_TAIL: Final = 2_000


class BenchError(Exception):
    """A measurement could not be made; the message says why."""


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("STOCKRELAY_", "PG"))}
    return {**kept, "PYTHONPATH": str(ROOT)}


class Program:
    """A running Python program; `cpu_s` is what it has used so far."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._usage = psutil.Process(process.pid)
        self._log = log

    @property
    def cpu_s(self) -> float:
        times = self._usage.cpu_times()
        return float(times.user + times.system)

    def check(self) -> None:
        """Raise BenchError when it has ended by itself."""
        if self._process.returncode is not None:
            raise BenchError(f"ended with exit code {self._process.returncode}: {self._tail()}")

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL when that takes too long."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(self._process.wait(), _STOP_S)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()

    def _tail(self) -> str:
        return self._log.read_text("utf-8", errors="replace")[-_TAIL:]


@asynccontextmanager
async def running(name: str, words: Sequence[str]) -> AsyncIterator[Program]:
    """Run `python WORDS`; its output goes to a file, as a daemon's does."""
    folder = Path(tempfile.mkdtemp(prefix=f"stockrelay-bench-{name}-"))
    guard = ProcessGuard(folder, signal.SIGKILL)
    log = folder / "log"
    try:
        with log.open("wb") as out:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, *words),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=folder,
                env=_environment(),
                start_new_session=True,
            )
        guard.watch(process.pid)
        program = Program(process, log)
        try:
            yield program
            program.check()
        finally:
            await program.stop()
    finally:
        guard.watch(None)
        guard.release()
        shutil.rmtree(folder)


async def answer_of(words: Sequence[str], timeout_s: float) -> dict[str, Any]:
    """Run `python WORDS` to its end and return the JSON object it prints. Raises BenchError."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env=_environment(),
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), timeout_s)
    except TimeoutError:
        raise BenchError(f"{' '.join(words)}: no end within {timeout_s:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise BenchError(f"{' '.join(words)}: {err.decode()[-_TAIL:]}")
    answer: dict[str, Any] = json.loads(out or b"{}")
    return answer
