"""What `stockrelay check` found out: one value for each thing it looked at."""

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
class CheckResult:
    """One line of the table. `advice` says what to do; it is empty when there is nothing to do."""

    name: str
    verdict: Verdict
    found: str
    advice: str = ""
