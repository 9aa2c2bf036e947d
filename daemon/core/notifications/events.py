"""Everything but the digest: trouble and its end, parked SKUs, the guard, and what went wrong in telling."""

import json
from collections.abc import Callable
from typing import Final

from daemon.core.notifications.data import LONGEST_NAME, NoticeData, tame
from daemon.core.notifications.words import Words

_EXAMPLES: Final = 10


def reconcile_missed(words: Words, facts: NoticeData) -> tuple[str, list[str]]:
    day = facts.text("day", 20)
    lines = [words("missed.due", facts.when("due_at") or words("unknown_time"))]
    lines += [words("missed.reason", facts.text("reason"))] if facts.text("reason") else []
    lines += [words("do"), words("missed.do", words.channel_word, day)]
    return words("missed.title", words.channel_name, day), lines


def channel_trouble(words: Words, facts: NoticeData) -> tuple[str, list[str]]:
    trouble = facts.text("trouble", LONGEST_NAME)
    key = f"trouble.{trouble}" if words.has(f"trouble.{trouble}.do") else "trouble.other"
    name = words(key, trouble)
    since = facts.when("since") or words("unknown_time")
    lines = [words("trouble.since", since, words.channel_name)]
    lines += [words("trouble.reason", facts.text("reason", 300))] if facts.text("reason") else []
    advice = facts.text("advice", 300)
    lines.append(words("do"))
    # The advice is English; where that is the reader's language it takes the place of the general words.
    if not advice or words.has("is_translated"):
        lines.append(words(f"{key}.do", words.channel_name))
    lines += [words("trouble.advice", advice)] if advice else []
    return words("trouble.title", words.channel_name, name), [*lines, words("trouble.after")]


def channel_recovered(words: Words, facts: NoticeData) -> tuple[str, list[str]]:
    trouble = facts.text("trouble", LONGEST_NAME)
    name = words(f"trouble.{trouble}") if words.has(f"trouble.{trouble}.do") else trouble
    lasted = words.duration(60 * facts.number("minutes"))
    lines = [
        words("recovered.body", name, facts.when("since") or words("unknown_time"), lasted),
        words("recovered.do"),
    ]
    return words("recovered.title", words.channel_name), lines


def parked_summary(words: Words, facts: NoticeData) -> tuple[str, list[str]]:
    new, parked = facts.total("new"), facts.number("parked")
    if parked > new:
        title = words("parked.title.again", words.channel_name, new, parked)
    else:
        title = words("parked.title", words.channel_name, new)
    shown = facts.rows("new")[:_EXAMPLES]
    lines = [words("parked.body")]
    lines += [words("sku_reason", item.text("sku", LONGEST_NAME), item.text("reason")) for item in shown]
    lines += [words("rest", new - len(shown))] if new > len(shown) else []
    return title, [*lines, words("do"), words("parked.do", words.channel_word)]


_CAUSES: Final = ("first", "rows", "zeroes", "new", "moves")


def guard_question(words: Words, facts: NoticeData) -> tuple[str, list[str]]:
    """The title and the first line are the worst fact; what else is wrong comes after it."""
    cause = facts.text("cause", 20) if facts.text("cause", 20) in _CAUSES else "zeroes"
    wrong, of = facts.number("moved" if cause == "moves" else "zeroes"), facts.number("skus")
    if cause == "rows":
        wrong, of = facts.number("rows_before") - facts.number("rows_now"), facts.number("rows_before")
    lines = [words(f"guard.{cause}", wrong, of, f"{facts.share('share'):.1%}", facts.number("rows_now"))]
    gone, zeroes = facts.number("gone"), facts.number("zeroes")
    also = {
        "gone": gone,
        "zeroes": zeroes - gone,
        "moved": facts.number("moved"),
        "risen": facts.number("risen"),
    }
    told = {"first": also, "rows": ("gone",), "zeroes": ("zeroes",), "new": ("zeroes",), "moves": ("moved",)}[
        cause
    ]
    lines += [
        words(f"guard.also.{name}", many) for name, many in also.items() if many > 0 and name not in told
    ]
    lines.append(words("guard.held", facts.number("held")))
    if examples := facts.rows("examples")[:_EXAMPLES]:
        lines.append(words("guard.examples"))
        lines += [_example(words, item) for item in examples]
    command = facts.text("command") or f"stockrelay release {words.channel_word}"
    lines.append(words("guard.goes_on.first" if cause == "first" else "guard.goes_on"))
    lines += [words("do"), words("guard.do", command)]
    return words(f"guard.title.{cause}", words.channel_name, wrong, of), lines


def _example(words: Words, item: NoticeData) -> str:
    sku, was, now = item.text("sku", LONGEST_NAME), item.text("was", 20), item.text("now", 20)
    if not was:
        return words("guard.example.new", sku, now or "0")
    return words("guard.example", sku, was, now) if now else words("guard.example.gone", sku, was)


def guard_released(words: Words, facts: NoticeData) -> tuple[str, list[str]]:
    key = "released.command" if facts.text("by", 20) == "command" else "released.recovery"
    lines = [words(key, facts.number("numbers"))]
    if key == "released.recovery" and facts.number("sent"):
        lines.append(words("released.rest", facts.number("sent")))
    return words("released.title", words.channel_name), lines


def capture_failed(words: Words, facts: NoticeData) -> tuple[str, list[str]]:
    name = _check_name(words, facts)
    subject, since = facts.text("subject", LONGEST_NAME), facts.when("since") or words("unknown_time")
    lines = [words("capture.since", since, name)]
    lines += [words("capture.subject", subject)] if subject else []
    lines += [words("trouble.reason", facts.text("found", 600))] if facts.text("found") else []
    lines.append(words("capture.lossy" if facts.is_true("is_lossy") else "capture.not_lossy"))
    lines.append(words("do"))
    advice = facts.text("advice", 900)
    if not advice or words.has("is_translated"):
        check = facts.text("check", LONGEST_NAME)
        lines.append(words(f"capture.{check}.do" if words.has(f"capture.{check}.do") else "capture.other.do"))
    lines += [words("trouble.advice", advice)] if advice else []
    return words("capture.title", name), [*lines, words("capture.after")]


def capture_recovered(words: Words, facts: NoticeData) -> tuple[str, list[str]]:
    name, since = _check_name(words, facts), facts.when("since") or words("unknown_time")
    lines = [words("capture.over", name, facts.text("subject", LONGEST_NAME) or words("none"), since)]
    lines += [words("capture.compared")] if facts.is_true("is_lossy") else []
    return words("capture.title.over", name), lines


def _check_name(words: Words, facts: NoticeData) -> str:
    check = facts.text("check", LONGEST_NAME)
    key = f"capture.{check}"
    return words(key) if words.has(f"{key}.do") else words("capture.other", check)


def notification_failed(words: Words, facts: NoticeData) -> tuple[str, list[str]]:
    kind = facts.text("kind", LONGEST_NAME)
    name = words(f"kind.{kind}") if words.has(f"kind.{kind}") else kind
    lines = [words("undelivered.body", facts.when("since") or words("unknown_time"), name)]
    lines += [words("undelivered.reason", facts.text("reason"))] if facts.text("reason") else []
    return words("undelivered.title"), [*lines, words("do"), words("undelivered.do")]


def unknown(kind: str) -> Callable[[Words, NoticeData], tuple[str, list[str]]]:
    """A kind of a later version: its name and data, so that nothing is kept from the person."""

    def other(words: Words, facts: NoticeData) -> tuple[str, list[str]]:
        shown = json.dumps(facts.data, ensure_ascii=False, default=str)
        return words("other.title", words.channel_name, tame(kind, LONGEST_NAME)), [tame(shown, 1000)]

    return other
