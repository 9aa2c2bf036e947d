"""HTTP to one marketplace: deadlines, limits, and what each failure means for the request.

The question at every failure is whether the marketplace may have got the request. Only what fails before a
connection is established is known not to have been sent. Everything later is unknown, a kept-alive connection that
the marketplace had already closed included: from here it looks like one that was closed after reading.
"""

import math
import ssl
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDictProxy
from yarl import URL

from daemon import __version__, clock
from daemon.core.outcome import Kind, Outcome, Trouble
from daemon.core.types import ChannelName
from daemon.marketplaces.reply import NotDecodedError, decoded, parse_retry_after, words
from daemon.marketplaces.tls import ssl_context

RESPONSE_CAP: Final = 256 * 1024
"""Bytes of a reply after decompression; marketplaces answer in a few hundred."""
HEADER_CAP: Final = 8190
HEADERS_CAP: Final = 64

_CONNECT_SHARE: Final = 0.8
"""The part of a deadline within which a connection must be established. Below 1, so that running out of time before
the request was sent can be distinguished from running out of time after it."""
_KEEPALIVE_S: Final = 15.0
"""Shorter than servers commonly keep a connection, so that it is rarely they who close it under a request."""
_OK: Final = 200
_TOO_MANY: Final = 429
_UNAVAILABLE: Final = 503
_CHECK_URL: Final = "check channels.{channel}.base_url"
_CHECK_NET: Final = "check this machine's DNS, network and firewall, and channels.{channel}.base_url"
_CHECK_TLS: Final = (
    "check channels.{channel}.base_url, this machine's clock, and channels.{channel}.ca_file if the "
    "marketplace's certificate is signed by a private authority"
)

# The most specific first. Nothing has been sent: all of these are raised before a connection is established.
_NOT_SENT: Final[tuple[tuple[type[Exception], str, str], ...]] = (
    (aiohttp.ClientConnectorDNSError, "the host name is not resolved", _CHECK_NET),
    (aiohttp.ClientConnectorCertificateError, "the certificate is not trusted", _CHECK_TLS),
    (aiohttp.ClientConnectorSSLError, "TLS could not be set up", _CHECK_TLS),
    (aiohttp.ClientConnectorError, "no connection", _CHECK_NET),
    (aiohttp.ConnectionTimeoutError, "no connection in time", _CHECK_NET),
)
# Any of these may be raised after the first byte was sent.
_UNKNOWN: Final[tuple[tuple[type[Exception], str], ...]] = (
    (TimeoutError, "no complete reply in time"),
    (aiohttp.ServerDisconnectedError, "the connection was closed before the reply"),
    (aiohttp.ClientPayloadError, "the reply broke off or cannot be decoded"),
    (aiohttp.ClientResponseError, "the reply is not HTTP"),
    (HttpProcessingError, "the reply is not HTTP"),
    (aiohttp.ClientError, "the connection broke"),
    (OSError, "the connection broke"),
    (ValueError, "the reply cannot be read"),
)
_FAILURES: Final = tuple(kind for kind, *_ in _NOT_SENT) + tuple(kind for kind, _ in _UNKNOWN)


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete reply. `date` is its Date header; the other times are monotonic."""

    status: int
    body: bytes = field(repr=False)
    date: str | None
    sent_at: float
    received_at: float


class _InTime(aiohttp.BytesPayload):
    """A body that is not begun after its deadline; the headers leave with it.

    A process that stood still (SIGSTOP, a suspended machine) between the decision to send and the sending would
    otherwise, on waking, send a number that another replica has replaced meanwhile: timers run only after that.
    """

    def __init__(self, body: bytes, deadline: float) -> None:
        super().__init__(body)
        self._deadline = deadline

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        if clock.monotonic() >= self._deadline:
            raise TimeoutError("the deadline passed before the first byte")
        await super().write_with_length(writer, content_length)


class Transport:
    """The connections to one marketplace: at most `connections`, certificates always verified, one host.

    `throttled` lists the statuses that, with a Retry-After, mean that the marketplace did not take the request.
    `read_statuses` are those that mean something to the marketplace's client: it gets the whole reply.
    Raises ConfigError when `ca_file` cannot be used.
    """

    def __init__(
        self,
        channel: ChannelName,
        base_url: str,
        content_type: str,
        connections: int,
        ca_file: Path | None = None,
        throttled: frozenset[int] = frozenset({_TOO_MANY}),
        read_statuses: Container[int] = frozenset({_OK}),
    ) -> None:
        self._channel = channel
        self._base_url = base_url.rstrip("/")
        self._connections = connections
        self._throttled = throttled
        self._read_statuses = read_statuses
        self._headers = {
            "Content-Type": content_type,
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": f"stockrelay/{__version__}",
        }
        is_tls = urlsplit(base_url).scheme == "https"
        self._ssl: ssl.SSLContext | bool = ssl_context(channel, ca_file) if is_tls else True
        self._session: aiohttp.ClientSession | None = None
        self._is_closed = False

    def url(self, *segments: str, query: Mapping[str, str] | None = None) -> URL:
        """An address below the base URL, parsed once so that requests need not."""
        text = "/".join([self._base_url, *(quote(segment, safe="") for segment in segments)])
        if query:
            text += "?" + "&".join(f"{quote(k, safe='')}={quote(v, safe='')}" for k, v in query.items())
        return URL(text, encoded=True)

    async def post(
        self,
        url: URL,
        body: bytes,
        timeout_s: float,
        cap: int = RESPONSE_CAP,
        headers: Mapping[str, str] | None = None,
    ) -> Reply | Outcome:
        """Send `body` and read the reply, all within `timeout_s` seconds, the wait for a connection included.

        `cap` is the longest reply that is read, in bytes after decompression. `headers` are this request's own.
        A reply with a status that the marketplace gives a meaning comes back as it is, every other as its outcome.
        Raises nothing but CancelledError.
        """
        if timeout_s <= 0:
            return not_sent("no time was left to send it")
        if self._is_closed:
            return not_sent("the channel is being stopped")
        # Without the threshold, deadlines of 5 s and more are rounded up to a full second.
        timeout = aiohttp.ClientTimeout(
            total=timeout_s, connect=timeout_s * _CONNECT_SHARE, ceil_threshold=math.inf
        )
        sent_at = clock.monotonic()
        try:
            response = await (self._session or self._open()).post(
                url,
                data=_InTime(body, sent_at + timeout_s),
                headers=headers,
                allow_redirects=False,
                timeout=timeout,
            )
            if response.status not in self._read_statuses:
                # The body could be without end and would change nothing.
                response.release()
                return self._refused(response.status, response.headers)
            raw = await _read(response, cap)
        except _FAILURES as error:
            return self._translate(error)
        return _whole(response, raw, cap, sent_at)

    async def close(self) -> None:
        """Close all connections; requests in flight end as unknown, later ones are not sent."""
        self._is_closed = True
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        # Made with the first request: a session belongs to the loop that is running then.
        connector = aiohttp.TCPConnector(
            limit=self._connections,
            ssl=self._ssl,
            resolver=aiohttp.ThreadedResolver(),
            keepalive_timeout=_KEEPALIVE_S,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            headers=self._headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            # A truncated gzip stream passes its decoder; what is whole is decided in `decoded`.
            auto_decompress=False,
            max_line_size=HEADER_CAP,
            max_field_size=HEADER_CAP,
            max_headers=HEADERS_CAP,
        )
        return self._session

    def _refused(self, status: int, headers: Mapping[str, str]) -> Outcome:
        """The outcome of a status other than 200."""
        asked = parse_retry_after(headers.get("Retry-After"), headers.get("Date"), clock.now())
        is_throttling = status == _TOO_MANY or (status == _UNAVAILABLE and asked is not None)
        if is_throttling and status in self._throttled:
            reason = f"HTTP {status}: the marketplace asks to slow down"
            advice = f"lower channels.{self._channel}.rate_per_s if this goes on"
            return Outcome(Kind.TROUBLE, reason, Trouble.THROTTLED, asked, advice)
        if is_throttling:
            return Outcome(Kind.UNKNOWN, f"HTTP {status}", retry_after=asked)
        redirect = ": a redirect, not followed" if 300 <= status < 400 else ""
        advice = self._says(_CHECK_URL) if 300 <= status < 500 else ""
        return Outcome(Kind.UNKNOWN, f"HTTP {status}{redirect}", advice=advice)

    def _translate(self, error: Exception) -> Outcome:
        """The table at the edge: what the HTTP library raised, as an outcome."""
        for kind, phrase, advice in _NOT_SENT:
            if isinstance(error, kind):
                return not_sent(f"{phrase}{_detail(error)}", self._says(advice))
        phrase = next(phrase for kind, phrase in _UNKNOWN if isinstance(error, kind))
        # Only the type: the words of these errors can quote the reply, and with it a secret.
        return Outcome(Kind.UNKNOWN, f"{phrase} ({type(error).__name__})")

    def _says(self, advice: str) -> str:
        return advice.format(channel=self._channel)


def _whole(response: aiohttp.ClientResponse, raw: bytes | None, cap: int, sent_at: float) -> Reply | Outcome:
    """The reply, if it is framed and encoded as it says; `raw` is None for a body longer than the cap."""
    received = response.headers
    # The HTTP library lets NUL pass in the status line, where it can hide the header that follows.
    if not (response.reason or "").isprintable() or not _is_framed_once(received):
        return Outcome(Kind.UNKNOWN, "the reply does not say where it ends")
    encoding = ",".join(received.getall("Content-Encoding", []))
    try:
        content = None if raw is None else decoded(raw, encoding, cap)
    except NotDecodedError:
        return Outcome(Kind.UNKNOWN, "the reply cannot be decoded")
    if content is None:
        return Outcome(Kind.UNKNOWN, f"the reply is longer than {cap} bytes")
    return Reply(response.status, content, received.get("Date"), sent_at, clock.monotonic())


def not_sent(reason: str, advice: str = "") -> Outcome:
    """Nothing reached the marketplace."""
    return Outcome(Kind.NOT_SENT, reason, Trouble.UNREACHABLE, advice=advice)


def _detail(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f": {words(getattr(error.certificate_error, 'verify_message', '') or type(error).__name__)}"
    if isinstance(error, aiohttp.ClientConnectorError):
        cause = words(error.os_error.strerror or type(error.os_error).__name__)
        return f" to {error.host}:{error.port}: {cause}"
    return ""


def _is_framed_once(headers: CIMultiDictProxy[str]) -> bool:
    """Whether one header, at most, says where the body ends: readers differ in which of two they follow."""
    codings, lengths = headers.getall("Transfer-Encoding", []), headers.getall("Content-Length", [])
    if codings:
        return not lengths and [coding.strip().lower() for coding in codings] == ["chunked"]
    return len(lengths) <= 1


async def _read(response: aiohttp.ClientResponse, cap: int) -> bytes | None:
    """The body as it was sent, None when it is longer than the cap. At most the cap and a read buffer are held."""
    content = response.content
    try:
        body = await content.readany()
        if not content.at_eof():
            chunks, size = [body], len(body)
            while size <= cap and not content.at_eof():
                chunk = await content.readany()
                chunks.append(chunk)
                size += len(chunk)
            body = b"".join(chunks)
    except BaseException:
        response.close()
        raise
    if len(body) > cap:
        response.close()
        return None
    return body
