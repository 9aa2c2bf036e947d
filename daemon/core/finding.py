"""What a check found: the checks of `stockrelay check`, and those that the daemon makes while it runs."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How a check ended."""

    PASSED = "passed"
    WARNING = "warning"
    """It works, and a person should look at it."""
    FAILED = "failed"
    """It does not work: the daemon would lose, delay or refuse something."""
    SKIPPED = "skipped"
    """It could not be looked at, because an earlier check failed."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check. `subject` is what it is about, where a check looks at several things. `advice` says what
    to do; it is empty when there is nothing to do. `is_lossy`: while it lasts, changes may be missed.

    A finding that the daemon keeps holds no figures that change by themselves: when its words change, it is reported
    again.
    """

    check: str
    subject: str
    found: str
    advice: str = ""
    verdict: Verdict = Verdict.FAILED
    is_lossy: bool = True

    @property
    def is_error(self) -> bool:
        """Whether an operator is needed."""
        return self.verdict is Verdict.FAILED
