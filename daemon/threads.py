"""Runs in a thread of its own what may hang: a file on a network, a library that blocks."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

T = TypeVar("T")


async def in_thread(work: Callable[[], T], name: str) -> T:
    """Return what `work` returns, or raise what it raises. A thread that hangs is left behind when the caller stops
    waiting. It is not a pool's: Python waits at exit for the threads of those."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(end: Callable[[], None]) -> None:
        if not done.done():
            end()

    def run() -> None:
        try:
            end = partial(done.set_result, work())
        except Exception as error:  # noqa: BLE001 - raised where the result is awaited
            end = partial(done.set_exception, error)
        # The loop may be closed: nothing waits any more.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, end)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await done
