"""The log of a real daemon: a reader that stands still, goes away or was never there stops nothing else."""

import asyncio
import os
import shlex
import time
from pathlib import Path

import pytest

from daemon.demo.place import free_port
from tests.acceptance.harness import Stage, stopped
from tests.acceptance.replica import Replica, environment, unforked
from tests.channels import SEKORM, YMATOU
from tests.ops.scrape import parse
from tests.ops.wire import asked

PIPE_BYTES = 65_536


async def test_a_reader_that_stands_still_stops_neither_pushes_nor_answers_nor_the_end(
    stage18: Stage,
) -> None:
    port = free_port()
    stage18.configure(ops={"port": port}, log={"level": "debug"}, run={"grace_s": 2.0})
    await stage18.fill(50)
    await stage18.migrate()
    replica = stage18.replica()
    read_end, write_end = os.pipe()
    try:
        await replica.start(to=write_end)
        os.close(write_end)
        await stage18.converged()
        # A round of changes writes more than 8 KiB.
        for number in range(200, 200 + 2 * PIPE_BYTES // 8192):
            await stage18.erp.execute("UPDATE erp.stock SET on_hand = $1", number)
            await stage18.simulator.wait_for_state(
                YMATOU, {f"SKU-{n}": number for n in range(1, 51)}, timeout=20
            )
        assert (await asked(port, "/livez")).status == 200
        scrape = parse((await asked(port, "/metrics")).body.decode())
        assert (scrape.value("stockrelay_log_stalled_seconds") or 0) > 0
        began = time.monotonic()
        assert await replica.stop() == 0
        assert time.monotonic() - began < 8
    finally:
        os.close(read_end)


@pytest.mark.parametrize(
    ("redirection", "said"),
    [
        (">&-", "standard output is closed"),
        ("| true", "cannot write the log to standard output"),
    ],
)
async def test_a_log_that_cannot_be_written_is_said_once_and_nothing_else_happens(
    stage18: Stage, tmp_path: Path, redirection: str, said: str
) -> None:
    await stage18.fill(1)
    await stage18.migrate()
    file, errors = tmp_path / "pid", tmp_path / "errors"
    words = shlex.join(unforked(stage18.config, "run"))
    # The shell says who it is before it becomes the daemon.
    line = f"( echo $BASHPID > {file}; exec {words} ) 2>{errors} {redirection}; exit ${{PIPESTATUS[0]}}"
    process = await asyncio.create_subprocess_exec("bash", "-c", line, env=environment())
    try:
        await stage18.converged()
        await stage18.erp.execute("UPDATE erp.stock SET on_hand = 7")
        await stage18.simulator.wait_for_state(YMATOU, {"SKU-1": 7}, timeout=20)
    finally:
        os.kill(int(file.read_text()), 15)
        code = await asyncio.wait_for(process.wait(), 30)
    assert code == 0
    text = errors.read_text()
    assert text.count(said) == 1
    assert len(text.splitlines()) == 1, text


MOST_LINES = 20


async def begun_again(replica: Replica) -> int:
    """Stop and start it; return where its log goes on."""
    await stopped(replica)
    since = replica.mark()
    await replica.start()
    await replica.wait_for("doorbell.listening", since=since)
    return replica.mark()


async def test_an_outage_of_whatever_kind_is_a_few_lines_that_begin_with_what_is_new(stage18: Stage) -> None:
    replica = await stage18.running(60)

    def lines_since(mark: int) -> list[str]:
        lines = replica.read()[mark:]
        assert len(lines) <= MOST_LINES, [line["event"] for line in lines]
        return [line["event"] for line in lines]

    since = replica.mark()
    server = stage18.database.server
    await asyncio.to_thread(server.kill)
    await asyncio.sleep(6)  # the time that is measured
    assert "run.database_lost" in lines_since(since)
    await asyncio.to_thread(server.start)
    await replica.wait_for("run.database_recovered", since=since)
    line = await replica.wait_for("log.repeats_left_out", since=since)
    assert line["lines"] == sum(line["of"].values()) > 0
    await replica.wait_for("doorbell.listening", since=since)
    await stage18.reconnect()

    # Another process has a budget of its own: outages in one minute have one together.
    since = await begun_again(replica)
    stage18.simulator.set_down(SEKORM)
    stage18.simulator.set_down(YMATOU)
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = 300")
    await asyncio.sleep(5)  # the time that is measured
    assert lines_since(since).count("dispatch.breaker_opened") >= 2
    stage18.simulator.set_down(SEKORM, down=False)
    stage18.simulator.set_down(YMATOU, down=False)
    await stage18.converged()

    since = await begun_again(replica)
    await stage18.erp.execute("ALTER TABLE erp.stock RENAME COLUMN on_hand TO was_on_hand")
    await stage18.erp.execute("UPDATE erp.stock SET was_on_hand = 400")
    await asyncio.sleep(4)  # the time that is measured
    assert lines_since(since).count("intake.listing_failed") == 2
    await stage18.erp.execute("ALTER TABLE erp.stock RENAME COLUMN was_on_hand TO on_hand")
    await stage18.converged()
