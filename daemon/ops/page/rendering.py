"""Renders the page's templates. Text of foreign origin is escaped, and its control characters are shown."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, tzinfo
from functools import partial
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from daemon import __version__
from daemon.core.exposure import Split, Sums, kinds, split, total
from daemon.core.exposure_plot import exposure_plot
from daemon.core.page_words import HTML_CODES, LANGUAGES, TABLES, Language
from daemon.core.sparkline import polylines
from daemon.logs import visible
from daemon.ops.messages import HttpReply

HTML: Final = "text/html; charset=utf-8"
CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
_HEADERS: Final = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    # Not "no-referrer": with it, a browser says of a form of ours that it comes from nowhere.
    "Referrer-Policy": "same-origin",
}
_UNITS: Final = ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h"), (float("inf"), 86_400, "days"))


@dataclass(frozen=True, slots=True)
class PageWords:
    """One language's words."""

    language: Language

    def __call__(self, name: str, *values: object) -> str:
        """Return the text of that name with `values` in it; whole numbers get separators."""
        return TABLES[self.language][name].format(*(_shown(value) for value in values))

    def known(self, kind: str, value: str) -> str:
        """Return the word for one value of a kind, such as an outcome; the value itself where there is none."""
        return TABLES[self.language].get(f"{kind}.{value}", value)


@dataclass(eq=False)
class Renderer:
    """`zone` returns the zone in which people read times."""

    zone: Callable[[], tzinfo]
    now: Callable[[], datetime]
    _environment: Environment = field(init=False)

    def __post_init__(self) -> None:
        self._environment = Environment(
            loader=FileSystemLoader(Path(__file__).with_name("templates")),
            autoescape=True,
            undefined=StrictUndefined,
            finalize=_finalized,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._environment.globals |= {"polylines": polylines, "version": __version__, "languages": LANGUAGES}

    def page(
        self, template: str, language: Language, facts: Mapping[str, Any], status: int = 200
    ) -> HttpReply:
        """Return a whole page."""
        return HttpReply(status, self.text(template, language, facts).encode(), HTML, _HEADERS)

    def text(self, template: str, language: Language, facts: Mapping[str, Any]) -> str:
        """Return a template's text; `facts` are its variables."""
        zone, now = self.zone(), self.now()
        words = PageWords(language)
        return self._environment.get_template(template).render(
            t=words,
            html_lang=HTML_CODES[language],
            language=language,
            # For sentences that the daemon has in English only: a screen reader must know.
            english=Markup() if language == "en" else Markup(' lang="en"'),
            zone=str(zone),
            now=now,
            number=_shown,
            span=partial(_span, words),
            clock=partial(_clock, now, zone),
            full=partial(_full, zone),
            ago=partial(_ago, words, now),
            exposure_plot=partial(_exposure_plot, words, now.astimezone(zone).date()),
            **facts,
        )


def _finalized(value: object) -> object:
    """What a template puts out: control and direction characters of foreign text are shown, not followed."""
    if value is None:
        return ""
    if isinstance(value, str) and not isinstance(value, Markup):
        return visible(value)
    return value


def _shown(value: object) -> str:
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return f"{value:,}" if is_whole else str(value)


def _span(words: PageWords, seconds: float) -> str:
    seconds = max(0.0, seconds)
    if seconds < 10:
        return f"{seconds:.1f} {words('unit.s')}"
    size, unit = next((size, unit) for limit, size, unit in _UNITS if seconds < limit)
    return f"{seconds / size:.0f} {words(f'unit.{unit}')}"


def _exposure_plot(words: PageWords, today: date, by_day: Mapping[date, Sums]) -> tuple[str, Markup]:
    """What the days come to in words, and their plot."""

    def numbers(over: Split, lost: Split) -> tuple[int, int, int, int]:
        return (
            round(over.automatic),
            round(over.held_or_parked),
            round(lost.automatic),
            round(lost.held_or_parked),
        )

    over, lost = map(split, kinds(total(by_day.values())))
    title = words("exposure.sums", *numbers(over, lost))
    plot = exposure_plot(
        by_day, today, title, lambda day, *both: f"{day}: {words('exposure.sums', *numbers(*both))}"
    )
    return title, Markup(plot)  # noqa: S704 - its texts are escaped where they are put in


def _clock(now: datetime, zone: tzinfo, time: datetime) -> str:
    """The time of day, with the day where it is another one than today."""
    there = time.astimezone(zone)
    is_today = there.date() == now.astimezone(zone).date()
    return f"{there:%H:%M:%S}" if is_today else f"{there:%Y-%m-%d %H:%M:%S}"


def _full(zone: tzinfo, time: datetime) -> str:
    return f"{time.astimezone(zone):%Y-%m-%d %H:%M:%S %Z}"


def _ago(words: PageWords, now: datetime, time: datetime) -> str:
    away = now - time
    name = "ago" if away >= timedelta(0) else "in"
    return words(name, _span(words, abs(away).total_seconds()))
