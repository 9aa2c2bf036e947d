"""Carries faults out: waits, holds, resets, and answers that no client should trust."""

import asyncio
import codecs
import gzip
import io
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, assert_never

from aiohttp import web

from daemon.simulator.books import Key
from daemon.simulator.faults import (
    AnsweringFault,
    Bomb,
    Delay,
    DelayAfter,
    Drip,
    Garbage,
    Hold,
    Message,
    Oversized,
    Redirect,
    RefuseSku,
    ResetAfter,
    ResetBefore,
    Status,
    Throttle,
)
from daemon.simulator.rules import Fired, Rule
from daemon.simulator.settings import MIB
from daemon.simulator.wire import JSON, Answer, Call, Desk, Interference

# Closing a socket that lingers for 0 s sends RST instead of FIN.
_LINGER_NONE: Final = struct.pack("ii", 1, 0)


_ALMOST_JSON: Final[dict[str, Callable[[bytes], bytes]]] = {
    "duplicate_keys": lambda body: body[:-1] + b"," + body[1:],
    "byte_order_mark": lambda body: codecs.BOM_UTF8 + body,
    "not_a_number": lambda body: body[:-1] + b',"x":NaN}',
    "trailing": lambda body: body + b"}",
}


class StoppingError(Exception):
    """The simulator stops: what is held or delayed is dropped, not applied."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What carrying a fault out needs of the server.

    `respond` makes a plain response. `pause` (seconds) and `hold` (until the gate opens) raise StoppingError
    when the simulator stops. `ring` tells those who wait that something happened.
    """

    request: web.BaseRequest
    desk: Desk
    call: Call
    respond: Callable[[Answer], web.Response]
    headers: Callable[[], dict[str, str]]
    pause: Callable[[float], Awaitable[None]]
    hold: Callable[[asyncio.Event], Awaitable[None]]
    ring: Callable[[], None]


def cut(request: web.BaseRequest) -> web.Response:
    """Resets the connection. The response is for the server's loop, which finds the connection closed."""
    transport = request.transport
    if transport is not None:
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
        transport.abort()
    return web.Response()


async def meet(scene: Scene, fired: Fired) -> tuple[web.StreamResponse, str]:
    """Plays all faults a request meets; returns the response and its label. Raises StoppingError."""
    for rule in fired.steps:
        await _wait_before(scene, rule)
    fault = fired.answer.fault if fired.answer else None
    if isinstance(fault, ResetBefore):
        return cut(scene.request), "reset_before"
    answer: Answer | None = None
    if not isinstance(fault, AnsweringFault) or fault.apply:
        rows = fault.rows if isinstance(fault, AnsweringFault) else None
        answer = scene.call.refusal or scene.desk.perform(scene.call, _interference(scene.call, fired, rows))
        scene.ring()
    for rule in fired.steps:
        if isinstance(rule.fault, DelayAfter):
            await scene.pause(rule.fault.seconds)
    if isinstance(fault, AnsweringFault):
        return await _instead(scene, fault, answer)
    assert answer is not None
    return scene.respond(answer), answer.label


async def _wait_before(scene: Scene, rule: Rule) -> None:
    if isinstance(rule.fault, Delay):
        await scene.pause(rule.fault.seconds)
    elif isinstance(rule.fault, Hold):
        rule.held += 1
        scene.ring()
        try:
            await scene.hold(rule.gate)
        finally:
            rule.held -= 1


def _interference(call: Call, fired: Fired, rows: int | None) -> Interference:
    refused: set[Key] = set()
    message: str | None = None
    for rule in fired.steps:
        if isinstance(rule.fault, RefuseSku):
            message = message or rule.fault.message
            refused.update([rule.fault.key] if rule.fault.key is not None else [key for key, _ in call.rows])
    return Interference(frozenset(refused), message, rows)


async def _instead(
    scene: Scene, fault: AnsweringFault, answer: Answer | None
) -> tuple[web.StreamResponse, str]:
    headers = scene.headers()
    right = answer or scene.desk.success()
    match fault:
        case ResetAfter():
            return cut(scene.request), "reset_after"
        case Status():
            headers.update(fault.headers)
            body = fault.body.encode()
            return web.Response(status=fault.status, headers=headers, body=body), f"status {fault.status}"
        case Throttle():
            if fault.retry_after is not None:
                headers["Retry-After"] = str(fault.retry_after)
            return web.Response(status=fault.status, headers=headers), f"throttle {fault.status}"
        case Redirect():
            headers["Location"] = fault.location
            return web.Response(status=fault.status, headers=headers), f"redirect {fault.status}"
        case Message():
            words = scene.desk.message(fault.code, fault.message)
            return scene.respond(words), words.label
        case Garbage():
            return await _garbage(scene, fault, right), f"garbage {fault.shape}"
        case Drip():
            return await _drip(scene, fault, right), "drip"
        case Oversized():
            return await _oversized(scene, fault), "oversized"
        case Bomb():
            headers |= {"Content-Type": JSON, "Content-Encoding": "gzip"}
            body = await asyncio.to_thread(_bomb, scene.desk.shell(), fault.megabytes)
            return web.Response(headers=headers, body=body), "bomb"
        case _:
            raise AssertionError(fault)


async def _garbage(scene: Scene, fault: Garbage, right: Answer) -> web.StreamResponse:
    headers = scene.headers() | {"Content-Type": JSON}
    body = b""
    match fault.shape:
        case "html":
            headers["Content-Type"] = "text/html"
            body = b"<html><body><h1>502 Bad Gateway</h1></body></html>"
        case "empty":
            pass
        case "truncated":
            body = right.body[:-3]
        case "cut_off":
            return await _cut_off(scene, right)
        case "wrong_types":
            body = b'{"code":[0],"msg":{},"message":{},"data":"none","content":[]}'
        case "other_code_type":
            body = scene.desk.other_code_type()
        case "array":
            body = b"[" + right.body + b"]"
        case "deep":
            body = b"[" * 100_000 + b"]" * 100_000
        case "not_utf8":
            body = right.body[:-1] + b',"x":"\xff\xfe"}'
        case "huge_headers":
            headers["X-Padding"] = "x" * 65_536
            body = right.body
        case "duplicate_keys" | "byte_order_mark" | "not_a_number" | "trailing":
            body = _ALMOST_JSON[fault.shape](right.body)
        case _:
            assert_never(fault.shape)
    return web.Response(headers=headers, body=body)


async def _begin(scene: Scene, length: int) -> web.StreamResponse:
    response = web.StreamResponse(headers=scene.headers() | {"Content-Type": JSON})
    response.content_length = length
    await response.prepare(scene.request)
    return response


async def _cut_off(scene: Scene, right: Answer) -> web.StreamResponse:
    response = await _begin(scene, len(right.body))
    await response.write(right.body[: len(right.body) // 2])
    # A plain close: an abort could overtake the half that has been written.
    if scene.request.transport is not None:
        scene.request.transport.close()
    return response


async def _drip(scene: Scene, fault: Drip, right: Answer) -> web.StreamResponse:
    response = await _begin(scene, len(right.body))
    for position in range(len(right.body)):
        await response.write(right.body[position : position + 1])
        await scene.pause(fault.interval_s)
    return response


async def _oversized(scene: Scene, fault: Oversized) -> web.StreamResponse:
    head, tail = scene.desk.shell()
    response = await _begin(scene, len(head) + fault.megabytes * MIB + len(tail))
    await response.write(head)
    block = b"x" * (MIB // 16)
    for _ in range(fault.megabytes * 16):
        await response.write(block)
    await response.write(tail)
    return response


@lru_cache(maxsize=4)
def _bomb(shell: tuple[bytes, bytes], megabytes: int) -> bytes:
    head, tail = shell
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as stream:
        stream.write(head)
        block = b"x" * MIB
        for _ in range(megabytes):
            stream.write(block)
        stream.write(tail)
    return packed.getvalue()
