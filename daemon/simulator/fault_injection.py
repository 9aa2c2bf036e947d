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

from daemon.simulator.faults import (
    AnsweringFault,
    Bomb,
    Delay,
    DelayAfter,
    Drip,
    Garbage,
    HoldRequest,
    Message,
    Oversized,
    Redirect,
    RefuseSku,
    ResetAfter,
    ResetBefore,
    Status,
    Throttle,
)
from daemon.simulator.journal import Key
from daemon.simulator.rules import Rule, TriggeredFaults
from daemon.simulator.settings import MIB
from daemon.simulator.wire import JSON, FaultEffects, ShopAnswer, ShopApi, ShopCall

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
class Injection:
    """What carrying a fault out needs of the server.

    `respond` makes a plain response. `pause` (seconds) and `hold` (until the gate opens) raise StoppingError
    when the simulator stops. `notify` wakes those who wait for a change.
    """

    request: web.BaseRequest
    api: ShopApi
    call: ShopCall
    respond: Callable[[ShopAnswer], web.Response]
    headers: Callable[[], dict[str, str]]
    pause: Callable[[float], Awaitable[None]]
    hold: Callable[[asyncio.Event], Awaitable[None]]
    notify: Callable[[], None]


def cut(request: web.BaseRequest) -> web.Response:
    """Resets the connection. The response is for the server's loop, which finds the connection closed."""
    transport = request.transport
    if transport is not None:
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
        transport.abort()
    return web.Response()


async def inject(injection: Injection, triggered: TriggeredFaults) -> tuple[web.StreamResponse, str]:
    """Carry out the faults that a request has triggered; return the response and its label. Raises StoppingError."""
    for rule in triggered.steps:
        await _wait_before(injection, rule)
    fault = triggered.answer.fault if triggered.answer else None
    if isinstance(fault, ResetBefore):
        return cut(injection.request), "reset_before"
    answer: ShopAnswer | None = None
    if not isinstance(fault, AnsweringFault) or fault.apply:
        rows = fault.rows if isinstance(fault, AnsweringFault) else None
        call = injection.call
        answer = call.refusal or injection.api.perform(call, _effects(call, triggered, rows))
        injection.notify()
    for rule in triggered.steps:
        if isinstance(rule.fault, DelayAfter):
            await injection.pause(rule.fault.seconds)
    if isinstance(fault, AnsweringFault):
        return await _instead(injection, fault, answer)
    assert answer is not None
    return injection.respond(answer), answer.label


async def _wait_before(injection: Injection, rule: Rule) -> None:
    if isinstance(rule.fault, Delay):
        await injection.pause(rule.fault.seconds)
    elif isinstance(rule.fault, HoldRequest):
        rule.held += 1
        injection.notify()
        try:
            await injection.hold(rule.gate)
        finally:
            rule.held -= 1


def _effects(call: ShopCall, triggered: TriggeredFaults, rows: int | None) -> FaultEffects:
    refused: set[Key] = set()
    message: str | None = None
    for rule in triggered.steps:
        if isinstance(rule.fault, RefuseSku):
            message = message or rule.fault.message
            refused.update([rule.fault.key] if rule.fault.key is not None else [key for key, _ in call.rows])
    return FaultEffects(frozenset(refused), message, rows)


async def _instead(
    injection: Injection, fault: AnsweringFault, answer: ShopAnswer | None
) -> tuple[web.StreamResponse, str]:
    headers = injection.headers()
    right = answer or injection.api.success()
    match fault:
        case ResetAfter():
            return cut(injection.request), "reset_after"
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
            words = injection.api.message(fault.code, fault.message)
            return injection.respond(words), words.label
        case Garbage():
            return await _garbage(injection, fault, right), f"garbage {fault.shape}"
        case Drip():
            return await _drip(injection, fault, right), "drip"
        case Oversized():
            return await _oversized(injection, fault), "oversized"
        case Bomb():
            headers |= {"Content-Type": JSON, "Content-Encoding": "gzip"}
            body = await asyncio.to_thread(_bomb, injection.api.envelope(), fault.megabytes)
            return web.Response(headers=headers, body=body), "bomb"
        case _:
            raise AssertionError(fault)


async def _garbage(injection: Injection, fault: Garbage, right: ShopAnswer) -> web.StreamResponse:
    headers = injection.headers() | {"Content-Type": JSON}
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
            return await _cut_off(injection, right)
        case "wrong_types":
            body = b'{"code":[0],"msg":{},"message":{},"data":"none","content":[]}'
        case "other_code_type":
            body = injection.api.other_code_type()
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


async def _begin(injection: Injection, length: int) -> web.StreamResponse:
    response = web.StreamResponse(headers=injection.headers() | {"Content-Type": JSON})
    response.content_length = length
    await response.prepare(injection.request)
    return response


async def _cut_off(injection: Injection, right: ShopAnswer) -> web.StreamResponse:
    response = await _begin(injection, len(right.body))
    await response.write(right.body[: len(right.body) // 2])
    # A plain close: an abort could overtake the half that has been written.
    if injection.request.transport is not None:
        injection.request.transport.close()
    return response


async def _drip(injection: Injection, fault: Drip, right: ShopAnswer) -> web.StreamResponse:
    response = await _begin(injection, len(right.body))
    for position in range(len(right.body)):
        await response.write(right.body[position : position + 1])
        await injection.pause(fault.interval_s)
    return response


async def _oversized(injection: Injection, fault: Oversized) -> web.StreamResponse:
    head, tail = injection.api.envelope()
    response = await _begin(injection, len(head) + fault.megabytes * MIB + len(tail))
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
