"""The ops port on the wire: what it answers, and what no client can make it do."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from daemon.core.errors import ConfigError
from daemon.ops.http import LONGEST_LINE, MOST_CONNECTIONS, MOST_HEADERS, listening
from daemon.ops.messages import HttpReply, Page, as_json
from tests.ops.wire import asked, parsed, said

HEAD = b"GET /page HTTP/1.1\r\nHost: localhost\r\n"


async def page() -> HttpReply:
    return as_json(200, {"status": "快"})


async def broken() -> HttpReply:
    raise ZeroDivisionError


PAGES: dict[str, Page] = {"/page": page, "/broken": broken}


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async with listening("127.0.0.1", 0, PAGES) as found:
        yield found


async def test_a_page_is_json_kept_nowhere_and_says_nothing_of_our_software(port: int) -> None:
    answer = await asked(port, "/page")
    assert (answer.status, answer.json) == (200, {"status": "快"})
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["server"] == "stockrelay"


async def test_head_is_the_same_without_a_body(port: int) -> None:
    answer, full = await asked(port, "/page", "HEAD"), await asked(port, "/page")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["content-length"] == full.headers["content-length"] == str(len(full.body))


async def test_what_follows_a_question_mark_makes_no_difference(port: int) -> None:
    assert (await asked(port, "/page?verbose=1")).status == 200


@pytest.mark.parametrize("path", ["/", "/page/", "/PAGE", "/..%2fpage", "//page", "/page%00"])
async def test_another_path_is_not_found_and_the_known_paths_are_listed(port: int, path: str) -> None:
    answer = await asked(port, path)
    assert answer.status == 404
    assert answer.json["pages"] == ["/broken", "/page"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
async def test_only_get_and_head_are_answered(port: int, method: str) -> None:
    answer = await asked(port, "/page", method)
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET /" + b"a" * 2 * LONGEST_LINE + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        HEAD + b"X: " + b"a" * 2 * LONGEST_LINE + b"\r\n\r\n",
        HEAD + b"".join(b"X-%d: 1\r\n" % n for n in range(2 * MOST_HEADERS)) + b"\r\n",
        HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
    ],
    ids=["nonsense", "tls", "long line", "long field", "many fields", "two lengths", "smuggled"],
)
async def test_what_is_no_proper_request_is_refused_without_an_echo_or_a_log_line(
    port: int, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with capture_logs() as logs:
        answer = parsed(await said(port, data))
    assert (answer.status, answer.json) == (400, {"error": "bad request"})
    assert answer.headers["server"] == "stockrelay"
    assert (logs, caplog.records) == ([], [])


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (b"Host: attacker.example", 421),
        (b"Host: localhost\r\nHost: attacker.example", 400),
        (b"Host: 10.1.2.3:9464", 200),
        (b"Host: ops.example", 200),
        (b"Host: localhost\r\nOrigin: https://attacker.example", 403),
        (b"Host: localhost\r\nSec-Fetch-Site: cross-site", 403),
    ],
)
async def test_a_foreign_host_and_another_sites_page_are_refused(fields: bytes, status: int) -> None:
    async with listening("127.0.0.1", 0, PAGES, allowed_hosts=["ops.example"]) as port:
        answer = parsed(await said(port, b"GET /page HTTP/1.1\r\n" + fields + b"\r\n\r\n"))
    assert answer.status == status
    assert b"status" not in answer.body or status == 200
    assert "access-control-allow-origin" not in answer.headers
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"


async def test_a_probe_without_a_host_is_answered(port: int) -> None:
    assert parsed(await said(port, b"GET /page HTTP/1.0\r\n\r\n")).status == 200


async def test_a_page_that_fails_is_explained_in_the_log_only(port: int) -> None:
    with capture_logs() as logs:
        answer = await asked(port, "/broken")
    assert (answer.status, answer.json) == (500, {"error": "internal error"})
    (line,) = logs
    assert (line["event"], line["path"], type(line["exc_info"])) == (
        "ops.page_failed",
        "/broken",
        ZeroDivisionError,
    )


async def test_a_connection_carries_one_request(port: int) -> None:
    both = await said(port, 2 * (HEAD + b"\r\n"))
    assert both.count(b"HTTP/1.1 200") == 1
    assert parsed(both).headers["connection"] == "close"


@pytest.mark.parametrize("data", [b"", b"GET /page HTTP/1.1\r\nHost:", HEAD], ids=["nothing", "half", "open"])
async def test_a_client_that_never_ends_its_request_is_cut_off(data: bytes) -> None:
    async with listening("127.0.0.1", 0, PAGES, longest_s=0.1) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(data)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            async with asyncio.timeout(20):
                await reader.readexactly(1)
        writer.close()


async def test_an_answer_whose_client_has_gone_is_given_up() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def slow() -> HttpReply:
        begun.set()
        try:
            return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]
        finally:
            ended.set()

    async with listening("127.0.0.1", 0, {"/slow": slow}) as port:
        asking = asyncio.create_task(asked(port, "/slow"))
        await begun.wait()
        asking.cancel()
        await asyncio.wait({asking})
    async with asyncio.timeout(20):
        await ended.wait()


async def test_idle_connections_keep_no_probe_out() -> None:
    async with listening("127.0.0.1", 0, PAGES) as port:
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MOST_CONNECTIONS + 3)]
        assert (await asked(port, "/page")).status == 200
        # The first ones made room; the last ones are served.
        for reader, _ in idle[:4]:
            with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                async with asyncio.timeout(20):
                    await reader.readexactly(1)
        for reader, writer in idle[4:]:
            writer.write(HEAD + b"\r\n")
            async with asyncio.timeout(20):
                assert parsed(await reader.read()).status == 200
        for _, writer in idle:
            writer.close()


async def test_at_the_end_the_port_is_free_again() -> None:
    async with listening("127.0.0.1", 0, PAGES) as port:
        pass
    async with listening("127.0.0.1", port, PAGES) as again:
        assert again == port


async def test_a_port_that_is_taken_names_the_setting_and_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        with pytest.raises(
            ConfigError, match=rf"^ops\.port = {number}: another process listens .* ops\.enabled"
        ):
            await _open("127.0.0.1", number)


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
async def test_an_address_of_another_machine_names_the_setting(host: str) -> None:
    with pytest.raises(ConfigError, match=rf'^ops\.host = "{host}": cannot be listened on'):
        await _open(host, 0)


async def _open(host: str, port: int) -> Any:  # noqa: ANN401 - it never comes to that
    async with listening(host, port, PAGES):
        pytest.fail("it was listened on")
