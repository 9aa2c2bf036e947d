"""Receivers on loopback: an HTTP server that keeps what it gets and answers as told, and a mail server."""

import asyncio
import email
import email.policy
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Any

from aiohttp import web
from aiosmtpd.smtp import SMTP, Envelope, Session

TIMEOUT = 15.0
# What a receiver writes into its own log is not ours.
logging.getLogger("mail.log").propagate = False
logging.getLogger("aiohttp.access").propagate = False


@dataclass(eq=False)
class Inbox:
    """What an HTTP receiver got. It answers (status, body) as in `answers`, then as in `answer`; it hangs until
    `is_open`."""

    port: int = 0
    got: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    answers: list[tuple[int, Any]] = field(default_factory=list)
    answer: tuple[int, Any] = (200, {})
    is_open: asyncio.Event = field(default_factory=asyncio.Event)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    def url(self, path: str = "hook") -> str:
        return f"json://127.0.0.1:{self.port}/{path}"

    @property
    def titles(self) -> list[str]:
        """The subjects, without the sender's name that each begins with."""
        assert all(each["title"].startswith("[Stockrelay] ") for each in self.got)
        return [each["title"].removeprefix("[Stockrelay] ") for each in self.got]

    async def has(self, number: int) -> None:
        """Return once it got `number` messages."""
        async with asyncio.timeout(TIMEOUT), self.changed:
            await self.changed.wait_for(lambda: len(self.got) >= number)

    async def says(self, words: str) -> None:
        """Return once some message holds these words."""
        async with asyncio.timeout(TIMEOUT), self.changed:
            await self.changed.wait_for(
                lambda: any(words in f"{each['title']}\n{each['message']}" for each in self.got)
            )

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.json()
        async with self.changed:
            self.got.append(body)
            self.paths.append(str(request.rel_url))
            self.changed.notify_all()
        await self.is_open.wait()
        status, answer = self.answers.pop(0) if self.answers else self.answer
        return web.json_response(answer, status=status)


@asynccontextmanager
async def inbox() -> AsyncIterator[Inbox]:
    """An HTTP receiver that takes everything."""
    box = Inbox()
    box.is_open.set()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", box.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    box.port = runner.addresses[0][1]
    try:
        yield box
    finally:
        box.is_open.set()
        await runner.cleanup()


@dataclass(eq=False)
class Mailbox:
    """What a mail server got; `refusal` is answered instead of taking a message."""

    port: int = 0
    mails: list[EmailMessage] = field(default_factory=list)
    refusal: str | None = None

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - the library's
        if self.refusal is not None:
            return self.refusal
        content = envelope.content
        assert isinstance(content, bytes)
        message = email.message_from_bytes(content, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        self.mails.append(message)
        return "250 taken"

    def url(self, query: str = "") -> str:
        return f"mailto://127.0.0.1:{self.port}/?from=stock@shop.example&to=boss@shop.example&mode=insecure{query}"


@asynccontextmanager
async def mailbox() -> AsyncIterator[Mailbox]:
    """A mail server that takes everything."""
    box = Mailbox()
    server = await asyncio.get_running_loop().create_server(
        lambda: SMTP(box, enable_SMTPUTF8=True), "127.0.0.1", 0
    )
    box.port = server.sockets[0].getsockname()[1]
    try:
        yield box
    finally:
        server.close()
        await server.wait_closed()
