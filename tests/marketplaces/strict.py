"""A second reader of the marketplaces' answers, as strict as HTTP/1.1, RFC 8259 and the documents, that shares no code
with the clients: what it does not call a success must be none."""

import gzip
import json
import re
import zlib
from collections.abc import Sequence
from typing import Any, Final

_DEEPEST: Final = 64
_MARK: Final = "\ufeff"


ACCEPTED: Final = {
    "webhook.push": "2[0-9]{2}",
    "webhook.push_many": "2[0-9]{2}",
    "webhook.probe": "2[0-9]{2}|422",  # one that refuses the type of a test message has verified its signature
}
"""The statuses that are a success, of methods for which others than 200 are."""


def body(raw: bytes, *, is_closed: bool, statuses: str = "200") -> bytes | None:
    """The body of a complete reply with one of the statuses; None when a strict reader finds none."""
    # A line may end in LF alone, and an empty one before the first may be skipped (RFC 9112, 2.2; of requests).
    raw = raw.lstrip(b"\r\n")
    end = re.search(rb"\r?\n\r?\n", raw)
    if end is None:
        return None
    status, _, fields = re.sub(rb"\r?\n", b"\n", raw[: end.start()]).partition(b"\n")
    rest = raw[end.end() :]
    if fields.startswith((b" ", b"\t")):
        return None
    # A user agent has to read a folded line as one (RFC 9112, 5.2).
    lines = re.sub(rb"\n[ \t]+", b" ", fields).split(b"\n") if fields else []
    accepted = re.fullmatch(rb"HTTP/1\.[01] (%b)( [^\r\n\0]*)?" % statuses.encode(), status)
    if accepted is None:
        return None
    headers: dict[bytes, list[bytes]] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not re.fullmatch(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
            return None
        headers.setdefault(name.lower(), []).append(value.strip(b" \t"))
    # A reply with this status has no body, whatever its headers say (RFC 9112, 6.3).
    framed = b"" if accepted[1] == b"204" else _framed(headers, rest, is_closed=is_closed)
    return None if framed is None else _decoded(framed, headers.get(b"content-encoding", []))


def _framed(headers: dict[bytes, list[bytes]], rest: bytes, *, is_closed: bool) -> bytes | None:
    codings, lengths = headers.get(b"transfer-encoding", []), headers.get(b"content-length", [])
    if codings:
        return _joined(rest) if codings == [b"chunked"] and not lengths else None
    if not lengths:
        return rest if is_closed else None
    if len(lengths) > 1 or not re.fullmatch(rb"[0-9]{1,18}", lengths[0]) or int(lengths[0]) > len(rest):
        return None
    return rest[: int(lengths[0])]


def _joined(rest: bytes) -> bytes | None:
    """The chunks of a body, put together."""
    found = b""
    while True:
        size = re.match(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?\r?\n", rest)
        if size is None:
            return None
        length, rest = int(size[1], 16), rest[size.end() :]
        if length == 0:
            return found if re.search(rb"(^|\n)\r?\n", rest) else None
        # The HTTP library takes LF alone here too, which no standard has; the JSON is whole all the same.
        end = re.match(rb"\r?\n", rest[length : length + 2])
        if end is None:
            return None
        found, rest = found + rest[:length], rest[length + end.end() :]


def _decoded(framed: bytes, encodings: Sequence[bytes]) -> bytes | None:
    if len(encodings) > 1:
        return None
    encoding = encodings[0].lower() if encodings else b""
    try:
        if encoding in (b"gzip", b"x-gzip"):
            return gzip.decompress(framed)
        if encoding == b"deflate":
            return zlib.decompress(framed)
    except (OSError, EOFError, zlib.error):
        return None
    return framed if encoding in (b"", b"identity") else None


def says(method: str, found: bytes | None, identifier: str, asked: Sequence[str]) -> bool:
    """Whether the answer is a success for this SKU, or a page."""
    if method.startswith("webhook."):
        return found is not None
    answer = None if found is None else _object(found)
    if answer is None:
        return False
    if method.startswith("sekorm."):
        if not isinstance(answer.get("msg"), str | None) or not _is_zero(answer.get("code")):
            return False
        return method != "sekorm.probe" or _grants(answer.get("data"))
    if not isinstance(answer.get("message"), str | None):
        return False
    if method == "ymatou.probe":
        return answer.get("code") in ("0000", "0001", "0006", "1001")
    if answer.get("code") != "0000":
        return False
    content = answer.get("content")
    return _is_page(content) if method == "ymatou.read_page" else _accepts(content, identifier, asked)


def _object(found: bytes) -> dict[str, Any] | None:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in pairs}) != len(pairs):
            raise ValueError
        return dict(pairs)

    def refuse(_name: str) -> object:
        raise ValueError

    try:
        text = found.decode("utf-8", "strict")
        if text.startswith(_MARK):
            return None
        answer = json.loads(text, object_pairs_hook=once, parse_constant=refuse)
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) and _depth(text) <= _DEEPEST else None


def _depth(text: str) -> int:
    """How deep brackets are nested, those in strings aside."""
    deepest = depth = 0
    for bracket in re.findall(r"[\[{\]}]", re.sub(r'"(?:[^"\\]|\\.)*"', "", text)):
        depth += (bracket in "[{") - (bracket in "]}")
        deepest = max(deepest, depth)
    return deepest


def _is_zero(code: object) -> bool:
    return isinstance(code, int) and not isinstance(code, bool) and code == 0


def _grants(data: object) -> bool:
    if isinstance(data, list) and len(data) == 1:
        data = data[0]
    if not isinstance(data, dict):
        return False
    token, seconds = data.get("accessToken"), data.get("expiresIn")
    if isinstance(seconds, str):
        seconds = int(seconds) if re.fullmatch("[0-9]{1,18}", seconds) else 0
    is_number = isinstance(seconds, int) and not isinstance(seconds, bool) and seconds > 0
    return is_number and isinstance(token, str) and 0 < len(token) <= 100


def _accepts(content: object, identifier: str, asked: Sequence[str]) -> bool:
    """Y11: the SKU has a result and it is a success, or none of the results can be about it and refuse it."""
    if content is None:
        return True
    if not isinstance(content, dict):
        return False
    results = content.get("results")
    if results is None:
        return True
    if not isinstance(results, list):
        return False
    if any(not isinstance(result, dict) or result.get("success") not in (True, False) for result in results):
        return False
    if any(not isinstance(result["success"], bool) for result in results):
        return False
    own = [result["success"] for result in results if result.get("outer_sku_id") == identifier]
    if own:
        return all(own)
    is_named = all(isinstance(result.get("outer_sku_id"), str) for result in results)
    return is_named and all(result["success"] or result["outer_sku_id"] in asked for result in results)


def _is_page(content: object) -> bool:
    if not isinstance(content, dict):
        return False
    total, products = content.get("total_count"), content.get("product_infos")
    if not isinstance(total, int) or isinstance(total, bool) or not 0 <= total < 2**31:
        return False
    return (isinstance(products, list) and len(products) <= 100) or (products is None and total == 0)
