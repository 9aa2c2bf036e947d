"""Notices as messages for operators, in plain text. The reader knows stock, not code: a message says what happened, the
numbers, examples, what to do, and the command to type. Words of a marketplace or of the ERP are sanitized and bounded,
so that they can't pose as markup or push the rest out of sight."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from functools import partial
from types import MappingProxyType
from typing import Any, Final, Literal

from daemon.core import notice
from daemon.core.notifications import digest, en, events, zh
from daemon.core.notifications.data import NoticeData
from daemon.core.notifications.words import Words

Language = Literal["zh", "en"]
SENDER: Final = "[Stockrelay]"
LONGEST_TITLE: Final = 120
LONGEST_BODY: Final = 4_000
_TABLES: Final = {"zh": zh.WORDS, "en": en.WORDS}
RENDERERS: Final[Mapping[str, Callable[[Words, NoticeData], events.Message]]] = {
    notice.RECONCILE_DIGEST: digest.reconcile_digest,
    notice.RECONCILE_MISSED: events.reconcile_missed,
    notice.CHANNEL_TROUBLE: events.channel_trouble,
    notice.CHANNEL_RECOVERED: events.channel_recovered,
    notice.CHANNEL_WAITS: events.channel_waits,
    notice.PARKED_SUMMARY: events.parked_summary,
    notice.GUARD_QUESTION: events.guard_question,
    notice.GUARD_RELEASED: events.guard_released,
    notice.CAPTURE_FAILED: events.capture_failed,
    notice.CAPTURE_RECOVERED: events.capture_recovered,
    notice.NOTIFICATION_FAILED: events.notification_failed,
}
_URGENCIES: Final = {
    notice.GUARD_QUESTION: 3,
    notice.CHANNEL_RECOVERED: 0,
    notice.GUARD_RELEASED: 0,
    notice.CAPTURE_RECOVERED: 0,
}
"""0 is good news; 2 is what is not named here."""


@dataclass(frozen=True, slots=True)
class Notification:
    """One message: a line for the subject, and plain text. Where several are sent as one, the most urgent one gives the
    title."""

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
    """Render one notice, with its times in `zone`; `titles` are the channels' names for people. A kind that only a
    later version knows is rendered by its name and data."""
    words, facts = Words(_TABLES[language], channel, titles), NoticeData(data, zone)
    title, lines = RENDERERS.get(kind, partial(events.unknown, kind))(words, facts)
    urgency = _URGENCIES.get(kind, 2)
    if kind == notice.RECONCILE_DIGEST:
        urgency = 0 if digest.verdict(facts) == "good" else 1
    body = cut("\n".join(filter(None, lines)), LONGEST_BODY, len, words("cut"))
    return Notification(title[:LONGEST_TITLE], body, urgency)


def sample_notification(language: Language) -> Notification:
    """Return the message of `stockrelay notify test`."""
    words = Words(_TABLES[language], None)
    return gather([Notification(words("test.title"), words("test.body"))], language)


def gather(messages: Sequence[Notification], language: Language) -> Notification:
    """Return one message for all of these; those without room are counted. Its title begins with our name, which some
    group robots ask for as a keyword."""
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
    """Return the message cut to `most_bytes` bytes of UTF-8, title and body together: some receivers refuse longer
    ones."""
    room = max(0, most_bytes - len(message.title.encode()) - 2)
    mark = Words(_TABLES[language], None)("cut")
    return Notification(message.title, cut(message.body, room, lambda text: len(text.encode()), mark))


def cut(text: str, room: int, size: Callable[[str], int], mark: str) -> str:
    """Return the first lines that fit, and the line `mark`, which says that the text was cut."""
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
