"""How the checks write down what they find."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from daemon.core.errors import StockrelayError
from daemon.core.finding import Finding, Verdict


class CheckFailed(StockrelayError):
    """What a check has found, and what to do about it."""

    def __init__(self, found: str, advice: str) -> None:
        super().__init__(found)
        self.advice = advice


@dataclass(slots=True)
class Findings:
    """The results so far, in the order in which they are shown."""

    results: list[Finding] = field(default_factory=list)

    def passed(self, name: str, found: str) -> None:
        self.results.append(Finding(name, "", found, verdict=Verdict.PASSED))

    def warn(self, name: str, found: str, advice: str) -> None:
        self.results.append(Finding(name, "", found, advice, Verdict.WARNING))

    def failed(self, name: str, found: str, advice: str) -> None:
        self.results.append(Finding(name, "", found, advice))

    def add(self, name: str, wrong: Sequence[Finding], all_well: str) -> None:
        """Show these findings as results of one check; none: it passed, and `all_well` says so."""
        self.results += [replace(each, check=name, subject="") for each in wrong]
        if not wrong:
            self.passed(name, all_well)

    def skip(self, because: str, *names: str) -> None:
        """What could not be looked at, and the check that has to pass first."""
        self.results += [
            Finding(name, "", f"not looked at: {because} has to pass first", verdict=Verdict.SKIPPED)
            for name in names
        ]

    @contextmanager
    def guarding(self, name: str, advice: str = "see what the database says") -> Iterator[None]:
        """A block in which an error of ours fails this check, and no other."""
        try:
            yield
        except CheckFailed as error:
            self.failed(name, str(error), error.advice)
        except StockrelayError as error:
            self.failed(name, str(error), advice)
