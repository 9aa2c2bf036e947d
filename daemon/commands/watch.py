"""`stockrelay status --watch`: the status, redrawn in place."""

import asyncio
import os
import signal
import sys
import termios
import tty
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, tzinfo
from enum import StrEnum
from typing import Any, Final

import click
from rich.console import Console, Group, RenderableType
from rich.text import Text

from daemon import clock
from daemon.board import Block, Board, Fitted
from daemon.core.errors import StockrelayError
from daemon.core.times import TimeFormat
from daemon.logs import visible
from daemon.ops.pages import STATUS_DUTY
from daemon.tables import (
    channel_facts,
    channel_tasks,
    operation_lines,
    parked_heading,
    print_status,
    status_heading,
)

Status = Mapping[str, Any]
Read = Callable[[], Awaitable[Status]]

_REDRAW_S: Final = 1.0
_ENDS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Order(StrEnum):
    """How the channels are sorted: by what `s` goes through."""

    NAME = "name"
    BACKLOG = "backlog"
    OLDEST = "oldest change"
    PARKED = "parked"

    @property
    def next(self) -> "Order":
        orders = list(Order)
        return orders[(orders.index(self) + 1) % len(orders)]

    def sorted(self, channels: Mapping[str, Status]) -> dict[str, Status]:
        """The channels with the largest first, or by name."""
        keys: dict[Order, Callable[[Status], float]] = {
            Order.NAME: lambda _: 0,
            Order.BACKLOG: lambda channel: channel["backlog"],
            Order.OLDEST: lambda channel: channel["oldest_s"] or 0,
            Order.PARKED: lambda channel: channel["parked"],
        }
        return dict(sorted(channels.items(), key=lambda one: (-keys[self](one[1]), one[0])))


@dataclass(slots=True)
class StatusView:
    """What is shown: the last status that could be read, and since when none could be."""

    status: Status
    zone: tzinfo
    now: datetime
    order: Order = Order.NAME
    is_paused: bool = False
    problem: str | None = None
    lost_at: datetime | None = None

    def shown(self, *, has_keys: bool) -> Fitted:
        return Fitted(Group(*self._lines()), Text(self._footer(has_keys), style="reverse"))

    def _lines(self) -> Iterator[RenderableType]:
        times = TimeFormat(self.now, self.zone)
        if self.problem is not None and self.lost_at is not None:
            lost = (
                f"not read since {times.at(self.lost_at)}: {visible(self.problem)}; what follows is of before"
            )
            yield Text(f"{lost}\n", style="bold red")
        for line in status_heading(self.status, times):
            yield Text(f"{line}\n")
        channels = self.order.sorted(self.status["channels"])
        yield Board([Block(name, _facts(channel, times)) for name, channel in channels.items()])
        for name, channel in channels.items():
            for line in channel_tasks(name, channel):
                yield Text(f"\n{line}")
            if channel["parked_skus"]:
                yield Text(f"\n{parked_heading(name, channel)}")
                for one in channel["parked_skus"]:
                    yield Text(f"  {visible(one['sku'])}: {visible(one['reason'])}")
        operations = list(operation_lines(self.status.get("operations", ()), times))
        if operations:
            yield Text("\n" + "\n".join(operations))

    def _footer(self, has_keys: bool) -> str:
        state = "PAUSED  " if self.is_paused else ""
        if not has_keys:
            return f"{state}Ctrl-C ends"
        pause = "goes on" if self.is_paused else "pauses"
        return f"{state}space {pause} · s sorts (by {self.order}) · q ends"


def _facts(channel: Status, times: TimeFormat) -> dict[str, str | Text]:
    facts = {name: visible(fact) for name, fact in channel_facts(channel, times).items()}
    is_wrong = {
        "owner": not channel["owners"],
        "paused": channel["paused"] is not None,
        "trouble": channel["trouble"] is not None,
        "held": channel["held"] > 0,
        "parked": channel["parked"] > 0,
        "open differences": channel["open_differences"] > 0,
    }
    return {name: Text(fact, style="yellow") if is_wrong.get(name) else fact for name, fact in facts.items()}


async def watch(read: Read, zone: tzinfo, interval_s: float) -> None:
    """Show the status until the operator ends it. Raises StockrelayError where it can't be read at first."""
    console = Console()
    view = StatusView(await read(), zone, clock.now())
    if console.is_terminal and not console.is_dumb_terminal:
        await WatchScreen(console, view, read, interval_s).run()
    else:
        await _repeat(view, read, interval_s)


async def _repeat(view: StatusView, read: Read, interval_s: float) -> None:
    """Where nothing can be redrawn: one block after the other."""
    pause_s = interval_s
    while True:
        if view.problem is None:
            print_status(view.status, TimeFormat(clock.now(), view.zone))
            click.echo()
        else:
            click.echo(f"not read: {visible(view.problem)}", err=True)
        sys.stdout.flush()
        await asyncio.sleep(pause_s)
        pause_s = await _reread(view, read, interval_s)


async def _reread(view: StatusView, read: Read, interval_s: float) -> float:
    """Read the status, or note why it can't be read; return how long to wait before the next reading. As for the status
    page, the database is read a twentieth of the time at most."""
    began = clock.monotonic()
    try:
        view.status = await read()
    except StockrelayError as error:
        view.problem = str(error)
        view.lost_at = view.lost_at or clock.now()
    else:
        view.problem = view.lost_at = None
    return max(interval_s, STATUS_DUTY * (clock.monotonic() - began))


class WatchScreen:
    """The alternate screen of a terminal, and its keys."""

    def __init__(self, console: Console, view: StatusView, read: Read, interval_s: float) -> None:
        self._console = console
        self._view = view
        self._read = read
        self._interval_s = interval_s
        self._is_over = False
        self._changed = asyncio.Event()
        self._goes_on = asyncio.Event()
        self._goes_on.set()

    async def run(self) -> None:
        with self._signals(), self._keys() as has_keys, self._console.screen():
            async with self._reading() as reading:
                while not self._is_over:
                    if reading.done():
                        # It has failed unexpectedly: leave the screen, and raise its error.
                        reading.result()
                    if not self._view.is_paused:
                        self._view.now = clock.now()
                    self._console.update_screen(self._view.shown(has_keys=has_keys))
                    self._changed.clear()
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._changed.wait(), _REDRAW_S)

    @asynccontextmanager
    async def _reading(self) -> "AsyncIterator[asyncio.Task[None]]":
        task = asyncio.create_task(self._read_on(), name="watch-status")
        task.add_done_callback(lambda _: self._changed.set())
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _read_on(self) -> None:
        pause_s = self._interval_s
        while True:
            await asyncio.sleep(pause_s)
            await self._goes_on.wait()
            pause_s = await _reread(self._view, self._read, self._interval_s)
            self._changed.set()

    def _press(self, key: str) -> None:
        match key:
            case "q" | "Q" | "\x03" | "\x04":
                self._is_over = True
            case "s" | "S":
                self._view.order = self._view.order.next
            case " ":
                self._view.is_paused = not self._view.is_paused
                (self._goes_on.clear if self._view.is_paused else self._goes_on.set)()
            case _:
                return
        self._changed.set()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in _ENDS:
            loop.add_signal_handler(number, self._press, "q")
        loop.add_signal_handler(signal.SIGWINCH, self._changed.set)
        try:
            yield
        finally:
            for number in (*_ENDS, signal.SIGWINCH):
                loop.remove_signal_handler(number)

    @contextmanager
    def _keys(self) -> Iterator[bool]:
        """Read single keys from the terminal, if standard input is one. Ctrl-Z is none: the shell would be left on
        this screen."""
        if not sys.stdin.isatty():
            yield False
            return
        keyboard, loop = sys.stdin.fileno(), asyncio.get_running_loop()
        before = termios.tcgetattr(keyboard)
        tty.setcbreak(keyboard)
        mode = termios.tcgetattr(keyboard)
        mode[6][termios.VSUSP] = b"\0"
        termios.tcsetattr(keyboard, termios.TCSANOW, mode)
        loop.add_reader(keyboard, self._type, keyboard)
        try:
            yield True
        finally:
            loop.remove_reader(keyboard)
            termios.tcsetattr(keyboard, termios.TCSADRAIN, before)

    def _type(self, keyboard: int) -> None:
        try:
            keys = os.read(keyboard, 64)
        except OSError:
            keys = b""
        if not keys:
            # The terminal is gone.
            asyncio.get_running_loop().remove_reader(keyboard)
            self._press("q")
        # The keys of arrows and the like begin with an escape, and none of their letters is meant.
        for key in () if keys.startswith(b"\x1b") else keys.decode("utf-8", "ignore"):
            self._press(key)
