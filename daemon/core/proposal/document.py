"""Writes a proposal into the example of a configuration: its order, sections and comments stay."""

import json
import re
import textwrap
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from daemon.core.proposal.values import ProposedWatch

_WIDTH: Final = 118
_ABOUT_DSN: Final = (
    "# The password is not kept here. Give the whole address with it as STOCKRELAY_DATABASE__DSN or as the file\n"
    "# database__dsn in the secrets folder, or let a password file (~/.pgpass) have it."
)
_HEAD: Final = re.compile(r"# Stockrelay: all settings\..*?\n(?=#\n)", re.DOTALL)
_SECTION: Final = re.compile(r"^#?\[channels\.(\w+)\]$", re.MULTILINE)
_LISTING: Final = re.compile(
    r"(?:^# Here: [^\n]*\n)?^#?listing = (?:'''.*?'''|\"[^\"\n]*\")$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True, slots=True)
class ProposedChannel:
    """A channel of the file. `fault`: why its listing does not work; then the channel is off and its listing a comment.

    `without_default` are the keys that stay comments, even where the example's section is one.
    """

    listing: str
    notes: tuple[str, ...]
    fault: str | None
    without_default: Collection[str]


def write_document(
    example: str,
    head: str,
    dsn: str,
    watches: Sequence[ProposedWatch],
    compared_only: Sequence[str],
    channels: Mapping[str, ProposedChannel],
) -> str:
    """The example with the proposal in place of its own values; sections of other marketplaces become comments.

    `head` is what the file says of itself. `dsn` has no password.
    """
    written: list[str] = []
    for paragraph in example.split("\n\n"):
        text = paragraph
        if (section := _SECTION.search(paragraph)) is not None:
            channel = channels.get(section[1])
            text = _commented(paragraph) if channel is None else _channel(paragraph, channel)
        elif re.search(r"^\[\[watch\]\]$", paragraph, re.MULTILINE):
            # The second paragraph has the example's second table and no comment.
            text = _watches(paragraph, watches) if paragraph.startswith("# ") else ""
        text = _replaced(r'^dsn = "[^"\n]*"$', f"{_ABOUT_DSN}\ndsn = {_string(dsn)}", text)
        tables = ", ".join(map(_string, compared_only))
        text = _replaced(r"^compared_only = \[\]$", f"compared_only = [{tables}]", text)
        written += [text] if text else []
    return _HEAD.sub(lambda _: f"{_comment(head)}\n", "\n\n".join(written), count=1)


def _replaced(pattern: str, line: str, text: str) -> str:
    return re.sub(pattern, lambda _: line, text, flags=re.MULTILINE)


def _watches(paragraph: str, watches: Sequence[ProposedWatch]) -> str:
    comment = paragraph[: paragraph.index("\n[[watch]]") + 1]
    blocks = (
        f"[[watch]]\ntable = {_string(watch.table)}\n{watch.setting} = {_string(watch.sql)}"
        for watch in watches
    )
    return comment + "\n\n".join(blocks)


def _channel(paragraph: str, channel: ProposedChannel) -> str:
    lines = [
        line[1:] if (key := re.match(r"#(\w+) = |#\[", line)) and key[1] not in channel.without_default else line
        for line in paragraph.split("\n")
    ]  # fmt: skip
    notes = "".join(f"{_comment(note)}\n" for note in channel.notes)
    listing = f"listing = {_block(channel.listing)}"
    if channel.fault is not None:
        notes += f"{_comment(f'It does not work: {channel.fault}')}\n"
        listing = _commented(listing)
        lines = ["enabled = false" if line == "enabled = true" else line for line in lines]
    return _LISTING.sub(lambda _: notes + listing, "\n".join(lines), count=1)


def _commented(text: str) -> str:
    return "\n".join(f"#{line}" if line and not line.startswith("#") else line for line in text.split("\n"))


def _comment(text: str) -> str:
    """A comment of one paragraph; a name or a server's message can't begin a line of its own."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text)
    return textwrap.fill(
        plain,
        _WIDTH,
        initial_indent="# ",
        subsequent_indent="# ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _string(text: str) -> str:
    """A TOML string, literal where quotes stand in it and nothing that has to be escaped."""
    if '"' in text and "'" not in text and text.isprintable():
        return f"'{text}'"
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _block(text: str) -> str:
    is_literal = "'''" not in text and all(letter.isprintable() or letter == "\n" for letter in text)
    return f"'''\n{text}\n'''" if is_literal else _string(text)
