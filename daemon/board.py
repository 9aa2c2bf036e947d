"""Facts of channels that are redrawn in place. A narrow terminal folds them; nothing is cut at its edge."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

_UNLIMITED: Final = 100_000


@dataclass(frozen=True, slots=True)
class Block:
    """One channel's facts by their names."""

    title: str
    facts: Mapping[str, str | Text]


@dataclass(frozen=True, slots=True)
class Board:
    """A column for each block where they fit beside each other, else one block below the other."""

    blocks: Sequence[Block]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = self._table()
        whole = Measurement.get(console, options.update(max_width=_UNLIMITED), table).maximum
        if whole <= options.max_width:
            yield table
            return
        names = dict.fromkeys(name for block in self.blocks for name in block.facts)
        label = max((len(name) for name in names), default=0)
        for block in self.blocks:
            yield Text(block.title, style="bold")
            yield from _folded(block.facts, label, is_narrow=options.max_width < 3 * label)

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("")
        for block in self.blocks:
            table.add_column(block.title)
        for name in dict.fromkeys(name for block in self.blocks for name in block.facts):
            table.add_row(name, *(block.facts.get(name, "") for block in self.blocks))
        return table


def _folded(facts: Mapping[str, str | Text], label: int, *, is_narrow: bool) -> RenderResult:
    if is_narrow:
        for name, fact in facts.items():
            yield Text(f"{name}:")
            yield Padding(_text(fact), (0, 0, 0, 2))
        return
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(min_width=label, no_wrap=True)
    grid.add_column(overflow="fold")
    for name, fact in facts.items():
        grid.add_row(name, _text(fact))
    yield grid


def _text(fact: str | Text) -> Text:
    return fact if isinstance(fact, Text) else Text(fact, overflow="fold")


@dataclass(frozen=True, slots=True)
class Fitted:
    """What fits on one screen: where lines are left out, the last one says how many; `below` always stands under it."""

    above: Group
    below: Text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        unbounded = options.update(height=None)
        foot = console.render_lines(self.below, unbounded, pad=False)
        lines = console.render_lines(self.above, unbounded, pad=False)
        room = max(1, console.size.height - len(foot))
        if len(lines) > room:
            left_out = len(lines) - room + 1
            more = Text(
                f"... and {left_out} more lines: make the window higher", style="dim", overflow="ellipsis"
            )
            lines = [*lines[: room - 1], *console.render_lines(more, unbounded, pad=False)[:1]]
        for place, line in enumerate([*lines, *foot]):
            if place:
                yield Segment.line()
            yield from line
