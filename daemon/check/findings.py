"""How the checks write down what they find."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType

from daemon.core.errors import StockrelayError
from daemon.core.finding import Finding, Verdict


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

    def guarding(self, name: str, advice: str = "see what the database says") -> "_Guard":
        """A block in which an error of ours fails this check, and no other."""
        return _Guard(self, name, advice)


@dataclass(frozen=True, slots=True)
class _Guard:
    findings: Findings
    name: str
    advice: str

    def __enter__(self) -> None:
        """Nothing to begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, StockrelayError):
            return False
        self.findings.failed(self.name, str(error), self.advice)
        return True
