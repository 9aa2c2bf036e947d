"""Sends numbers to a web hook, signed as Standard Webhooks (version 1.0.0) prescribe."""

import base64
import hmac
import secrets
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from pydantic import SecretBytes

from daemon import clock
from daemon.core.outcome import Kind, Outcome, Trouble
from daemon.core.secrecy import ForeignMask
from daemon.core.types import ChannelName, Push
from daemon.marketplaces.client import Neither, SignsRequests, check_call_size
from daemon.marketplaces.clock_offset import MarketplaceClock
from daemon.marketplaces.contained import contained
from daemon.marketplaces.reply import foreign_words, read_object, write_json
from daemon.marketplaces.spec import own_section
from daemon.marketplaces.transport import Reply, Transport
from daemon.marketplaces.webhook.settings import MOST_PER_CALL, WebhookSettings, key_of
from daemon.settings import ChannelSettings

_ACCEPTED: Final = range(200, 300)
_UNAUTHORISED: Final = frozenset({401, 403})
_GONE: Final = 410
_UNPROCESSABLE: Final = 422
_READ: Final = frozenset({*_ACCEPTED, 400, *_UNAUTHORISED, 404, 409, _GONE, _UNPROCESSABLE})
_WORDS: Final = ("error", "message", "detail", "title")
_APPLIED: Final = Outcome(Kind.APPLIED)
_TOLERANCE: Final = timedelta(minutes=5)
"""What the standard's libraries allow between `webhook-timestamp` and the receiver's clock."""
_LONGEST_ANSWER: Final = 64 * 1024
_LONGEST_WORDS: Final = 2_000
"""Bytes that are shown of an answer whose JSON has no text under one of `_WORDS`; they decide nothing."""


class WebhookClient:
    """The client of one channel. `now` gives this machine's time, aware, in UTC.

    Raises ConfigError when `settings.ca_file` cannot be used.
    """

    most_per_call: int = MOST_PER_CALL

    def __init__(
        self, channel: ChannelName, settings: WebhookSettings, now: Callable[[], datetime] = clock.now
    ) -> None:
        self.channel = channel
        self._timeout = settings.timeout
        self._transport = Transport(
            channel,
            settings.base_url,
            "application/json; charset=utf-8",
            settings.concurrency,
            settings.ca_file,
            read_statuses=_READ,
        )
        self._url = self._transport.url()
        self._clock = MarketplaceClock(channel, now)
        self._take(settings)
        self.verification = Neither()
        self.authorisation = SignsRequests(lambda: self._clock.offset)

    async def push(self, push: Push, timeout: timedelta) -> Outcome:
        (outcome,) = await self.push_many([push], timeout)
        return outcome

    async def push_many(self, pushes: Sequence[Push], timeout: timedelta) -> list[Outcome]:
        """Send many numbers in one request. There is one answer for all of them."""
        check_call_size(pushes, self.most_per_call)
        if not pushes:
            return []
        rows = [_row(push) for push in pushes]
        kind, data = (
            ("stock.updated", rows[0]) if len(rows) == 1 else ("stock.batch_updated", {"items": rows})
        )
        outcome = await self._sent(kind, data, timeout)
        if outcome.kind is Kind.REFUSED and len(rows) > 1:
            # One of them may be the reason.
            outcome = Outcome(
                Kind.UNKNOWN,
                f"all {len(rows)} SKUs of the request were refused: {outcome.reason}",
                is_about_sku=True,
            )
        return [outcome] * len(rows)

    async def probe(self) -> Outcome:
        """Send a message that carries no number. A receiver that refuses its type has verified the signature."""
        outcome = await self._sent("stock.test", {}, self._timeout)
        if outcome.kind is Kind.REFUSED:
            return Outcome(Kind.APPLIED, f"answered a test message with {outcome.reason}")
        return Outcome(Kind.APPLIED, "accepted a test message") if outcome.kind is Kind.APPLIED else outcome

    def use(self, settings: ChannelSettings) -> None:
        self._take(own_section(settings, WebhookSettings))

    async def close(self) -> None:
        await self._transport.close()

    def _take(self, settings: WebhookSettings) -> None:
        old = [] if settings.old_secret is None else [settings.old_secret]
        known = [secret.get_secret_value() for secret in (settings.secret, *old)]
        self._keys = [SecretBytes(key_of(secret)) for secret in known if secret]
        self.mask = ForeignMask(known)

    @contained
    async def _sent(self, kind: str, data: dict[str, Any], timeout: timedelta) -> Outcome:
        """One request, with an id of its own: a receiver that keeps ids takes no two attempts for the same one."""
        moment = self._clock.now()
        timestamp = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        body = write_json({"type": kind, "timestamp": timestamp, "data": data}).encode()
        headers = self._signed(f"msg_{secrets.token_hex(16)}", str(int(moment.timestamp())), body)
        reply = await self._transport.post(self._url, body, timeout.total_seconds(), _LONGEST_ANSWER, headers)
        if isinstance(reply, Outcome):
            return reply
        self._clock.measure(reply.date, reply.sent_at, reply.received_at, is_refused=False)
        return self._outcome(reply)

    def _signed(self, name: str, seconds: str, body: bytes) -> dict[str, str]:
        """The headers; while the secret is being changed, with a signature by each."""
        content = f"{name}.{seconds}.".encode() + body
        digests = [hmac.digest(key.get_secret_value(), content, "sha256") for key in self._keys]
        signatures = [f"v1,{base64.b64encode(digest).decode()}" for digest in digests]
        return {
            "webhook-id": name,
            "webhook-timestamp": seconds,
            "webhook-signature": " ".join(signatures),
        }

    def _outcome(self, reply: Reply) -> Outcome:
        """Classify a status. Only 422 is certain to be about the content: with 400 or 404 a receiver may mean that the
        signature or the address is wrong, which must not park one SKU after the other."""
        if reply.status in _ACCEPTED:
            return _APPLIED
        words = foreign_words(f"HTTP {reply.status} {_words(reply.body)}", self.mask)
        if reply.status == _UNPROCESSABLE:
            return Outcome(Kind.REFUSED, words)
        if reply.status in _UNAUTHORISED:
            advice = f"check channels.{self.channel}.secret with the receiver, and both clocks"
            offset = self._clock.offset or timedelta(0)
            if abs(offset) > _TOLERANCE:
                advice = (
                    f"first see that both clocks are right: the receiver's differs by {offset.total_seconds():+.0f} s, "
                    f"and most allow 5 minutes; then check channels.{self.channel}.secret with the receiver"
                )
            return Outcome(Kind.TROUBLE, words, Trouble.CREDENTIAL, advice=advice)
        if reply.status == _GONE:
            advice = (
                "the receiver wants no more messages: correct "
                f"channels.{self.channel}.base_url, or set channels.{self.channel}.enabled = false"
            )
            return Outcome(Kind.TROUBLE, words, Trouble.DISABLED, advice=advice)
        advice = f"check channels.{self.channel}.base_url and the receiver's log"
        return Outcome(Kind.UNKNOWN, words, advice=advice, is_about_sku=True)


def _words(body: bytes) -> str:
    """The words of an answer for people: the text in its JSON under a usual name, or the answer as it is."""
    found = read_object(body) or {}
    words = next((found[name] for name in _WORDS if isinstance(found.get(name), str)), None)
    return str(words) if words is not None else body[:_LONGEST_WORDS].decode(errors="replace")


def _row(push: Push) -> dict[str, Any]:
    return {"sku": push.sku, "external_id": push.identifiers[0], "quantity": push.quantity}
