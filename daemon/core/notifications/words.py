"""One language's sentences, and the channel that a message is about."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from daemon.core.notifications.data import LONGEST_NAME, sanitize


@dataclass(frozen=True, slots=True)
class Words:
    """The sentences of one message. `titles` are the channels' names for people."""

    table: Mapping[str, str]
    channel: str | None
    titles: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, name: str, *values: object) -> str:
        """Return the sentence of that name with `values` in it; whole numbers get separators."""
        shown = [f"{v:,}" if isinstance(v, int) and not isinstance(v, bool) else str(v) for v in values]
        return self.table[name].format(*shown)

    def about(self, name: str, value: str | int) -> str:
        """Return the sentence about one value; nothing where there is no value, or none but 0."""
        return self(name, value) if value else ""

    def known(self, name: str, otherwise: str) -> str:
        """Return the sentence of that name, or `otherwise` where there is none."""
        return self(name) if name in self.table else otherwise

    @property
    def channel_name(self) -> str:
        """The channel as people call it."""
        if self.channel is None:
            return self("all_channels")
        return sanitize(self.titles.get(self.channel, self.channel), LONGEST_NAME)

    @property
    def channel_word(self) -> str:
        """The channel as commands call it."""
        return sanitize(self.channel or "", LONGEST_NAME)

    def duration(self, seconds: float) -> str:
        """Return a length of time in the unit that suits it."""
        if seconds < 120:
            return self("duration.s", round(seconds))
        if seconds < 7200:
            return self("duration.min", round(seconds / 60))
        return self("duration.h", f"{seconds / 3600:.1f}")

    def listed(self, names: Sequence[str]) -> str:
        return self("and").join(names)

    def examples(self, shown: Sequence[str], total: int) -> list[str]:
        """Return these lines of `total`, and one that says how many more there are."""
        return [*shown, self.about("rest", max(0, total - len(shown)))]
