"""Whether the watched tables call SKUs as the listings do. Pure."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from daemon.core.capture import Check, Finding, OpenFinding
from daemon.core.quoting import quoted

FEW: Final = 10
"""SKUs that no listing knows prove nothing while they are fewer: not everything is on sale."""
ADVICE: Final = (
    "let watch.sku give the SKU exactly as the listing's column sku does (blanks, capitals and leading zeros count), "
    "then run `stockrelay migrate` as the schema's owner"
)


@dataclass(frozen=True, slots=True)
class Spelling:
    """What some rows or changes of a watched table call SKUs: how many are `known` to a listing and how many are not,
    one that is not, and one (`alike`) that is spelled almost like a `listed` one."""

    table: str
    known: int
    unknown: int
    example: str | None = None
    alike: str | None = None
    listed: str | None = None


def misspelling(spelling: Spelling) -> str | None:
    """Return what is wrong with a table's SKUs; None: nothing is known to be."""
    if spelling.alike is not None and spelling.listed is not None:
        return f"it calls a SKU {quoted(spelling.alike)} that the listing calls {quoted(spelling.listed)}"
    if spelling.unknown >= FEW and not spelling.known and spelling.example is not None:
        return f"none of its SKUs is known to a listing, such as {quoted(spelling.example)}"
    return None


def judge_spellings(
    spellings: Sequence[Spelling], watched: Collection[str], before: Sequence[OpenFinding]
) -> list[Finding]:
    """Whether changes come under SKUs that no listing knows. What was found `before` stays, in the same words, until
    changes show that it is over."""
    wrong = {each.table: words for each in spellings if (words := misspelling(each)) is not None}
    right = {each.table for each in spellings if each.known} - wrong.keys()
    kept = {
        each.finding.subject: each.finding
        for each in before
        if each.finding.check is Check.SPELLING and each.finding.subject in watched
    }
    findings = [finding for table, finding in kept.items() if table not in right]
    return findings + [
        Finding(Check.SPELLING, table, f"{words}: its changes are found late", ADVICE, is_error=False)
        for table, words in wrong.items()
        if table not in kept
    ]
