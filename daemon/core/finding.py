"""The result of one check, of `stockrelay check` or of the running daemon."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How a check ended."""

    PASSED = "passed"
    WARNING = "warning"
    """It works, and an operator should look at it."""
    FAILED = "failed"
    """It does not work: the daemon would lose, delay or refuse something."""
    SKIPPED = "skipped"
    """It was not made, because an earlier check failed."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check of one `subject`, which is empty where a check has only one. `advice` says what to do;
    it is empty when there is nothing to do. `is_lossy`: while it lasts, changes may be missed.

    A finding that the daemon keeps holds no figures that change by themselves: when its words change, it is reported
    again.
    """

    check: str
    subject: str
    found: str
    advice: str = ""
    verdict: Verdict = Verdict.FAILED
    is_lossy: bool = False

    @property
    def is_error(self) -> bool:
        """Whether an operator is needed."""
        return self.verdict is Verdict.FAILED


def listed_in_short(words: Sequence[str], most: int) -> str:
    """Return the first of the words and how many more there are."""
    more = f"; and {len(words) - most} more" if len(words) > most else ""
    return "; ".join(words[:most]) + more
