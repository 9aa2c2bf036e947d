"""Makes answers for the fuzzer: those that the documents print, with something wrong."""

import gzip
import json
import random
import zlib
from collections.abc import Callable, Sequence
from typing import Any, Final

from daemon.core.types import Push

_ODD: Final[list[Any]] = [
    None, True, False, 0, -0.0, 1, -1, 1.5, 1e308, 2**31, 2**63, -(2**63), 10**30, 10**400, "", "0", "0000", "null",
    " ", "\0", "\ud800", "\u202e", "x" * 5_000, "9" * 400, [], {}, [[]], [{}], {"": None}, "é世😀", "393992",
    "\\u0030", "NaN",
]  # fmt: skip
_NAMES: Final = ["code", "msg", "message", "data", "content", "results", "success", "outer_sku_id", "total_count",
                 "product_infos", "skus", "outer_id", "accessToken", "expiresIn", "__class__", ""]  # fmt: skip
_CODES: Final = [
    "0000",
    "0001",
    "0002",
    "0003",
    "0004",
    "0005",
    "0006",
    "0009",
    "1001",
    "9999",
    0,
    -1,
    1,
    "0",
    0.0,
    False,
]
_SAID: Final = ["ok", "OK", None, "no permission", "sp already forbidden", "ip invalid", "system error", "签名错误",
                "393992 differs", "1211LL的ON2", "%25%32%42 &#43; \\u002B", "\x1b[31m"]  # fmt: skip
_DATES: Final = [
    "Sat, 28 Nov 2026 12:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", "Fri, 31 Dec 9999 23:59:59 -2359",
    "Mon, 01 Jan 0001 00:00:00 +2359", "Thu, 01 Jan 1970 00:00:00 GMT", "yesterday", "", "99999999999999999999",
    "Sat, 28 Nov 2026 99:99:99 GMT", "Sat, 28 Nov 2026 12:00:00 +999999", "Sat, 28 Nov 99999 12:00:00 GMT", "0" * 3_000,
    "Sat, 28 Nov 2026 12:00:00 \xe9",
]  # fmt: skip
_HEADERS: Final[dict[str, list[str]]] = {
    "Date": _DATES,
    "Retry-After": [*_DATES, "0", "-1", "1e9", "9" * 300, "300", "1.5", "NaN"],
    "Content-Type": ["text/html", "application/json; charset=gbk", "text/plain; charset=utf-16", "x", ""],
    "Content-Encoding": ["gzip", "deflate", "br", "identity", "zstd", "gzip, gzip", "x", "", "compress"],
    "Transfer-Encoding": ["chunked", "gzip, chunked", "identity", "chunked, chunked", "x", ""],
    "Content-Length": ["0", "1", "-1", "99999999999999999999", "1e3", "0x10", "5, 5", ""],
    "Connection": ["close", "keep-alive", "upgrade", "x"],
    "Location": ["http://127.0.0.1:1/", "//", ""],
    "Set-Cookie": ["a=b", "=" * 100],
    "X-Padding": ["x" * 9_000],
}
_STATUSES: Final = [
    "200", "201 Created", "204 No Content", "206 Partial", "301 Moved", "304 Not", "400 Bad", "401 No", "403 No",
    "404 No", "410 Gone", "422 No", "429 Slow", "500 No", "502 No", "503 Busy", "999 X", "0", "-1",
    "200 " + "O" * 9_000, "2000 OK",
]  # fmt: skip


class Answers:
    """An endless supply, by one generator of random numbers."""

    def __init__(self, chance: random.Random, pushes: Sequence[Push]) -> None:
        self._chance = chance
        self._names = [push.identifiers[0] for push in pushes]

    def of(self, method: str) -> tuple[bytes, bool]:
        """The bytes of an answer to a call of this method, and whether the connection ends with it."""
        chance = self._chance
        value: Any = self._right(method)
        for _ in range(chance.choice([0, 0, 0, 1, 1, 1, 2])):
            value = self._mutated(value)
        body = self._written(value)
        if chance.random() < 0.1:
            body = self._spoilt(body)
        raw, is_framed = self._reply(body)
        if chance.random() < 0.08:
            raw = self._spoilt(raw)
            is_framed = False
        # A reply whose end the client cannot see would only wait for the deadline.
        return raw, not is_framed or chance.random() < 0.05

    def _right(self, method: str) -> Any:  # noqa: ANN401 - JSON
        chance = self._chance
        if method.startswith("sekorm."):
            data: Any = None
            if method == "sekorm.probe":
                data = {"expiresIn": chance.choice([3600, 1, "60"]), "accessToken": "tok/EN+=="}
                data = chance.choice([data, [data]])
            elif method == "sekorm.compare":
                data = [{"pnCode": name, "brandName": "AMS", "stockQuantity": 1} for name in self._names]
            return {"code": chance.choice([0, 0, 0, 0, -1, 1]), "msg": chance.choice(_SAID), "data": data}
        if method.startswith("webhook."):
            return {chance.choice(["status", "error", "message"]): chance.choice(_SAID)}
        content: Any = None
        if method == "ymatou.read_page":
            skus = [{"outer_id": name, "stock_num": 1, "used": True} for name in [*self._names, None]]
            content = {
                "total_count": 3,
                "product_infos": [{"product_id": f"P{n}", "skus": skus} for n in range(3)],
            }
        elif chance.random() < 0.8:
            content = {
                "results": [
                    {"outer_sku_id": name, "success": chance.random() < 0.7, "msg": chance.choice(_SAID)}
                    for name in self._names
                ]
            }
        code = chance.choice(_CODES) if chance.random() < 0.2 else "0000"
        return {"code": code, "message": chance.choice(_SAID), "content": content}

    def _mutated(self, value: Any) -> Any:  # noqa: ANN401 - JSON
        """The same with one thing changed, somewhere."""
        chance = self._chance
        if isinstance(value, dict) and value and chance.random() < 0.8:
            name = chance.choice(list(value))
            return value | {name: self._mutated(value[name])}
        if isinstance(value, list) and value and chance.random() < 0.8:
            place = chance.randrange(len(value))
            return [*value[:place], self._mutated(value[place]), *value[place + 1 :]]
        changes: list[Callable[[], Any]] = [
            lambda: chance.choice(_ODD),
            lambda: chance.choice(_CODES),
            lambda: [value],
            lambda: {chance.choice(_NAMES): value},
            lambda: str(value)[:500],
            lambda: self._deep(value),
        ]
        if isinstance(value, dict):
            changes += [lambda: {name: value[name] for name in list(value)[1:]}] * 2
            changes += [lambda: value | {chance.choice(_NAMES): chance.choice(_ODD)}] * 2
        if isinstance(value, list):
            changes += [lambda: value * 2, lambda: value[1:], lambda: value * 60, lambda: value[::-1]] * 2
        return chance.choice(changes)()

    def _deep(self, value: Any) -> Any:  # noqa: ANN401 - JSON
        for _ in range(self._chance.choice([3, 55, 62, 63, 64, 70, 400])):
            value = [value]
        return value

    def _written(self, value: Any) -> bytes:  # noqa: ANN401 - JSON
        chance = self._chance
        text = json.dumps(value, ensure_ascii=chance.random() < 0.5)
        match chance.randrange(60):
            case 0:
                text = text.replace(
                    "null", chance.choice(["NaN", "Infinity", "-Infinity", "nul", "undefined", "1e999"]), 1
                )
            case 1:
                text = text.replace(
                    "{", '{"code":' + chance.choice(["0", '"0000"', "1"]) + ",", chance.choice([1, -1])
                )
            case 2:
                text += chance.choice([" ", "\n", "{}", ",", "\0", "x", text])
            case 3:
                text = chance.choice(["\ufeff", " ", "callback(", "//x\n", "\0"]) + text
            case 4:
                text = text.replace('"', chance.choice(["'", ""]))
            case 5:
                return text.encode(chance.choice(["utf-16", "utf-32", "utf-8-sig", "gbk"]), "replace")
            case 6:
                text = "<html><body>" + text + "</body></html>"
            case 7:
                text = "[" * 100_000 if chance.random() < 0.02 else ""
            case 8:
                text = text.replace(
                    ":", ":" + " " * chance.choice([1, 1_000, 300_000 if chance.random() < 0.05 else 9]), 1
                )
        return text.encode("utf-8", "surrogatepass")

    def _spoilt(self, raw: bytes) -> bytes:
        """Bytes changed, lost, doubled or put in."""
        chance = self._chance
        changed = bytearray(raw)
        for _ in range(chance.choice([1, 1, 2, 8])):
            place = chance.randrange(len(changed) + 1)
            end = min(len(changed), place + chance.choice([0, 1, 1, 4, 64]))
            fresh = chance.choice(
                [b"", chance.randbytes(1), chance.randbytes(4), bytes(changed[place:end]) * 2, b"\r\n", b"\0"]
            )
            changed[place:end] = fresh
        return bytes(changed)

    def _reply(self, body: bytes) -> tuple[bytes, bool]:
        """The reply, and whether it says where it ends as it should."""
        chance = self._chance
        headers: list[tuple[str, str]] = []
        if chance.random() < 0.05:
            encoding = chance.choice(["gzip", "deflate"])
            body = gzip.compress(body, 1) if encoding == "gzip" else zlib.compress(body, 1)
            if chance.random() < 0.3:
                body = self._spoilt(body)
            headers.append(("Content-Encoding", encoding))
        is_framed = True
        if chance.random() < 0.1:
            headers.append(("Transfer-Encoding", "chunked"))
            size = chance.choice([1, 7, 4_096])
            chunks = [body[at : at + size] for at in range(0, min(len(body), 64 * size), size)] + [
                body[64 * size :]
            ]
            body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks if chunk) + b"0\r\n\r\n"
        elif chance.random() < 0.05:
            is_framed = False
        else:
            headers.append(("Content-Length", str(len(body))))
        for _ in range(chance.choice([0, 0, 0, 0, 0, 1, 2])):
            name = chance.choice(list(_HEADERS))
            headers.insert(chance.randrange(len(headers) + 1), (name, chance.choice(_HEADERS[name])))
            is_framed = is_framed and name not in ("Content-Length", "Transfer-Encoding", "Connection")
        status = chance.choice(_STATUSES) if chance.random() < 0.1 else "200 OK"
        head = "\r\n".join([f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers)])
        return head.encode("latin-1", "replace") + b"\r\n\r\n" + body, is_framed and status.startswith(
            "200 OK"
        )
