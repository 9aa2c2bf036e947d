"""`status --watch` on a terminal, in a pipe, and with a database that goes and comes back."""

import asyncio
import signal

import asyncpg

from tests.acceptance.harness import Stage
from tests.acceptance.replica import arguments, environment
from tests.channels import SEKORM
from tests.init.terminal import Terminal

_IN, _OUT = "\x1b[?1049h", "\x1b[?1049l"


def watching(stage: Stage, size: tuple[int, int] = (100, 60)) -> Terminal:
    words = ("--config", str(stage.config), "status", "--watch", "--interval", "1")
    return Terminal(stage.config.parent, *words, size=size, TERM="xterm", COLUMNS="", LINES="")


async def test_the_status_is_redrawn_in_place_and_obeys_its_keys(stage18: Stage) -> None:
    await stage18.migrate()

    def operated() -> None:
        with watching(stage18) as terminal:
            terminal.wait_for(_IN)
            terminal.press("s", after="by name")
            terminal.press(" ", after="by backlog")
            terminal.press("\x1b[A", after="PAUSED")
            terminal.resize(40, 60)
            terminal.press(" ", after="PAUSED")
            terminal.press("q", after="space pauses")
            assert terminal.end() == 0
            assert terminal.text.endswith(f"{_OUT}\x1b[?25h"), terminal.text[-80:]
            frames = terminal.text.split(_IN)[1].split(_OUT)[0]
            assert "\n" not in frames, "each line is put in its place, and nothing scrolls"
            assert terminal.is_as_before()

    await asyncio.to_thread(operated)


async def test_a_database_that_is_lost_is_shown_and_read_again(stage18: Stage) -> None:
    await stage18.migrate()
    name = await stage18.erp.fetchval("SELECT current_database()")
    elsewhere = await asyncpg.connect(stage18.database.dsn, database="postgres")
    with watching(stage18) as terminal:
        await asyncio.to_thread(terminal.wait_for, "space pauses")
        await elsewhere.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        try:
            await asyncio.to_thread(terminal.wait_for, "not read since")
        finally:
            await elsewhere.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
        await asyncio.to_thread(terminal.wait_for, "\x1b[1;1H20")
        terminal.process.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(terminal.end) == 0
        assert terminal.is_as_before()
    await elsewhere.close()


async def test_a_pipe_gets_one_status_after_the_other(stage18: Stage) -> None:
    await stage18.migrate()
    process = await asyncio.create_subprocess_exec(
        *arguments(stage18.config, "status", "--watch", "--interval", "1"),
        stdout=asyncio.subprocess.PIPE,
        env=environment(),
    )
    assert process.stdout is not None
    seen = b""
    async with asyncio.timeout(30):
        while seen.count(b"everything compared last") < 2:
            seen += await process.stdout.read(4096)
    process.send_signal(signal.SIGINT)
    assert await process.wait() == 130
    assert b"\x1b" not in seen
    assert SEKORM.encode() in seen


async def test_options_that_do_not_go_together_are_refused(stage18: Stage) -> None:
    for words in (("--watch", "--json"), ("--interval", "2")):
        done = await stage18.stockrelay("status", *words)
        assert done.code == 2, done
