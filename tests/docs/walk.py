"""Follows a document as a reader does: every block in its order, every output compared with what is shown."""

import asyncio
import os
import time
from pathlib import Path
from typing import Final

from tests.docs.likeness import contains, matches
from tests.docs.pages import RUN, Block, Command, blocks
from tests.docs.shell import WAIT_S, Shell

IS_WRITING: Final = os.environ.get("STOCKRELAY_WRITE_DOCS") == "1"
"""Whether outputs that differ are put into the documents instead of failing the test."""
_PAUSE_S: Final = 0.5
_SETTLED_S: Final = 5.0
"""How long to wait, while writing, for what an output comes to."""


async def follow(document: Path, shell: Shell) -> int:
    """Run everything in a document that can be run; return how many commands that were."""
    count = 0
    written: list[tuple[Command, str]] = []
    for block in blocks(document):
        if not block.language:
            await _obey(block, shell)
        elif block.reason is None and (block.language in RUN or block.words):
            count += await _run(block, shell, written)
    _write(document, written)
    return count


def _write(document: Path, written: list[tuple[Command, str]]) -> None:
    text = document.read_text("utf-8")
    for command, printed in reversed(written):
        text = text[: command.begin] + printed + text[command.end :]
    if written:
        document.write_text(text, "utf-8")


async def _obey(block: Block, shell: Shell) -> None:
    word, _, rest = block.words.partition(" ")
    match word:
        case "end":
            await shell.end(rest)
        case "set":
            await _expect(shell, f"export {rest}", block)
        case "given":
            await _expect(shell, rest, block)
        case _:
            raise AssertionError(f"{block.place}: {block.words!r} is no directive; see tests/docs/pages.py")


async def _run(block: Block, shell: Shell, written: list[tuple[Command, str]]) -> int:
    word, _, rest = block.words.partition(" ")
    if word == "file":
        await _expect(shell, f"cat > {rest} <<'END OF FILE'\n{block.text}END OF FILE\n", block)
        return 1
    match block.language:
        case "sh":
            # Every line has to work, and not the last alone.
            line = f"failed=; trap 'failed=1' ERR\n{block.text}trap - ERR; test -z \"$failed\""
            await _expect(shell, line, block)
            return 1
        case "sql":
            heredoc = f"psql \"$ERP\" -q -v ON_ERROR_STOP=1 <<'END OF FILE'\n{block.text}END OF FILE\n"
            await _expect(shell, heredoc, block)
            return 1
        case "toml":
            return 0  # a part of a configuration: test_fragments.py
    commands = block.commands()
    assert commands, f"{block.place}: a console block without a command; commands begin with `$ `"
    for command in commands:
        if word == "stays":
            await shell.stay(command.line, command.shown)
        else:
            code = int(rest) if word == "fails" else 0
            await _compare(shell, block, command, code, is_repeated=word == "eventually", written=written)
    return len(commands)


async def _expect(shell: Shell, line: str, block: Block) -> None:
    code, printed = await shell.run(line)
    assert code == 0, f"{block.place} ended with exit code {code}:\n{printed}"


async def _compare(
    shell: Shell,
    block: Block,
    command: Command,
    code: int,
    *,
    is_repeated: bool,
    written: list[tuple[Command, str]],
) -> None:
    is_like = contains if block.words == "among others" else matches
    deadline = time.monotonic() + (_SETTLED_S if IS_WRITING else WAIT_S)
    while True:
        got, printed = await shell.run(command.line)
        is_so = got == code and is_like(command.shown, printed)
        if is_so or not is_repeated or time.monotonic() > deadline:
            break
        await asyncio.sleep(_PAUSE_S)
    if not is_so and IS_WRITING and got == code and "..." not in command.shown:
        written.append((command, printed))
        return
    told = f"{block.place}: $ {command.line}exit code {got}, expected {code}\n"
    assert is_so, f"{told}--- it printed\n{printed}--- the document shows\n{command.shown}"
