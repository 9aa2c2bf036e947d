"""The digest of a reconcile."""

import shlex
from collections.abc import Iterable
from typing import Final

from daemon.core.notifications.data import LONGEST_NAME, NoticeData
from daemon.core.notifications.words import Words

EXAMPLES: Final = 10
_DIFFERENCES: Final = ("opened", "still_open", "contested")
_CLASSES: Final = ("marketplace_differs", "unknown_at_marketplace", "missing_in_listing", "duplicated_id")


def reconcile_digest(words: Words, facts: NoticeData) -> tuple[str, list[str]]:
    """Render what one run compared, what differs, what was done, and what is left to do."""
    different = sum(facts.total(name) for name in _DIFFERENCES) or facts.number("without_identifier")
    return words(f"digest.title.{verdict(facts)}", words.channel_name, facts.text("day", 20), different), [
        *_counted(words, facts),
        *(line for name in _DIFFERENCES for line in _differences(words, facts, name)),
        *_unnamed(words, facts),
        _resolved(words, facts),
        *_treated(words, facts),
        *_exposure(words, facts),
        words("do"),
        *_advice(words, facts),
    ]


def verdict(facts: NoticeData) -> str:
    """Return what the title says; `good` is good news."""
    if any(facts.total(name) for name in _DIFFERENCES):
        return "bad"
    if facts.total("unnamed_chunks"):
        return "unnamed"
    if facts.text("incomplete") or facts.number("set_aside"):
        return "incomplete"
    if facts.number("without_identifier"):
        return "without_identifier"
    if facts.text("method") != "assert":
        return "good"
    return "shadow" if _is_shadow(facts) else "asserted"


def _is_shadow(facts: NoticeData) -> bool:
    return facts.data.get("is_shadow") is True


def _counted(words: Words, facts: NoticeData) -> Iterable[str]:
    method, checked = facts.text("method", LONGEST_NAME), facts.number("checked")
    if method == "assert":
        yield words("digest.counts.assert", checked, facts.number("healed"))
    elif suspects := sum(chunk.number("skus") for chunk in facts.rows("unnamed_chunks")):
        # How many of them agree is not known.
        yield words("digest.counts.unnamed", checked, suspects)
    else:
        yield words("digest.counts", checked, facts.number("agreed"))
    way = ".shadow" if method == "assert" and _is_shadow(facts) else ""
    yield words.known(f"digest.method.{method}{way}", "")
    yield words.about("digest.incomplete", facts.text("incomplete"))
    yield words.about("digest.set_aside", facts.number("set_aside"))
    if without := facts.number("without_identifier"):
        products = facts.data.get("without_identifier_in")
        names = [str(name)[:LONGEST_NAME] for name in products] if isinstance(products, list) else []
        yield words("digest.without_identifier", without, words.listed(names))


def _differences(words: Words, facts: NoticeData, name: str) -> list[str]:
    total = facts.total(name)
    shown = [_item(words, item) for item in facts.rows(name)[:EXAMPLES]]
    return [words.about(f"digest.{name}", total), *words.examples(shown, total)]


def _item(words: Words, item: NoticeData) -> str:
    ours, theirs = item.text("ours", 20) or "?", item.text("theirs", 20)
    name = item.text("class", LONGEST_NAME)
    key = f"class.{name}" if name in _CLASSES else "class.other"
    if key == "class.marketplace_differs" and not theirs:
        key += ".unsaid"
    what = words(key, ours, theirs or "?", name)
    sku, since, times = item.text("sku", LONGEST_NAME), item.when("first_seen"), item.number("times_seen")
    return words("item.aged", sku, what, since, times) if since and times > 1 else words("item", sku, what)


def _unnamed(words: Words, facts: NoticeData) -> list[str]:
    total = facts.total("unnamed_chunks")
    shown = []
    for chunk in facts.rows("unnamed_chunks")[:EXAMPLES]:
        first, last = (chunk.text(name, LONGEST_NAME) for name in ("first_sku", "last_sku"))
        said = words.about("words", chunk.text("words")) or words("none")
        shown.append(words("digest.chunk", chunk.text("chunk", 20), first, last, said, chunk.number("skus")))
    return [words.about("digest.unnamed", total), *words.examples(shown, total)]


def _resolved(words: Words, facts: NoticeData) -> str:
    skus = [item.text("sku", LONGEST_NAME) for item in facts.rows("resolved")]
    total = facts.total("resolved")
    if skus and len(skus) == total <= EXAMPLES:
        return words("digest.resolved.some", total, words.listed(skus))
    return words.about("digest.resolved", total)


def _treated(words: Words, facts: NoticeData) -> Iterable[str]:
    if _is_shadow(facts):
        yield words("digest.shadow", facts.number("would_heal"), facts.number("unsettled"))
    else:
        yield words.about("digest.unsettled", facts.number("unsettled"))
    yield words.about("digest.parked", facts.number("parked"))
    if facts.text("method") != "assert":
        yield words.about("digest.healed", facts.number("healed"))
    is_off = facts.data.get("heal") is False and not _is_shadow(facts)
    if not facts.number("healed") and is_off and verdict(facts) == "bad":
        yield words("digest.reported")
    yield words.about("digest.took", words.duration(facts.number("took_s")) if facts.number("took_s") else "")


def _exposure(words: Words, facts: NoticeData) -> list[str]:
    """Name the SKUs with the most unit-seconds of the day."""
    shown = []
    for item in facts.rows("exposure")[:EXAMPLES]:
        reasons = item.data.get("reasons")
        named = [words.known(f"exposure.{one}", "") for one in reasons] if isinstance(reasons, list) else []
        sku, over, lost = item.text("sku", LONGEST_NAME), item.number("over"), item.number("lost")
        shown.append(words("digest.exposure.item", sku, over, lost, words.listed(list(filter(None, named)))))
    return [words("digest.exposure"), *words.examples(shown, len(shown))] if shown else []


def _advice(words: Words, facts: NoticeData) -> Iterable[str]:
    items = [item for name in _DIFFERENCES for item in facts.rows(name)]
    classes = {item.text("class", LONGEST_NAME) for item in items}
    names: list[str] = [name for name in _CLASSES[1:] if name in classes]
    names += ["contested"] if facts.total("contested") else []
    names += ["unnamed"] if facts.total("unnamed_chunks") else []
    names += ["incomplete"] if facts.text("incomplete") else []
    names += [name for name in ("set_aside", "without_identifier") if facts.number(name)]
    yield from (words(f"advice.{name}") for name in names or ["none"])
    if items:
        # An operator pastes the command into a shell.
        yield words("advice.explain", shlex.quote(items[0].text("sku", LONGEST_NAME)))
