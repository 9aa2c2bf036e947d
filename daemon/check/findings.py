"""How the checks write down what they find."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType

from daemon.core.capture import Finding
from daemon.core.checks import CheckResult, Verdict
from daemon.core.errors import StockrelayError


@dataclass(slots=True)
class Findings:
    """The results so far, in the order in which they are shown."""

    results: list[CheckResult] = field(default_factory=list)

    def passed(self, name: str, found: str) -> None:
        self.results.append(CheckResult(name, Verdict.PASSED, found))

    def warn(self, name: str, found: str, advice: str) -> None:
        self.results.append(CheckResult(name, Verdict.WARNING, found, advice))

    def failed(self, name: str, found: str, advice: str) -> None:
        self.results.append(CheckResult(name, Verdict.FAILED, found, advice))

    def add(self, name: str, wrong: Sequence[Finding], all_well: str) -> None:
        """What was found wrong with capturing; nothing: it passed, and `all_well` says so."""
        for each in wrong:
            (self.failed if each.is_error else self.warn)(name, each.found, each.advice)
        if not wrong:
            self.passed(name, all_well)

    def skip(self, because: str, *names: str) -> None:
        """What could not be looked at, and the check that has to pass first."""
        self.results += [
            CheckResult(name, Verdict.SKIPPED, f"not looked at: {because} has to pass first")
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
