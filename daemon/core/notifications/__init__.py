"""Notification messages for the operators: every kind of notice as plain text in Chinese or English. Pure.

The reader knows stock, not code: what happened, the numbers, examples, what to do, the command to type. What the
marketplace or the ERP wrote is tamed (`facts.tame`) and bounded, so that it can't pose as markup or push the rest out
of sight.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from types import MappingProxyType
from typing import Any, Final, Literal

from daemon.core import notice as kinds
from daemon.core.notifications import digest, en, events, zh
from daemon.core.notifications.data import NoticeData
from daemon.core.notifications.words import Words

__all__ = ["LANGUAGES", "Language", "Notification", "fitted", "gather", "render", "sample_notification"]

Language = Literal["zh", "en"]
LANGUAGES: Final = ("zh", "en")
SENDER: Final = "[Stockrelay]"
LONGEST_TITLE: Final = 120
LONGEST_BODY: Final = 4_000
_TABLES: Final = {"zh": zh.WORDS, "en": en.WORDS}
_RENDERERS: Final[Mapping[str, Callable[[Words, NoticeData], tuple[str, list[str]]]]] = {
    kinds.RECONCILE_DIGEST: digest.reconcile_digest,
    kinds.RECONCILE_MISSED: events.reconcile_missed,
    kinds.CHANNEL_TROUBLE: events.channel_trouble,
    kinds.CHANNEL_RECOVERED: events.channel_recovered,
    kinds.PARKED_SUMMARY: events.parked_summary,
    kinds.GUARD_QUESTION: events.guard_question,
    kinds.GUARD_RELEASED: events.guard_released,
    kinds.CAPTURE_FAILED: events.capture_failed,
    kinds.CAPTURE_RECOVERED: events.capture_recovered,
    kinds.NOTIFICATION_FAILED: events.notification_failed,
}
_GOOD_NEWS: Final = (kinds.CHANNEL_RECOVERED, kinds.GUARD_RELEASED, kinds.CAPTURE_RECOVERED)


@dataclass(frozen=True, slots=True)
class Notification:
    """One message: a line for the subject, and plain text. Of several, the one of the highest
    `urgency` gives all of them its title."""

    title: str
    body: str
    urgency: int = 1


def render(
    kind: str,
    channel: str | None,
    data: Mapping[str, Any],
    language: Language,
    zone: tzinfo,
    titles: Mapping[str, str] = MappingProxyType({}),
) -> Notification:
    """Write one notice; times are written in `zone`, `titles` are the channels' names for people. A kind
    that is not known yet is written by its name and data."""
    words = Words(_TABLES[language], channel, titles)
    facts = NoticeData(data, zone)
    title, lines = _RENDERERS.get(kind, events.unknown(kind))(words, facts)
    body = cut("\n".join(lines), LONGEST_BODY, len, words("cut"))
    return Notification(title[:LONGEST_TITLE], body, _urgency(kind, facts))


def _urgency(kind: str, facts: NoticeData) -> int:
    if kind == kinds.GUARD_QUESTION:
        return 3
    if kind == kinds.RECONCILE_DIGEST:
        return 0 if digest.says_that_all_agree(facts) else 1
    return 0 if kind in _GOOD_NEWS else 2


def sample_notification(language: Language) -> Notification:
    """The message of `stockrelay notify test`."""
    words = Words(_TABLES[language], None)
    return gather([Notification(words("test.title"), words("test.body"))], language)


def gather(messages: Sequence[Notification], language: Language) -> Notification:
    """What is sent: one message, or several as one, those that find no room counted.

    The subject begins with our name: who sent it, and a keyword for group robots that ask for one.
    """
    if len(messages) == 1:
        return Notification(f"{SENDER} {messages[0].title}", messages[0].body)
    words = Words(_TABLES[language], None)
    parts: list[str] = []
    room = LONGEST_BODY
    for message in messages:
        part = f"{message.title}\n{message.body}"
        room -= len(part) + 2
        if parts and room < 0:
            parts.append(words("dropped", len(messages) - len(parts)))
            break
        parts.append(part)
    # Good news in the title would hide bad news below it.
    worst = max(messages, key=lambda message: message.urgency)
    title = words("gathered", len(messages), worst.title)
    return Notification(f"{SENDER} {title[:LONGEST_TITLE]}", "\n\n".join(parts))


def fitted(message: Notification, language: Language, most_bytes: int) -> Notification:
    """The message cut to `most_bytes` bytes of UTF-8, title and body together: some receivers refuse longer ones."""
    room = max(0, most_bytes - len(message.title.encode()) - 2)
    mark = Words(_TABLES[language], None)("cut")
    return Notification(message.title, cut(message.body, room, lambda text: len(text.encode()), mark))


def cut(text: str, room: int, size: Callable[[str], int], mark: str) -> str:
    """The text's first lines that fit, and a line that says that it was cut."""
    if size(text) <= room:
        return text
    kept: list[str] = []
    used = size(mark)
    for line in text.split("\n"):
        used += size(line) + 1
        if used > room:
            break
        kept.append(line)
    return "\n".join([*kept, mark])
