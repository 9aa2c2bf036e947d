"""`stockrelay uninstall` as an operator types it."""

import asyncio
import json
import os
import pty

from tests.acceptance.harness import Stage, stopped
from tests.acceptance.replica import Done, arguments, environment


async def typed(stage: Stage, answer: str, *words: str) -> Done:
    """Run a command at a terminal, where somebody types `answer`."""
    keyboard, terminal = pty.openpty()
    os.write(keyboard, f"{answer}\n".encode())
    process = await asyncio.create_subprocess_exec(
        *arguments(stage.config, *words),
        stdin=terminal,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=stage.config.parent,
        env=environment(),
    )
    os.close(terminal)
    async with asyncio.timeout(30):
        out, err = await process.communicate()
    os.close(keyboard)
    return Done(process.returncode or 0, out.decode(), err.decode())


async def test_it_asks_refuses_beside_a_daemon_and_removes_everything_after_it(stage18: Stage) -> None:
    replica = await stage18.running(5)
    unasked, beside = await asyncio.gather(
        stage18.stockrelay("uninstall"), stage18.stockrelay("uninstall", "--yes")
    )
    assert unasked.code == 2
    assert "there is no terminal to ask on: give --yes" in unasked.err
    assert beside.code == 1
    assert beside.err.startswith("stockrelay: daemons run: ")
    await stopped(replica)
    declined = await typed(stage18, "n", "uninstall")
    assert (declined.code, declined.err) == (1, "nothing was removed\n")
    assert "the triggers on erp.stock, the schema stockrelay, with the ledger and the history" in declined.out
    done = await stage18.stockrelay("uninstall", "--yes", "--json")
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out) == {
        "removed": ["the triggers on erp.stock", "the schema stockrelay"],
        "roles_sql": None,
    }
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = 7")
    again = await stage18.stockrelay("uninstall", "--yes")
    assert (again.code, again.err) == (0, "")
    assert again.out.startswith("nothing was removed: there is no schema stockrelay")
