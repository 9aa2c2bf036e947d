"""What a strict reader would not call a success is none, and what a client raises costs one attempt."""

import codecs
import gzip
import time
import zlib
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from structlog.testing import capture_logs

from daemon.core.outcome import Kind
from daemon.core.types import Push, Sku, StoredToken
from daemon.marketplaces.contained import contained
from daemon.marketplaces.reply import DEEPEST, NotDecodedError, decoded, read_object
from daemon.marketplaces.sekorm.client import SekormClient
from daemon.marketplaces.ymatou.client import PAGE_CAP, YmatouClient
from tests.channels import SEKORM
from tests.marketplaces.conftest import LONG
from tests.marketplaces.memory import MemoryTokens
from tests.marketplaces.scripted import Request, Scripted, reply

PUSHES = [Push(Sku("a"), ("A", "B"), 1), Push(Sku("b"), ("B", "B"), 2)]
CODES = [b'"code":0', b'"code":"0000"']


@pytest.mark.parametrize(
    "body",
    [
        codecs.BOM_UTF8 + b"{@}",
        b"{@} {}",
        b"{@}\0",
        b"{@}\n]",
        b"[{@}]",
        b"{@,@}",
        b'{"code":1,@}',
        b'{@,"code":1}',
        b'{@,"x":{"y":1,"y":1}}',
        b'{@,"x":NaN}',
        b'{@,"x":[-Infinity]}',
        b'{@,"x":"\xff"}',
        b'{@,"x":01}',
        b'{@,"x":"\n"}',
        b"{@,}",
        b"{@,'x':1}",
        b"<html>{@}</html>",
        b"callback({@})",
        b'{@,"x":' + b"[" * DEEPEST + b"]" * DEEPEST + b"}",
        b'{@,"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{@,"x":1' + b"0" * 5_000 + b"}",
    ],
)
@pytest.mark.parametrize("code", CODES)
def test_what_a_strict_reader_takes_for_no_object_is_none(code: bytes, body: bytes) -> None:
    assert read_object(b"{" + code + b"}") is not None
    assert read_object(body.replace(b"@", code)) is None


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32", "utf-8-sig"])
def test_an_answer_in_another_encoding_than_utf_8_is_none(encoding: str) -> None:
    assert read_object('{"code":0}'.encode(encoding)) is None


def test_nesting_is_read_up_to_the_limit() -> None:
    assert read_object(b'{"x":' + b"[" * (DEEPEST - 1) + b"]" * (DEEPEST - 1) + b"}") is not None
    assert read_object(b'{"x":"' + b"[" * 1_000 + b'"}') is not None


LENGTH = PAGE_CAP - 100
HOSTILE = {
    "objects": b'{"content":[' + b",".join([b"{}"] * (LENGTH // 3)) + b"]}",
    "lists": b'{"content":[' + b",".join([b"[" * 60 + b"]" * 60] * (LENGTH // 121)) + b"]}",
    "keys": b'{"content":{' + b",".join(b'"%d":0' % n for n in range(LENGTH // 12)) + b"}}",
    "a long text": b'{"content":"' + b"x" * LENGTH + b'"}',
    "a long number": b'{"content":' + b"1" * LENGTH + b"}",
    "escapes": b'{"content":"' + b"\\u4e2d" * (LENGTH // 6) + b'"}',
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_page_is_read_in_a_moment(kind: str) -> None:
    began = time.process_time()
    read_object(HOSTILE[kind])
    assert time.process_time() - began < 0.5


WHOLE = b'{"code":0}'


def packed(body: bytes) -> bytes:
    return gzip.compress(body, mtime=0)


@pytest.mark.parametrize(
    ("body", "encoding", "plain"),
    [
        (WHOLE, "", WHOLE),
        (WHOLE, "identity", WHOLE),
        (packed(WHOLE), "gzip", WHOLE),
        (packed(WHOLE), " X-GZIP ", WHOLE),
        (zlib.compress(WHOLE), "deflate", WHOLE),
        (packed(b"x" * 100), "gzip", b"x" * 100),
        (packed(b"x" * 101), "gzip", None),
        (packed(b"x" * 10**7), "gzip", None),
    ],
)
def test_a_body_is_decoded_up_to_its_cap(body: bytes, encoding: str, plain: bytes | None) -> None:
    assert decoded(body, encoding, 100) == plain


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (WHOLE, "gzip"),
        (WHOLE, "deflate"),
        (WHOLE, "br"),
        (WHOLE, "nonsense"),
        (WHOLE, "identity,identity"),
        (packed(WHOLE)[:-4], "gzip"),
        (packed(WHOLE)[:-8], "gzip"),
        (packed(WHOLE)[:-1] + b"x", "gzip"),
        (packed(WHOLE) + b"x", "gzip"),
        (packed(WHOLE) * 2, "gzip"),
        (packed(packed(WHOLE)), "gzip,gzip"),
        (zlib.compress(WHOLE), "gzip"),
        (b"", "gzip"),
    ],
)
def test_a_body_that_is_not_what_its_encoding_says_is_not_decoded(body: bytes, encoding: str) -> None:
    with pytest.raises(NotDecodedError):
        decoded(body, encoding, 100)


async def test_a_reply_with_two_framings_is_unknown(
    make_ymatou: Callable[..., YmatouClient],
) -> None:
    body = b'{"code":"0000"}'
    chunked = b"f\r\n" + body + b"\r\n0\r\n\r\n"
    raws = [
        b"HTTP/1.1 200 OK\0\r\nContent-Length: 15\r\n\r\n" + body,
        b"HTTP/1.1 200 O\0ontent-Length: 15\r\n\r\n" + body,
        b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 25\r\n\r\n" + chunked,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n" + chunked,
        b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\nContent-Length: 15\r\n\r\n" + body,
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Encoding: gzip\r\nContent-Length: 15\r\n\r\n"
        + body,
    ]

    async def answer(_request: Request, writer: object) -> None:
        writer.write(raws[len(server.requests) - 1])  # type: ignore[attr-defined]
        writer.close()  # type: ignore[attr-defined]

    async with Scripted(answer) as server:
        ymatou = make_ymatou(server.url)
        outcomes = [await ymatou.push(PUSHES[0], LONG) for _ in raws]
    assert [outcome.kind for outcome in outcomes] == [Kind.UNKNOWN] * len(raws)


async def test_an_exception_of_a_client_is_an_unknown_outcome_with_its_traceback_in_the_log() -> None:
    class Failing:
        channel = SEKORM

        def mask(self, text: str) -> str:
            return text.replace("SECRET", "[masked]")

        @contained
        async def fail(self) -> None:
            raise OverflowError("date value out of range, said SECRET")

    with capture_logs() as lines:
        found = await Failing().fail()
    assert found is not None
    assert found.kind is Kind.UNKNOWN
    assert found.reason == "the client failed (OverflowError)"
    (line,) = lines
    assert (line["event"], line["log_level"], line["channel"]) == (
        "marketplace.client_failed",
        "error",
        SEKORM,
    )
    assert "in fail" in line["exception"]
    assert line["exception"].endswith("OverflowError: date value out of range, said [masked]")


async def test_no_method_of_ymatou_raises(make_ymatou: Callable[..., YmatouClient]) -> None:
    def now() -> datetime:
        raise OverflowError("date value out of range")

    ymatou = make_ymatou(now=now)
    with capture_logs() as lines:
        outcomes = [
            await ymatou.push(PUSHES[0], LONG),
            *await ymatou.push_many(PUSHES, LONG),
            await ymatou.probe(),
        ]
        page = await ymatou.read_page(1, LONG)
    assert {outcome.kind for outcome in (*outcomes, page) if not hasattr(outcome, "skus")} == {Kind.UNKNOWN}
    assert [line["event"] for line in lines] == ["marketplace.client_failed"] * 4


class _Broken(MemoryTokens):
    async def load(self) -> StoredToken | None:
        raise RuntimeError("nobody foresaw this")


async def test_no_method_of_sekorm_raises(make_sekorm: Callable[..., SekormClient]) -> None:
    sekorm = make_sekorm(store=_Broken())
    with capture_logs() as lines:
        outcomes = [
            await sekorm.push(PUSHES[0], LONG),
            *await sekorm.push_many(PUSHES, LONG),
            await sekorm.probe(),
        ]
        comparison = await sekorm.compare(PUSHES, LONG)
    assert {outcome.kind for outcome in (*outcomes, comparison.outcome)} == {Kind.UNKNOWN}
    assert comparison.agrees is None
    assert [line["event"] for line in lines] == ["marketplace.client_failed"] * 4


async def test_a_token_answer_that_breaks_the_client_sends_nothing_and_is_tried_again_later(
    make_sekorm: Callable[..., SekormClient], tokens: MemoryTokens
) -> None:
    async with Scripted(reply(b'{"code":0,"data":{"accessToken":"abc","expiresIn":1e400}}')) as server:
        outcome = await make_sekorm(server.url).push(PUSHES[0], LONG)
    assert outcome.kind is Kind.NOT_SENT
    assert tokens.held_until > 0
    assert outcome.retry_after is None or outcome.retry_after < timedelta(minutes=5)
