"""What a document holds that can be run: its fenced blocks, and what stands beside them for the tests.

A comment `<!-- test: WORDS -->` on the line above a block tells what is to be done with it:

    file NAME         the block is saved under that name, as the text beside it tells the reader
    stays             the command goes on running, as in a terminal of its own, once the output shown has come
    among others      further lines may stand between those that are shown
    eventually        a command that only looks is repeated until it shows what the document shows
    fails CODE        the command ends with that exit code
    not run: REASON   it can't be run here

and one on a line by itself:

    end COMMAND       what stays and begins so is ended, as Ctrl-C does
    given COMMAND     run unseen: what has happened before the reader comes here
    set NAME=VALUE    an environment variable from here on, for what differs between a test and a terminal
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
RUN: Final = frozenset({"console", "sh", "sql", "toml"})
_FENCE: Final = re.compile(
    r"^(?:<!-- test: (?!end |set |given )(?P<words>[^\n]*?) -->\n)?"
    r"(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
_ALONE: Final = re.compile(r"^<!-- test: (?P<words>(?:end|set|given) [^\n]*?) -->$", re.MULTILINE)


def documents() -> list[Path]:
    """Every document of the project."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a console block and the output that is shown under it; `begin` and `end` say where that is."""

    line: str
    shown: str
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block, or a directive that stands alone (`language` is then empty and so is `text`)."""

    document: Path
    number: int
    language: str
    text: str
    words: str
    begin: int

    @property
    def place(self) -> str:
        return f"{self.document.relative_to(ROOT)}:{self.number}"

    @property
    def reason(self) -> str | None:
        """Why it is not run; None when it is."""
        kind, _, reason = self.words.partition(": ")
        return reason.strip() if kind == "not run" else None

    def commands(self) -> list[Command]:
        """The commands of a console block: each begins with `$ `, and goes on in lines that begin with `> `."""
        found: list[Command] = []
        offset = self.begin
        line, shown, begin = "", "", offset
        for raw in self.text.splitlines(keepends=True):
            if raw.startswith("$ "):
                if line:
                    found.append(Command(line, shown, begin, offset))
                line, shown, begin = raw[2:], "", offset + len(raw)
            elif raw.startswith("> ") and not shown:
                line, begin = line + raw[2:], offset + len(raw)
            else:
                shown += raw
            offset += len(raw)
        return [*found, Command(line, shown, begin, offset)] if line else found


def blocks(document: Path) -> list[Block]:
    """The blocks and directives of a document, in its order."""
    text = document.read_text("utf-8")
    found = [
        Block(
            document,
            text.count("\n", 0, match.start("language")) + 1,
            match["language"],
            re.sub(rf"^{match['indent']}", "", match["text"], flags=re.MULTILINE),
            match["words"] or "",
            match.start("text"),
        )
        for match in _FENCE.finditer(text)
    ]
    found += [
        Block(document, text.count("\n", 0, match.start()) + 1, "", "", match["words"], match.start())
        for match in _ALONE.finditer(text)
    ]
    return sorted(found, key=lambda block: block.begin)
