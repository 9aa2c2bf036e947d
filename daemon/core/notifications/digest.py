"""The digest of a reconcile."""

import shlex
from typing import Final

from daemon.core.notifications.data import LONGEST_NAME, NoticeData
from daemon.core.notifications.words import Words

EXAMPLES: Final = 10
_DIFFERENCES: Final = ("opened", "still_open", "contested")
_CLASSES: Final = ("marketplace_differs", "unknown_at_marketplace", "missing_in_listing", "duplicated_id")


def reconcile_digest(words: Words, facts: NoticeData) -> tuple[str, list[str]]:
    """One digest for each run: what was compared, what differs, what was done, what is left to do."""
    lines = _counted(words, facts)
    for name in _DIFFERENCES:
        lines += _differences(words, facts, name)
    lines += _unnamed(words, facts)
    lines += _resolved(words, facts)
    lines += _treated(words, facts)
    lines += [words("do"), *_advice(words, facts)]
    return _title(words, facts), lines


def says_that_all_agree(facts: NoticeData) -> bool:
    """Whether the title of this digest is good news."""
    return _verdict(facts) == "good"


def _title(words: Words, facts: NoticeData) -> str:
    different = sum(facts.total(name) for name in _DIFFERENCES) or facts.number("without_identifier")
    return words(f"digest.title.{_verdict(facts)}", words.channel_name, facts.text("day", 20), different)


def _verdict(facts: NoticeData) -> str:
    if any(facts.total(name) for name in _DIFFERENCES):
        return "bad"
    if facts.total("unnamed_chunks"):
        return "unnamed"
    if facts.text("incomplete") or facts.number("set_aside"):
        return "incomplete"
    if facts.number("without_identifier"):
        return "without_identifier"
    return "asserted" if facts.text("method") == "assert" else "good"


def _counted(words: Words, facts: NoticeData) -> list[str]:
    method = facts.text("method", LONGEST_NAME)
    checked = facts.number("checked")
    if method == "assert":
        lines = [words("digest.counts.assert", checked, facts.number("healed"))]
    elif suspects := sum(chunk.number("skus") for chunk in facts.rows("unnamed_chunks")):
        # How many of them agree is not known.
        lines = [words("digest.counts.unnamed", checked, suspects)]
    else:
        lines = [words("digest.counts", checked, facts.number("agreed"))]
    if words.has(f"digest.method.{method}"):
        lines.append(words(f"digest.method.{method}"))
    if incomplete := facts.text("incomplete"):
        lines.append(words("digest.incomplete", incomplete))
    if set_aside := facts.number("set_aside"):
        lines.append(words("digest.set_aside", set_aside))
    if without := facts.number("without_identifier"):
        products = facts.data.get("without_identifier_in")
        names = [str(name)[:LONGEST_NAME] for name in products] if isinstance(products, list) else []
        lines.append(words("digest.without_identifier", without, words.listed(names)))
    return lines


def _differences(words: Words, facts: NoticeData, name: str) -> list[str]:
    total = facts.total(name)
    if not total:
        return []
    shown = facts.rows(name)[:EXAMPLES]
    lines = [words(f"digest.{name}", total), *(_item(words, item) for item in shown)]
    return [*lines, words("rest", total - len(shown))] if total > len(shown) else lines


def _item(words: Words, item: NoticeData) -> str:
    ours, theirs = item.text("ours", 20) or "?", item.text("theirs", 20)
    name = item.text("class", LONGEST_NAME)
    key = f"class.{name}" if name in _CLASSES else "class.other"
    if key == "class.marketplace_differs" and not theirs:
        key += ".unsaid"
    what = words(key, ours, theirs or "?", name)
    aged = [words("item.since", item.when("first_seen"))] if item.when("first_seen") else []
    if item.number("times_seen") > 1:
        aged.append(words("item.times", item.number("times_seen")))
    sku = item.text("sku", LONGEST_NAME)
    return words("item.aged", sku, what, words.listed(aged)) if len(aged) > 1 else words("item", sku, what)


def _unnamed(words: Words, facts: NoticeData) -> list[str]:
    total = facts.total("unnamed_chunks")
    if not total:
        return []
    shown = facts.rows("unnamed_chunks")[:EXAMPLES]
    lines = [words("digest.unnamed", total)]
    for chunk in shown:
        first, last = (chunk.text(name, LONGEST_NAME) for name in ("first_sku", "last_sku"))
        said = words("words", chunk.text("words")) if chunk.text("words") else words("none")
        skus = chunk.number("skus")
        lines.append(words("digest.chunk", chunk.text("chunk", 20), first, last, said, skus))
    return [*lines, words("digest.chunk.rest", total - len(shown))] if total > len(shown) else lines


def _resolved(words: Words, facts: NoticeData) -> list[str]:
    total = facts.total("resolved")
    if not total:
        return []
    skus = [item.text("sku", LONGEST_NAME) for item in facts.rows("resolved")]
    if len(skus) == total <= EXAMPLES:
        return [words("digest.resolved.some", total, words.listed(skus))]
    return [words("digest.resolved", total)]


def _treated(words: Words, facts: NoticeData) -> list[str]:
    lines = [words(f"digest.{name}", n) for name in ("unsettled", "parked") if (n := facts.number(name))]
    if healed := facts.number("healed"):
        lines += [words("digest.healed", healed)] if facts.text("method") != "assert" else []
    elif facts.data.get("heal") is False and any(facts.total(name) for name in _DIFFERENCES):
        lines.append(words("digest.reported"))
    if facts.number("took_s"):
        lines.append(words("digest.took", words.duration(facts.number("took_s"))))
    return lines


def _advice(words: Words, facts: NoticeData) -> list[str]:
    items = [item for name in _DIFFERENCES for item in facts.rows(name)]
    classes = {item.text("class", LONGEST_NAME) for item in items}
    names: list[str] = [name for name in _CLASSES[1:] if name in classes]
    names += ["contested"] if facts.total("contested") else []
    names += ["unnamed"] if facts.total("unnamed_chunks") else []
    names += ["incomplete"] if facts.text("incomplete") else []
    names += [name for name in ("set_aside", "without_identifier") if facts.number(name)]
    lines = [words(f"advice.{name}") for name in names] or [words("advice.none")]
    if items:
        # A person pastes the command into a shell.
        lines.append(words("advice.explain", shlex.quote(items[0].text("sku", LONGEST_NAME))))
    return lines
