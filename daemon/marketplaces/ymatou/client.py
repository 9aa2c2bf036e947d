"""Ymatou's open API."""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog
from yarl import URL

from daemon import clock
from daemon.core.outcome import Kind, Outcome, Trouble
from daemon.core.readback import ReadPage
from daemon.core.secrecy import ForeignMask
from daemon.core.types import ChannelName, Push, Sku
from daemon.marketplaces.client import ReadsBack, SignsRequests, check_call_size
from daemon.marketplaces.clock_offset import MarketplaceClock
from daemon.marketplaces.contained import contained
from daemon.marketplaces.reply import foreign_words, words, write_json
from daemon.marketplaces.spec import own_section
from daemon.marketplaces.transport import RESPONSE_CAP, Transport
from daemon.marketplaces.ymatou.answers import YmatouAnswer, read_answer, read_results
from daemon.marketplaces.ymatou.products import PAGE_ROWS, NotAPageError, read_page
from daemon.marketplaces.ymatou.settings import MOST_PER_CALL, YmatouSettings
from daemon.marketplaces.ymatou.signature import sign
from daemon.settings import ChannelSettings

log = structlog.get_logger(__name__)

OK: Final = "0000"
BAD_TIME: Final = "0003"
BAD_METHOD: Final = "0005"
TRY_LATER: Final = "0009"
REFUSALS: Final = frozenset({"0001", "1001", "0006"})

PAGE_CAP: Final = 8 * 1024 * 1024
"""Bytes of a page of 100 products. By the handbook's example a product takes about 1 kB and each of its SKUs 300
bytes more, so that with 10 SKUs each a page has 0.4 MB, and 250 each still fit."""

_LOGGED_REPLY: Final = 2_000
_BEIJING: Final = timedelta(hours=8)
_SHORT_REPLY: Final = 64 * 1024
"""Bytes that are read within a few milliseconds."""
_APPLIED: Final = Outcome(Kind.APPLIED)
_TROUBLES: Final = {
    "0002": (
        Trouble.CREDENTIAL,
        "check channels.{channel}.auth_code: the shop's authorisation may have been withdrawn or renewed",
    ),
    "0003": (
        Trouble.CLOCK,
        "this machine's clock is more than 10 minutes from Ymatou's: check its time synchronisation (NTP)",
    ),
    "0004": (Trouble.SIGNATURE, "check channels.{channel}.app_id and channels.{channel}.app_secret"),
    "0005": (
        Trouble.API_NAME,
        "check channels.{channel}.dialect, and that Ymatou has granted this app the stock interface",
    ),
}


_REFUSED_ADVICE: Final = (
    "the SKU's data or their API is wrong: the log shows how the reply begins (marketplace.reply_rejected)"
)
_UNREAD_ADVICE: Final = "ask Ymatou to grant this app ymatou.products.list.get, so that numbers can be read"


@dataclass(frozen=True, slots=True)
class _Method:
    """One method of the API with its address, which also takes part in the signature."""

    name: str
    url: URL


class YmatouClient:
    """The client of one channel. `now` gives this machine's time, aware, in UTC.

    Raises ConfigError when `settings.ca_file` cannot be used.
    """

    most_per_call: int = MOST_PER_CALL

    def __init__(
        self, channel: ChannelName, settings: YmatouSettings, now: Callable[[], datetime] = clock.now
    ) -> None:
        self.channel = channel
        self._settings = settings
        self._transport = Transport(
            channel,
            settings.base_url,
            "application/json; charset=utf-8",
            settings.concurrency,
            settings.ca_file,
        )
        self._clock = MarketplaceClock(channel, now)
        self._take(settings)
        if settings.dialect == "path":
            self._update, self._list_name = self._method("ymatou.skus.stock.update"), "skuStocks"
        else:
            self._update, self._list_name = self._method("ymatou.sku.stock.update"), "sku_stocks"
        self._list = self._method("ymatou.products.list.get")
        self.verification = ReadsBack(self.read_page)
        self.authorisation = SignsRequests(lambda: self._clock.offset)

    async def push(self, push: Push, timeout: timedelta) -> Outcome:
        (outcome,) = await self.push_many([push], timeout)
        return outcome

    async def push_many(self, pushes: Sequence[Push], timeout: timedelta) -> list[Outcome]:
        """Send many numbers in one call; each SKU has its own result."""
        check_call_size(pushes, self.most_per_call)
        if not pushes:
            return []
        outcomes = await self._push_all(pushes, timeout)
        return [outcomes] * len(pushes) if isinstance(outcomes, Outcome) else outcomes

    @contained
    async def probe(self) -> Outcome:
        """Send an empty list: reaches the API and proves clock, app, secret, authorisation and method.

        Ymatou looks at who asks before it looks at what is asked, so a complaint about the list is a pass.
        """
        deadline = clock.monotonic() + self._settings.timeout.total_seconds()
        answer = await self._call(self._update, self._content([]), deadline)
        if isinstance(answer, Outcome):
            return answer
        if answer.code == OK or answer.code in REFUSALS:
            return Outcome(Kind.APPLIED, f"answered {answer.code} to an empty list")
        return self._failure(answer)

    def use(self, settings: ChannelSettings) -> None:
        self._take(own_section(settings, YmatouSettings))

    def _take(self, settings: YmatouSettings) -> None:
        self._settings = settings
        secret, code = settings.app_secret.get_secret_value(), settings.auth_code.get_secret_value()
        self.mask = ForeignMask((secret, code))

    async def close(self) -> None:
        await self._transport.close()

    @contained
    async def read_page(self, number: int, timeout: timedelta) -> ReadPage | Outcome:
        content = write_json({"page_no": number, "page_rows": PAGE_ROWS})
        deadline = clock.monotonic() + timeout.total_seconds()
        answer = await self._call(self._list, content, deadline, PAGE_CAP)
        if isinstance(answer, Outcome):
            return answer
        if answer.code != OK:
            return self._unread(answer)
        try:
            if len(answer.body) <= _SHORT_REPLY:
                return read_page(answer.content, number)
            return await asyncio.to_thread(read_page, answer.content, number)
        except NotAPageError as error:
            return Outcome(Kind.UNKNOWN, f"0000, but this is no page of products: {error}")

    @contained
    async def _push_all(self, pushes: Sequence[Push], timeout: timedelta) -> list[Outcome] | Outcome:
        """One call for any number of SKUs; their outcomes in the same order."""
        deadline = clock.monotonic() + timeout.total_seconds()
        answer = await self._call(self._update, self._content(pushes), deadline)
        if isinstance(answer, Outcome):
            return answer
        if answer.code == OK:
            return self._results(answer, pushes)
        outcome = self._failure(answer)
        if answer.code in REFUSALS:
            self._report(answer, [push.sku for push in pushes])
            if len(pushes) > 1:
                # One of them may be the reason, and an API without results may have taken the others.
                reason = words(f"all {len(pushes)} SKUs of the call were refused: {outcome.reason}")
                outcome = Outcome(Kind.UNKNOWN, reason, advice=_REFUSED_ADVICE, is_about_sku=True)
        return outcome

    async def _call(
        self, method: _Method, content: str, deadline: float, cap: int = RESPONSE_CAP
    ) -> YmatouAnswer | Outcome:
        """One call; a second one when the marketplace refuses the first one's time and its answer has a date."""
        answer = await self._attempt(method, content, deadline, cap)
        is_time_refused = isinstance(answer, YmatouAnswer) and answer.code == BAD_TIME
        if is_time_refused and self._clock.apply():
            answer = await self._attempt(method, content, deadline, cap)
            if isinstance(answer, YmatouAnswer) and answer.code == BAD_TIME:
                self._clock.forget()
        return answer

    async def _attempt(
        self, method: _Method, content: str, deadline: float, cap: int
    ) -> YmatouAnswer | Outcome:
        body = self._write(method, content)
        reply = await self._transport.post(method.url, body, deadline - clock.monotonic(), cap)
        if isinstance(reply, Outcome):
            return reply
        # A long page would otherwise keep the other channel's requests waiting.
        is_short = len(reply.body) <= _SHORT_REPLY
        answer = read_answer(reply.body) if is_short else await asyncio.to_thread(read_answer, reply.body)
        is_refused = answer is not None and answer.code == BAD_TIME
        self._clock.measure(reply.date, reply.sent_at, reply.received_at, is_refused=is_refused)
        return answer or Outcome(Kind.UNKNOWN, "the reply is not an answer of the API")

    def _write(self, method: _Method, content: str) -> bytes:
        """Nonce, time and signature are this attempt's own; what is signed is sent."""
        settings = self._settings
        auth_code = settings.auth_code.get_secret_value()
        # GMT+8, in every zone that the machine may be set to.
        timestamp = (self._clock.now() + _BEIJING).isoformat(" ", "seconds")[:19]
        nonce = secrets.token_hex(16)
        parameters = {
            "app_id": settings.app_id,
            "method": method.name,
            "sign_method": "MD5",
            "auth_code": auth_code,
            "timestamp": timestamp,
            "nonce_str": nonce,
            "biz_content": content,
        }
        signature = sign(parameters, settings.app_secret.get_secret_value())
        # Written out, as the encoder takes twice as long for an object as for its strings.
        return (
            f'{{"sign_method":"MD5","auth_code":{write_json(auth_code)},"timestamp":"{timestamp}",'
            f'"sign":"{signature}","nonce_str":"{nonce}","biz_content":{write_json(content)}}}'
        ).encode()

    def _content(self, pushes: Sequence[Push]) -> str:
        rows = [
            f'{{"outer_sku_id":{write_json(push.identifiers[0])},"stock_num":{push.quantity:d}}}'
            for push in pushes
        ]
        return f'{{"{self._list_name}":[{",".join(rows)}]}}'

    def _method(self, name: str) -> _Method:
        app_id = self._settings.app_id
        if self._settings.dialect == "path":
            return _Method(name, self._transport.url("api", "v1", app_id, name))
        return _Method(
            name, self._transport.url("apigateway", "v1", query={"app_id": app_id, "method": name})
        )

    def _results(self, answer: YmatouAnswer, pushes: Sequence[Push]) -> list[Outcome]:
        """`0000` can still refuse single SKUs."""
        results = read_results(answer.content, {push.identifiers[0] for push in pushes})
        outcomes = []
        for push in pushes:
            verdict, message = results.verdict(push.identifiers[0])
            if verdict is Kind.APPLIED:
                outcomes.append(_APPLIED)
            elif verdict is Kind.REFUSED:
                outcomes.append(Outcome(Kind.REFUSED, self._safe(f"0000 {message}")))
            else:
                reason = self._safe(f"0000, but {message}")
                outcomes.append(Outcome(Kind.UNKNOWN, reason, is_about_sku=True))
        return outcomes

    def _failure(self, answer: YmatouAnswer) -> Outcome:
        """What every code but success means (clause Y10)."""
        reason = self._safe(f"{answer.code} {answer.message}")
        if answer.code in REFUSALS:
            return Outcome(Kind.REFUSED, reason, advice=_REFUSED_ADVICE)
        if answer.code not in _TROUBLES:
            return Outcome(Kind.UNKNOWN, reason, is_about_sku=answer.code != TRY_LATER)
        trouble, advice = _TROUBLES[answer.code]
        advice = advice.format(channel=self.channel)
        return Outcome(Kind.TROUBLE, reason, trouble, advice=advice)

    def _unread(self, answer: YmatouAnswer) -> Outcome:
        """Classify a code other than success for a page. Only a refusal of the method is permanent."""
        reason = self._safe(f"{answer.code} {answer.message}")
        if answer.code == BAD_METHOD:
            return Outcome(Kind.REFUSED, reason, advice=_UNREAD_ADVICE)
        if answer.code in REFUSALS:
            self._report(answer, [])
            return Outcome(Kind.UNKNOWN, reason, advice=_REFUSED_ADVICE)
        return self._failure(answer)

    def _report(self, answer: YmatouAnswer, skus: Sequence[Sku]) -> None:
        reply = foreign_words(
            answer.body[: 8 * _LOGGED_REPLY].decode(errors="replace"), self.mask, _LOGGED_REPLY
        )
        log.error(
            "marketplace.reply_rejected", channel=self.channel, skus=list(skus), code=answer.code, reply=reply
        )

    def _safe(self, text: str) -> str:
        return foreign_words(text, self.mask)
