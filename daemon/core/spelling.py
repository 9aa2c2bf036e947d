"""Whether the watched tables spell SKUs as the listings do."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from daemon.core.capture import Check, OpenFinding
from daemon.core.finding import Finding, Verdict
from daemon.core.quoting import quoted
from daemon.core.types import ChannelName

FEW: Final = 10
"""Fewer SKUs than this may all be unknown because they are not on sale."""
ADVICE: Final = (
    "let watch.sku give the SKU exactly as the listing's column sku does (blanks, capitals and leading zeros count), "
    "then run `stockrelay migrate` as the schema's owner"
)


@dataclass(frozen=True, slots=True)
class Spelling:
    """How some rows or changes of a watched table spell SKUs: how many are `known` to a listing and how many are not,
    an `example` of the latter, and one (`alike`) that is spelled almost like a `listed` one. `channel`: the one whose
    listing reads the table and was compared; None: all listings were. `is_part`: other rows of the table have SKUs of
    this listing, which is a part of the catalogue.
    """

    table: str
    known: int
    unknown: int
    example: str | None = None
    alike: str | None = None
    listed: str | None = None
    channel: ChannelName | None = None
    is_part: bool = False


def subject(table: str, channel: ChannelName | None) -> str:
    """Return the subject of a finding about the spelling."""
    return table if channel is None else f"{table}, listing {channel}"


def is_inconclusive(spelling: Spelling) -> bool:
    """Say whether more of the table must be read to tell a wrong spelling from a listing of few SKUs."""
    return spelling.unknown >= FEW and not spelling.known and spelling.alike is None


def misspelling(spelling: Spelling) -> str | None:
    """Return what is wrong with how a table spells its SKUs; None: as far as is known, nothing."""
    of = "" if spelling.channel is None else f" of {spelling.channel}"
    if spelling.alike is not None and spelling.listed is not None:
        return f"it calls a SKU {quoted(spelling.alike)} that the listing{of} calls {quoted(spelling.listed)}"
    if is_inconclusive(spelling) and not spelling.is_part and spelling.example is not None:
        listing = "a listing" if spelling.channel is None else f"the listing{of}"
        return f"none of its SKUs is known to {listing}, such as {quoted(spelling.example)}"
    return None


def judge_spellings(
    spellings: Sequence[Spelling], judged: Collection[str], before: Sequence[OpenFinding]
) -> list[Finding]:
    """Judge whether changes come under SKUs that a listing does not know. Findings of `before` about the subjects that
    are `judged` stay, in the same words, until changes show that they are over."""
    named = [(subject(each.table, each.channel), each) for each in spellings]
    wrong = {name: words for name, each in named if (words := misspelling(each)) is not None}
    right = {name for name, each in named if each.known or each.is_part} - wrong.keys()
    known = [each.finding for each in before if each.finding.check is Check.SPELLING]
    kept = {each.subject: each for each in known if each.subject in judged}
    findings = [finding for name, finding in kept.items() if name not in right]
    for name in [name for name in wrong if name not in kept]:
        found = f"{wrong[name]}: its changes are found late"
        findings.append(Finding(Check.SPELLING, name, found, ADVICE, Verdict.WARNING, is_lossy=True))
    return findings
