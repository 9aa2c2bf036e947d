"""One language's table of words, and the channel that a message is about."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from daemon.core.notifications.data import LONGEST_NAME, tame


@dataclass(frozen=True, slots=True)
class Words:
    """The words of one message."""

    table: Mapping[str, str]
    channel: str | None
    titles: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, name: str, *values: object) -> str:
        """The sentence of that name with `values` in it; whole numbers get separators."""
        shown = [f"{v:,}" if isinstance(v, int) and not isinstance(v, bool) else str(v) for v in values]
        return self.table[name].format(*shown)

    def has(self, name: str) -> bool:
        return name in self.table

    @property
    def channel_name(self) -> str:
        """The channel as people call it."""
        if self.channel is None:
            return self("all_channels")
        return tame(self.titles.get(self.channel, self.channel), LONGEST_NAME)

    @property
    def channel_word(self) -> str:
        """The channel as commands call it."""
        return tame(self.channel or "", LONGEST_NAME)

    def duration(self, seconds: float) -> str:
        """A length of time in the unit that suits it."""
        if seconds < 120:
            return self("duration.s", round(seconds))
        if seconds < 7200:
            return self("duration.min", round(seconds / 60))
        return self("duration.h", f"{seconds / 3600:.1f}")

    def listed(self, names: Sequence[str]) -> str:
        return self("and").join(names)
