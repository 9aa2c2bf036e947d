"""What each failure on the wire says about the request, against servers that answer byte for byte."""

import asyncio
import math
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, closing
from datetime import timedelta
from pathlib import Path

import pytest
from yarl import URL

from daemon import clock
from daemon.core.errors import ConfigError
from daemon.core.outcome import Kind, Outcome, Trouble
from daemon.marketplaces.sekorm.settings import SekormSettings
from daemon.marketplaces.transport import RESPONSE_CAP, Reply, Transport
from daemon.marketplaces.ymatou.settings import YmatouSettings
from tests.channels import SEKORM
from tests.marketplaces.authority import Authority
from tests.marketplaces.scripted import Behaviour, Request, Scripted, hang_up, reply, reset, stay_silent, wire

OK = reply(b"{}")


@pytest.fixture
async def make() -> AsyncIterator[Callable[..., Transport]]:
    async with AsyncExitStack() as stack:

        def build(url: str, connections: int = 2, ca_file: Path | None = None) -> Transport:
            transport = Transport(SEKORM, url, "text/plain", connections, ca_file)
            stack.push_async_callback(transport.close)
            return transport

        yield build


async def send(transport: Transport, timeout_s: float = 5.0) -> Reply | Outcome:
    return await transport.post(transport.url("x"), b"hello", timeout_s)


async def failure(transport: Transport, timeout_s: float = 5.0) -> Outcome:
    outcome = await send(transport, timeout_s)
    assert isinstance(outcome, Outcome)
    return outcome


def free_port() -> int:
    with closing(socket.socket()) as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


# Not sent


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://nonexistent.invalid", "not resolved"),
        ("http://127.0.0.1:{port}", "no connection to 127.0.0.1:{port}"),
        ("https://127.0.0.1:{port}", "no connection to 127.0.0.1:{port}"),
    ],
)
async def test_who_cannot_be_reached_was_sent_nothing(
    make: Callable[..., Transport], url: str, words: str
) -> None:
    port = free_port()
    outcome = await failure(make(url.format(port=port)))
    assert (outcome.kind, outcome.trouble) == (Kind.NOT_SENT, Trouble.UNREACHABLE)
    assert words.format(port=port) in outcome.reason
    assert "channels.sekorm.base_url" in outcome.advice


async def test_a_request_without_a_connection_is_not_sent(make: Callable[..., Transport]) -> None:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        # Nobody accepts, and the queue is full: further attempts get no answer, as behind a firewall.
        with closing(socket.create_connection(address)), closing(socket.socket()) as second:
            second.setblocking(False)  # noqa: FBT003 - the library's signature
            second.connect_ex(address)
            outcome = await failure(make(f"http://127.0.0.1:{address[1]}"), 0.5)
    assert outcome.kind is Kind.NOT_SENT
    assert "in time" in outcome.reason


async def test_a_certificate_of_an_unknown_authority_is_not_sent(
    make: Callable[..., Transport], tmp_path: Path
) -> None:
    known, other = Authority(tmp_path, "known"), Authority(tmp_path, "other")
    async with Scripted(OK, tls=other.server()) as server:
        for ca_file in (None, known.file):
            outcome = await failure(make(server.url, ca_file=ca_file))
            assert outcome.kind is Kind.NOT_SENT
            assert "certificate" in outcome.reason
            assert "channels.sekorm.ca_file" in outcome.advice
        assert server.requests == []


async def test_a_certificate_of_the_given_authority_is_trusted(
    make: Callable[..., Transport], tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    async with Scripted(OK, tls=authority.server()) as server:
        assert isinstance(await send(make(server.url, ca_file=authority.file)), Reply)


async def test_a_certificate_of_another_host_or_out_of_date_is_not_sent(
    make: Callable[..., Transport], tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    for context in (authority.server("127.0.0.2"), authority.server(valid_for=timedelta(days=-1))):
        async with Scripted(OK, tls=context) as server:
            assert (await failure(make(server.url, ca_file=authority.file))).kind is Kind.NOT_SENT
            assert server.requests == []


async def test_a_server_without_tls_behind_an_https_address_is_not_sent(
    make: Callable[..., Transport],
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        outcome = await failure(make(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"))
    assert outcome.kind is Kind.NOT_SENT


async def test_a_handshake_that_hangs_is_not_sent(make: Callable[..., Transport]) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        outcome = await failure(make(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"), 0.4)
        assert outcome.kind is Kind.NOT_SENT


async def test_a_wrong_ca_file_is_a_configuration_error(tmp_path: Path) -> None:
    bad = tmp_path / "bad.pem"
    bad.write_text("not a certificate")
    for file in (bad, tmp_path / "missing.pem"):
        with pytest.raises(ConfigError, match=r"channels.sekorm.ca_file"):
            Transport(SEKORM, "https://127.0.0.1", "text/plain", 1, file)


# Unknown


async def test_a_client_certificate_refused_after_the_handshake_is_unknown(
    make: Callable[..., Transport], tmp_path: Path
) -> None:
    # TLS 1.3: the client is done, and may have written, before the server looks at its certificate.
    authority = Authority(tmp_path)
    context = authority.server()
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.file)
    async with Scripted(OK, tls=context) as server:
        outcome = await failure(make(server.url, ca_file=authority.file))
    assert outcome.kind is Kind.UNKNOWN


@pytest.mark.parametrize("behave", [hang_up, reset])
async def test_a_connection_that_ends_without_a_reply_is_unknown(
    make: Callable[..., Transport], behave: Behaviour
) -> None:
    async with Scripted(behave) as server:
        assert (await failure(make(server.url))).kind is Kind.UNKNOWN
        assert len(server.requests) == 1


@pytest.mark.parametrize("behave", [hang_up, reset])
async def test_a_kept_connection_that_ends_under_a_request_is_unknown_and_not_sent_twice(
    make: Callable[..., Transport], behave: Behaviour
) -> None:
    async with Scripted(OK, behave) as server:
        transport = make(server.url)
        assert isinstance(await send(transport), Reply)
        assert (await failure(transport)).kind is Kind.UNKNOWN
        assert [request.connection for request in server.requests] == [1, 1]


GARBAGE = [
    b"not http at all\r\n\r\n",
    b"\x16\x03\x01\x02\x00",
    b"HTTP/1.1 abc OK\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: abc\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nContent-Encoding: deflate\r\nContent-Length: 4\r\n\r\n\x78\x9c\xff\xff",
    b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\n" + b"X: " + b"a" * 20_000 + b"\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 500 + b"\r\n",
    b"HTTP/1.1 200 " + b"O" * 20_000 + b"\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nBad Header\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX: \x00\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" * 3,
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"",
]


@pytest.mark.parametrize("raw", GARBAGE)
async def test_a_reply_that_is_not_proper_http_is_unknown(make: Callable[..., Transport], raw: bytes) -> None:
    async def answer(_request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        await writer.drain()
        writer.close()

    async with Scripted(answer) as server:
        assert (await failure(make(server.url))).kind is Kind.UNKNOWN


@pytest.mark.parametrize("seed", range(40))
async def test_random_bytes_never_raise(make: Callable[..., Transport], seed: int) -> None:
    noise = bytearray(wire(b'{"code":0}', Date="Sun, 06 Nov 1994 08:49:37 GMT", Content_Encoding="gzip"))
    for n in range(seed % 8 + 1):
        noise[(seed * 7919 + n * 104_729) % len(noise)] = (seed * 31 + n * 17) % 256

    async def answer(_request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(bytes(noise))
        await writer.drain()
        writer.close()

    async with Scripted(answer) as server:
        result = await send(make(server.url), 2.0)
        assert isinstance(result, Reply) or result.kind is Kind.UNKNOWN


async def test_a_reply_up_to_the_cap_is_read_and_a_longer_one_is_unknown(
    make: Callable[..., Transport],
) -> None:
    async with Scripted(reply(b"x" * RESPONSE_CAP), reply(b"x" * (RESPONSE_CAP + 1)), OK) as server:
        transport = make(server.url)
        first = await send(transport)
        assert isinstance(first, Reply)
        assert len(first.body) == RESPONSE_CAP
        assert (await failure(transport)).kind is Kind.UNKNOWN
        assert isinstance(await send(transport), Reply)


async def test_a_dripped_reply_ends_at_the_deadline(make: Callable[..., Transport]) -> None:
    async def drip(_request: Request, writer: asyncio.StreamWriter) -> None:
        for byte in wire(b"x" * 1_000):
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.05)

    async with Scripted(drip) as server:
        began_at = clock.monotonic()
        assert (await failure(make(server.url), 0.4)).kind is Kind.UNKNOWN
        assert clock.monotonic() - began_at < 0.8


async def test_a_deadline_of_seconds_is_kept_to_the_fraction(make: Callable[..., Transport]) -> None:
    # Deadlines of 5 s and more are rounded up to a whole second of the loop's clock by default: begin where
    # that would cost the most.
    loop = asyncio.get_running_loop()
    await asyncio.sleep(1.05 - math.modf(loop.time())[0])
    async with Scripted(stay_silent) as server:
        began_at = loop.time()
        assert (await failure(make(server.url), 5.05)).kind is Kind.UNKNOWN
        assert loop.time() - began_at < 5.5


# Manners


async def test_requests_are_posts_with_fixed_headers_and_no_cookies(make: Callable[..., Transport]) -> None:
    async with Scripted(reply(b"{}", Set_Cookie="session=1; Path=/")) as server:
        transport = make(server.url)
        for _ in range(3):
            await send(transport)
        assert {request.line for request in server.requests} == {"POST /x HTTP/1.1"}
        assert all("cookie" not in request.headers for request in server.requests)
        assert server.requests[0].headers["content-type"] == "text/plain"
        assert server.requests[0].headers["accept-encoding"] == "identity"
        assert server.requests[0].body == b"hello"


async def test_a_connection_is_kept_and_used_again(make: Callable[..., Transport]) -> None:
    async with Scripted(OK) as server:
        transport = make(server.url)
        for _ in range(20):
            await send(transport)
        assert server.connections == 1


async def test_a_small_refusal_does_not_cost_the_connection(make: Callable[..., Transport]) -> None:
    async with Scripted(reply(b"busy", "429 Too Many Requests")) as server:
        transport = make(server.url)
        for _ in range(5):
            assert (await failure(transport)).trouble is Trouble.THROTTLED
        assert server.connections == 1


async def test_never_more_connections_than_allowed(make: Callable[..., Transport]) -> None:
    async with Scripted(OK) as server:
        transport = make(server.url, connections=3)
        await asyncio.gather(*(send(transport) for _ in range(100)))
        assert server.most_open <= 3
        assert len(server.requests) == 100


async def test_proxies_of_the_environment_are_ignored(
    make: Callable[..., Transport], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    async with Scripted(OK) as server:
        assert isinstance(await send(make(server.url)), Reply)


async def test_compressed_replies_are_understood_although_not_asked_for(
    make: Callable[..., Transport],
) -> None:
    import gzip

    async with Scripted(reply(gzip.compress(b'{"code":0}'), Content_Encoding="gzip")) as server:
        result = await send(make(server.url))
        assert isinstance(result, Reply)
        assert result.body == b'{"code":0}'


async def test_closing_leaves_no_connection_and_no_task(make: Callable[..., Transport]) -> None:
    before = asyncio.all_tasks()
    async with Scripted(OK, stay_silent) as server:
        transport = make(server.url)
        await send(transport)
        server.arrived.clear()
        pending = asyncio.create_task(send(transport))
        await server.arrived.wait()
        await transport.close()
        outcome = await pending
        assert isinstance(outcome, Outcome)
        assert outcome.kind is Kind.UNKNOWN
    assert asyncio.all_tasks() == before


async def test_failures_leak_no_file_descriptors(make: Callable[..., Transport]) -> None:
    async with Scripted(hang_up) as server:
        transport = make(server.url)
        await send(transport)
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counted, not walked
        for _ in range(50):
            await send(transport)
        assert len(os.listdir("/proc/self/fd")) <= before + 4  # noqa: PTH208


async def test_special_characters_in_parts_of_an_address_are_encoded(make: Callable[..., Transport]) -> None:
    transport = make("http://127.0.0.1/base/")
    assert transport.url("a/b", "c d", query={"k": "1+1&2"}) == URL(
        "http://127.0.0.1/base/a%2Fb/c%20d?k=1%2B1%262", encoded=True
    )


@pytest.mark.parametrize("has_file", [False, True])
def test_certificates_and_names_are_verified_with_every_setting(tmp_path: Path, *, has_file: bool) -> None:
    file = Authority(tmp_path).file if has_file else None
    transport = Transport(SEKORM, "https://marketplace.example", "x/y", 1, file)
    context = transport._ssl
    assert isinstance(context, ssl.SSLContext)
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    # An authority that is given is trusted beside the system's, and there is no other setting that says whom to trust.
    settings = {*SekormSettings.model_fields, *YmatouSettings.model_fields}
    assert {
        name
        for name in settings
        if any(word in name for word in ("tls", "ssl", "verif", "insec", "cert", "ca_"))
    } == {"ca_file"}


@pytest.mark.parametrize(
    "url", ["http://marketplace.example", "http://10.0.0.1/x", "http://127.0.0.1.marketplace.example"]
)
def test_an_address_without_tls_is_taken_on_this_machine_only(url: str) -> None:
    with pytest.raises(ValueError, match="must be https"):
        YmatouSettings(base_url=url, enabled=False)
    assert YmatouSettings(base_url="http://127.0.0.1:8480", enabled=False).base_url
