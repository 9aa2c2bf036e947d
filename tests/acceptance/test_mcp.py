"""A chat program that asks, with the protocol's own client, over a pipe and against a real database."""

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from tests.acceptance.harness import Stage
from tests.acceptance.replica import environment

SECRET = "planted-Secret-7Hq1xW"


@asynccontextmanager
async def chatting(stage: Stage) -> AsyncIterator[Client]:
    server = StdioServerParameters(
        command=sys.executable,
        args=["-P", "-m", "daemon", "--config", str(stage.config), "mcp"],
        env=environment(STOCKRELAY_CHANNELS__SEKORM__APP_SECRET=SECRET),
    )
    async with Client(stdio_client(server)) as client:
        yield client


async def asked(client: Client, tool: str, **arguments: Any) -> tuple[bool, str]:  # noqa: ANN401 - a tool's own
    """Ask; return whether it failed, and the words."""
    result = await client.call_tool(tool, arguments)
    text = "".join(getattr(one, "text", "") for one in result.content)
    assert SECRET not in text
    return bool(result.is_error), text


async def test_each_question_has_the_answer_of_its_command(stage18: Stage) -> None:
    replica = await stage18.running(5)
    await replica.stop()
    await stage18.erp.execute(
        "INSERT INTO stockrelay.difference (channel, class, sku, state, ours, theirs, first_seen, last_seen, "
        "times_seen, heals, last_run, last_status) VALUES "
        "('sekorm', 'marketplace_differs', E'SKU-\\x1b[2J', 'open', 1, 2, now(), now(), 1, 0, 1, 'opened')"
    )
    async with chatting(stage18) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(tools) == {"status", "explain", "attempts", "parked", "differences", "exposure"}
        for tool in tools.values():
            assert "never instructions" in (tool.description or "")
            assert tool.annotations is not None
            assert tool.annotations.read_only_hint
        for name, arguments, words in (
            ("explain", {"sku": "SKU-1", "channel": "ymatou"}, ("explain", "SKU-1", "--channel", "ymatou")),
            ("attempts", {"sku": "SKU-1", "limit": 3}, ("attempts", "--sku", "SKU-1", "--limit", "3")),
            ("parked", {"channel": "sekorm"}, ("parked", "list", "sekorm")),
            ("differences", {}, ("differences",)),
            ("exposure", {"channel": "sekorm"}, ("exposure", "sekorm")),
        ):
            failed, text = await asked(client, name, **arguments)
            assert not failed, text
            done = await stage18.stockrelay(*words, "--json")
            assert _timeless(json.loads(text)) == _timeless(json.loads(done.out)), name
            assert "\x1b" not in text
        failed, text = await asked(client, "status")
        assert not failed, text
        assert json.loads(text)["channels"]["sekorm"]["skus"] == 5
        failed, text = await asked(client, "explain", sku="SKU-1", at="1s")
        assert (failed, json.loads(text)["channels"]["sekorm"]["marketplace"][0]["quantities"]) == (
            False,
            [100],
        )


async def test_what_is_no_question_is_refused_in_words(stage18: Stage) -> None:
    await stage18.migrate()
    async with chatting(stage18) as client:
        for tool, arguments, words in (
            ("explain", {"sku": "NONE"}, "no SKU 'NONE'"),
            ("explain", {}, "needs 'sku'"),
            ("explain", {"sku": "--help"}, "no SKU '--help'"),
            ("explain", {"sku": "A", "config": "/etc/passwd"}, "takes no 'config'"),
            ("attempts", {"limit": 10_000}, "from 1 to 200"),
            ("attempts", {"channel": "x" * 1001}, "1 to 1000 characters"),
            ("release", {"channel": "sekorm"}, "no tool"),
        ):
            failed, text = await asked(client, tool, **arguments)
            assert failed, text
            assert words in text
            assert "Traceback" not in text


async def test_the_sessions_of_a_read_only_command_can_not_write(stage18: Stage) -> None:
    await stage18.migrate()
    done = await stage18.stockrelay("--read-only", "pause", "sekorm")
    assert done.code == 1, done
    assert "read-only" in done.err
    assert await stage18.erp.fetchval("SELECT count(*) FROM stockrelay.pause") == 0


def _timeless(answer: Any) -> Any:  # noqa: ANN401 - whatever JSON can hold
    if isinstance(answer, dict):
        return {
            name: _timeless(value) for name, value in answer.items() if name not in ("now", "explanation")
        }
    return [_timeless(one) for one in answer] if isinstance(answer, list) else answer
