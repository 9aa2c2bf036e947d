"""Whether the watched tables call SKUs as the listings do. Pure."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from daemon.core.capture import Check, OpenFinding
from daemon.core.finding import Finding, Verdict
from daemon.core.quoting import quoted
from daemon.core.types import ChannelName

FEW: Final = 10
"""SKUs that no listing knows prove nothing while they are fewer: not everything is on sale."""
ADVICE: Final = (
    "let watch.sku give the SKU exactly as the listing's column sku does (blanks, capitals and leading zeros count), "
    "then run `stockrelay migrate` as the schema's owner"
)


@dataclass(frozen=True, slots=True)
class Spelling:
    """What some rows or changes of a watched table call SKUs: how many are `known` to a listing and how many are not,
    one that is not, and one (`alike`) that is spelled almost like a `listed` one. `channel`: judged by this channel's
    listing alone, which reads the table; None: by all listings together. `is_part`: other rows of the table have SKUs
    of this listing, which is a part of the catalogue."""

    table: str
    known: int
    unknown: int
    example: str | None = None
    alike: str | None = None
    listed: str | None = None
    channel: ChannelName | None = None
    is_part: bool = False


def subject(table: str, channel: ChannelName | None) -> str:
    """Return what a finding about the spelling is about."""
    return table if channel is None else f"{table}, listing {channel}"


def needs_proof(spelling: Spelling) -> bool:
    """Whether it takes a look at more of the table to tell a wrong spelling from a listing of few SKUs."""
    return spelling.unknown >= FEW and not spelling.known and spelling.alike is None


def misspelling(spelling: Spelling) -> str | None:
    """Return what is wrong with a table's SKUs; None: nothing is known to be."""
    of = "" if spelling.channel is None else f" of {spelling.channel}"
    if spelling.alike is not None and spelling.listed is not None:
        return f"it calls a SKU {quoted(spelling.alike)} that the listing{of} calls {quoted(spelling.listed)}"
    if needs_proof(spelling) and not spelling.is_part and spelling.example is not None:
        listing = "a listing" if spelling.channel is None else f"the listing{of}"
        return f"none of its SKUs is known to {listing}, such as {quoted(spelling.example)}"
    return None


def judge_spellings(
    spellings: Sequence[Spelling], judged: Collection[str], before: Sequence[OpenFinding]
) -> list[Finding]:
    """Whether changes come under SKUs that a listing does not know. What was found `before` about the subjects that
    are `judged` stays, in the same words, until changes show that it is over."""
    named = [(subject(each.table, each.channel), each) for each in spellings]
    wrong = {name: words for name, each in named if (words := misspelling(each)) is not None}
    right = {name for name, each in named if each.known or each.is_part} - wrong.keys()
    kept = {
        each.finding.subject: each.finding
        for each in before
        if each.finding.check is Check.SPELLING and each.finding.subject in judged
    }
    findings = [finding for name, finding in kept.items() if name not in right]
    return findings + [
        Finding(Check.SPELLING, name, f"{words}: its changes are found late", ADVICE, verdict=Verdict.WARNING)
        for name, words in wrong.items()
        if name not in kept
    ]
