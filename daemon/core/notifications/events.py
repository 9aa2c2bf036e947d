"""Every message but the digest. A renderer returns the title and the lines of the body; empty lines are left out."""

import json
from typing import Final

from daemon.core.notifications.data import LONGEST_NAME, NoticeData, sanitize
from daemon.core.notifications.words import Words
from daemon.core.outcome import Kind, Trouble

_EXAMPLES: Final = 10
_TROUBLES: Final = frozenset({*Trouble, Kind.UNKNOWN.value})
Message = tuple[str, list[str]]


def reconcile_missed(words: Words, facts: NoticeData) -> Message:
    day = facts.text("day", 20)
    return words("missed.title", words.channel_name, day), [
        words("missed.due", _when(words, facts, "due_at")),
        words.about("missed.reason", facts.text("reason")),
        words("do"),
        words("missed.do", words.channel_word, day),
    ]


def channel_trouble(words: Words, facts: NoticeData) -> Message:
    name, remedy = _trouble(words, facts)
    advice = facts.text("advice", 300)
    return words("trouble.title", words.channel_name, name), [
        words("trouble.since", _when(words, facts, "since"), words.channel_name),
        words.about("happened", facts.text("reason", 300)),
        words("do"),
        # The advice is English; where the reader's language is another, the general words come before it.
        words(remedy, words.channel_name) if not advice or "is_translated" in words.table else "",
        words.about("advice", advice),
        words("trouble.after"),
    ]


def channel_recovered(words: Words, facts: NoticeData) -> Message:
    name, _ = _trouble(words, facts)
    lasted = words.duration(60 * facts.number("minutes"))
    return words("recovered.title", words.channel_name), [
        words("recovered.body", name, _when(words, facts, "since"), lasted),
        words("recovered.do"),
    ]


def channel_waits(words: Words, facts: NoticeData) -> Message:
    return words("waits.title", words.channel_name), [
        words("waits.body", _when(words, facts, "since"), facts.number("listed")),
        words("do"),
        words("waits.do", words.channel_word),
    ]


def _trouble(words: Words, facts: NoticeData) -> tuple[str, str]:
    """Return the name of a trouble, and that of the sentence that says what to do about it."""
    trouble = facts.text("trouble", LONGEST_NAME)
    if trouble not in _TROUBLES:
        return trouble, "remedy"
    remedy = f"trouble.{trouble}.do"
    return words(f"trouble.{trouble}"), remedy if remedy in words.table else "remedy"


def parked_summary(words: Words, facts: NoticeData) -> Message:
    new, parked = facts.total("new"), facts.number("parked")
    title = "parked.title.again" if parked > new else "parked.title"
    skus = [(item.text("sku", LONGEST_NAME), item.text("reason")) for item in facts.rows("new")[:_EXAMPLES]]
    return words(title, words.channel_name, new, parked), [
        words("parked.body"),
        *words.examples([words("item", sku, reason) for sku, reason in skus], new),
        words("do"),
        words("parked.do", words.channel_word),
    ]


_CAUSES: Final = ("first", "rows", "zeroes", "new", "moves")


def guard_question(words: Words, facts: NoticeData) -> Message:
    """Render what the guard holds: title and first line say the worst, the others what else is wrong."""
    cause = facts.text("cause", 20) if facts.text("cause", 20) in _CAUSES else "zeroes"
    wrong, of = facts.number("moved" if cause == "moves" else "zeroes"), facts.number("skus")
    if cause == "rows":
        wrong, of = facts.number("rows_before") - facts.number("rows_now"), facts.number("rows_before")
    numbers = {name: facts.number(name) for name in ("gone", "zeroes", "moved", "risen")}
    numbers["zeroes"] -= numbers["gone"]
    said = {"first": (*numbers,), "rows": ("gone",), "moves": ("moved",)}.get(cause, ("zeroes",))
    examples = [_example(words, item) for item in facts.rows("examples")[:_EXAMPLES]]
    return words(f"guard.title.{cause}", words.channel_name, wrong, of), [
        words(f"guard.{cause}", wrong, of, f"{facts.share('share'):.1%}", facts.number("rows_now")),
        *(words(f"guard.also.{name}", n) for name, n in numbers.items() if n > 0 and name not in said),
        words("guard.held", facts.number("held")),
        words("guard.examples") if examples else "",
        *examples,
        words("guard.goes_on.first" if cause == "first" else "guard.goes_on"),
        words("do"),
        words("guard.do", facts.text("command") or f"stockrelay release {words.channel_word}"),
    ]


def _example(words: Words, item: NoticeData) -> str:
    sku, was, now = item.text("sku", LONGEST_NAME), item.text("was", 20), item.text("now", 20)
    if not was:
        return words("guard.example.new", sku, now or "0")
    return words("guard.example", sku, was, now) if now else words("guard.example.gone", sku, was)


def guard_released(words: Words, facts: NoticeData) -> Message:
    is_command = facts.text("by", 20) == "command"
    return words("released.title", words.channel_name), [
        words("released.command" if is_command else "released.recovery", facts.number("numbers")),
        "" if is_command else words.about("released.rest", facts.number("sent")),
    ]


def capture_failed(words: Words, facts: NoticeData) -> Message:
    name, advice = _check_name(words, facts), facts.text("advice", 900)
    remedy = words.known(f"capture.{facts.text('check', LONGEST_NAME)}.do", "")
    return words("capture.title", name), [
        words("capture.since", _when(words, facts, "since"), name),
        words.about("capture.subject", facts.text("subject", LONGEST_NAME)),
        words.about("happened", facts.text("found", 600)),
        words("capture.lossy" if facts.is_true("is_lossy") else "capture.not_lossy"),
        words("do"),
        remedy if remedy or advice else words("remedy"),
        words.about("advice", advice),
        words("capture.after"),
    ]


def capture_recovered(words: Words, facts: NoticeData) -> Message:
    name, subject = _check_name(words, facts), facts.text("subject", LONGEST_NAME) or words("none")
    return words("capture.title.over", name), [
        words("capture.over", name, subject, _when(words, facts, "since")),
        words("capture.compared") if facts.is_true("is_lossy") else "",
    ]


def _check_name(words: Words, facts: NoticeData) -> str:
    check = facts.text("check", LONGEST_NAME)
    return words.known(f"check.{check}", check)


def _when(words: Words, facts: NoticeData, name: str) -> str:
    return facts.when(name) or words("unknown_time")


def notification_failed(words: Words, facts: NoticeData) -> Message:
    kind = facts.text("kind", LONGEST_NAME)
    return words("undelivered.title"), [
        words(
            "undelivered.body",
            _when(words, facts, "since"),
            words.known(f"kind.{kind}", kind.replace("_", " ")),
        ),
        words.about("undelivered.reason", facts.text("reason")),
        words("do"),
        words("undelivered.do"),
    ]


def unknown(kind: str, words: Words, facts: NoticeData) -> Message:
    """Render a kind that only a later version knows: its name and its data."""
    shown = json.dumps(facts.data, ensure_ascii=False, default=str)
    return words("other.title", words.channel_name, sanitize(kind, LONGEST_NAME)), [sanitize(shown, 1000)]
