"""The exposure of the last days as a picture: an SVG with a bar for each day, over above the line and lost below it."""

from collections.abc import Callable, Mapping
from datetime import date, timedelta
from typing import Final

from daemon.core.exposure import Split, Sums, split

DAYS: Final = 30
_WIDTH: Final = 600
_HEIGHT: Final = 160
_BAR: Final = _WIDTH / DAYS


Words = Callable[[date, Split, Split], str]
"""What a bar's title says of a day's over and lost."""


def first_day(today: date) -> date:
    """Return the first day that is shown."""
    return today - timedelta(days=DAYS - 1)


def exposure_plot(by_day: Mapping[date, Sums], today: date, title: str, words: Words) -> str:
    """Return the plot as SVG. `title` and what `words` returns are plain text, and are escaped. The classes `over`,
    `lost`, `over-held` and `lost-held` (what was held or parked) are for the page's style sheet."""
    days = [first_day(today) + timedelta(days=n) for n in range(DAYS)]
    splits = {day: tuple(map(split, (by_day[day].over, by_day[day].lost))) for day in days if day in by_day}
    most = max((sum(one) for both in splits.values() for one in both), default=0.0)
    bars = [
        _bar(place, words(day, over, lost), over, lost, most)
        for place, day in enumerate(days)
        if day in splits
        for over, lost in [splits[day]]
    ]
    middle = _HEIGHT / 2
    return (
        f'<svg class="exposure" role="img" viewBox="0 0 {_WIDTH} {_HEIGHT}" xmlns="http://www.w3.org/2000/svg">'
        f"<title>{_escaped(title)}</title>{''.join(bars)}"
        f'<line class="axis" x1="0" x2="{_WIDTH}" y1="{middle:g}" y2="{middle:g}"/></svg>'
    )


def _bar(place: int, title: str, over: Split, lost: Split, most: float) -> str:
    middle, x = _HEIGHT / 2, place * _BAR + 1
    scale = (middle - 2) / most if most > 0 else 0.0
    parts = [
        ("over", middle - over.automatic * scale, over.automatic),
        ("over-held", middle - sum(over) * scale, over.held_or_parked),
        ("lost", middle, lost.automatic),
        ("lost-held", middle + lost.automatic * scale, lost.held_or_parked),
    ]
    rectangles = "".join(
        f'<rect class="{name}" x="{x:.1f}" y="{y:.1f}" width="{_BAR - 2:.1f}" height="{value * scale:.1f}"/>'
        for name, y, value in parts
        if value > 0
    )
    return f"<g><title>{_escaped(title)}</title>{rectangles}</g>"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
