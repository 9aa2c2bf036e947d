"""The server of `stockrelay mcp`. Each question runs its command, so that the answers are the same."""

import asyncio
import sys
from collections.abc import Sequence
from typing import Any, Final

import mcp_types as types
from mcp.server import Server, ServerRequestContext
from mcp.server.stdio import stdio_server

from daemon import __version__
from daemon.commands.mcp_questions import QUESTIONS, Question

_TIMEOUT_S: Final = 120.0
_MOST_BYTES: Final = 200_000
_AT_ONCE: Final = 2
_BY_NAME: Final = {question.name: question for question in QUESTIONS}


async def serve(options: Sequence[str]) -> None:
    """Answer until standard input is closed. `options`: those of the program that lead to the configuration."""
    at_once = asyncio.Semaphore(_AT_ONCE)

    async def list_tools(
        _context: ServerRequestContext[Any], _params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[_tool(question) for question in QUESTIONS])

    async def call_tool(
        _context: ServerRequestContext[Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        question = _BY_NAME.get(params.name)
        if question is None:
            return _result(f"there is no tool {params.name!r}", is_error=True)
        try:
            words = question.words(params.arguments or {})
        except ValueError as error:
            return _result(str(error), is_error=True)
        async with at_once:
            return await _answer([*options, "--read-only", *words])

    server: Server[Any] = Server(
        "stockrelay",
        version=__version__,
        instructions="Stock numbers on their way from an ERP to marketplaces: read-only questions.",
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )
    async with stdio_server() as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())


def _tool(question: Question) -> types.Tool:
    return types.Tool(
        name=question.name,
        description=question.description,
        input_schema=question.schema,
        annotations=types.ToolAnnotations(read_only_hint=True, open_world_hint=False),
    )


async def _answer(words: Sequence[str]) -> types.CallToolResult:
    """Run a command. Its errors are words for a terminal: no secret, no traceback."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "daemon", *words),
        # Ours belong to the protocol.
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            out, err = await process.communicate()
    except TimeoutError:
        return _result(f"no answer within {_TIMEOUT_S:g} s", is_error=True)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        return _result(err[-_MOST_BYTES // 10 :].decode("utf-8", "replace").strip(), is_error=True)
    if len(out) > _MOST_BYTES:
        return _result(
            f"the answer has {len(out)} bytes, and {_MOST_BYTES} are the most: ask for one channel, one SKU, a later "
            "`since` or a lower `limit`",
            is_error=True,
        )
    return _result(out.decode("utf-8", "replace"), is_error=False)


def _result(text: str, *, is_error: bool) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(text=text)], is_error=is_error)
