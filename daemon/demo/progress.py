"""What the demo shows while it runs: a live board on a terminal, plain lines elsewhere."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from rich.console import Console
from rich.live import Live
from rich.text import Text

from daemon import clock
from daemon.board import Block, Board
from daemon.core.types import ChannelName

_REFRESH_S: Final = 0.25
_LINE_EVERY_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class ChannelSnapshot:
    """One channel at one moment. `behind`: products whose number the marketplace does not have yet."""

    channel: ChannelName
    products: int
    behind: int
    requests: int
    last: Sequence[str]


class Progress:
    """Prints stages, and between them the snapshots that `look` returns."""

    def __init__(self, console: Console, look: Callable[[], Sequence[ChannelSnapshot]]) -> None:
        self._console = console
        self._look = look
        self._start = clock.monotonic()
        self.is_live = console.is_terminal and not console.is_dumb_terminal

    def say(self, line: str) -> None:
        """Print one line that stays."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def stage(self, text: str) -> None:
        """A new stage begins."""
        self.say(f"{self._elapsed()}  {text}")

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Show what goes on for as long as the context lasts."""
        show = asyncio.create_task(
            self._show_board() if self.is_live else self._print_lines(), name="progress"
        )
        try:
            yield
        finally:
            show.cancel()
            await asyncio.wait([show])
        if not show.cancelled():
            show.result()

    async def _show_board(self) -> None:
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            while True:
                live.update(self._board(), refresh=True)
                await asyncio.sleep(_REFRESH_S)

    async def _print_lines(self) -> None:
        while True:
            await asyncio.sleep(_LINE_EVERY_S)
            parts = [f"{g.channel} {g.requests} requests, {g.behind} behind" for g in self._look()]
            if parts:
                self.say(f"{self._elapsed()}    {'; '.join(parts)}")

    def _board(self) -> Board:
        return Board([Block(snapshot.channel, _facts(snapshot)) for snapshot in self._look()])

    def _elapsed(self) -> str:
        return f"{clock.monotonic() - self._start:5.1f} s"


def _facts(snapshot: ChannelSnapshot) -> dict[str, str | Text]:
    style = "green" if snapshot.behind == 0 else "yellow"
    return {
        "SKUs": str(snapshot.products),
        "behind": Text(str(snapshot.behind), style=style),
        "requests": str(snapshot.requests),
        "sent last": Text("\n".join(snapshot.last), style="dim"),
    }
