"""Sekorm's serviceGate."""

from collections import deque
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import lru_cache
from typing import Final
from urllib.parse import quote_plus

from pydantic import SecretStr
from yarl import URL

from daemon import clock
from daemon.core.outcome import Kind, Outcome, Trouble
from daemon.core.readback import Comparison
from daemon.core.secrecy import ForeignMask
from daemon.core.types import ChannelName, Push, StoredToken
from daemon.marketplaces.auth import Grant, TokenSource, TokenStore
from daemon.marketplaces.client import Compares, UsesToken, check_call_size
from daemon.marketplaces.contained import contained
from daemon.marketplaces.reply import foreign_words, write_json
from daemon.marketplaces.sekorm.answers import LONGEST_TOKEN, SekormAnswer, read_answer, read_grant
from daemon.marketplaces.sekorm.naming import named_skus
from daemon.marketplaces.sekorm.settings import MOST_PER_CALL, SekormSettings
from daemon.marketplaces.spec import own_section
from daemon.marketplaces.transport import Transport
from daemon.settings import ChannelSettings

_FORM: Final = "application/x-www-form-urlencoded; charset=utf-8"
_JSON: Final = "application/json; charset=utf-8"
_APPLIED: Final = Outcome(Kind.APPLIED)
_NO_ANSWER: Final = Outcome(Kind.UNKNOWN, "the reply is not an answer of serviceGate")

# Every failure has the code -1; the message says which one it is.
_TROUBLES: Final[Mapping[str, tuple[Trouble, str]]] = {
    "no permission": (
        Trouble.CREDENTIAL,
        "check channels.{channel}.account and app_secret with Sekorm, then run `stockrelay check`",
    ),
    "sp already forbidden": (
        Trouble.DISABLED,
        "the account is disabled: ask Sekorm to enable it; sending then goes on by itself",
    ),
    "ip invalid": (
        Trouble.ADDRESS,
        "give Sekorm the daemon's egress address (that of the NAT gateway, if there is one) for their list",
    ),
}


_SYSTEM_ERROR: Final = "system error"


class SekormClient:
    """The client of one channel. Tokens come from `tokens`, which all replicas share.

    Raises ConfigError when `settings.ca_file` cannot be used.
    """

    most_per_call: int = MOST_PER_CALL

    def __init__(self, channel: ChannelName, settings: SekormSettings, tokens: TokenStore) -> None:
        self.channel = channel
        self._settings = settings
        self._is_form = settings.body == "form"
        self._transport = Transport(
            channel,
            settings.base_url,
            _FORM if self._is_form else _JSON,
            # One more than pushes at a time: a slow token call must not take a push's place.
            settings.concurrency + 1,
            settings.ca_file,
            throttled=frozenset({429, 503}),
        )
        # Token, brands and names come again and again; quoting them is most of the cost of writing a form.
        self._quote = lru_cache(maxsize=1024)(quote_plus)
        self._update_url = self._transport.url("stock", "updQuantity")
        self._batch_url = self._transport.url("pnarttnumber", "pnStock")
        self._compare_url = self._transport.url("stock", "compare")
        self._token_url = self._transport.url("getAccessToken")
        # A marketplace may quote a token that we have just dropped.
        self._used_tokens: deque[SecretStr] = deque(maxlen=3)
        self._tokens = TokenSource(channel, tokens, self._fetch_token, settings.timeout)
        self.verification = Compares(self.compare)
        self.authorisation = UsesToken(lambda: self._tokens.remaining_s)

    async def push(self, push: Push, timeout: timedelta) -> Outcome:
        """Send one number. A token that is no longer taken is replaced once, within the same time."""
        return await self._sent(self._update_url, _row(push), timeout)

    async def push_many(self, pushes: Sequence[Push], timeout: timedelta) -> list[Outcome]:
        """Send many numbers in one call. There is one answer for all of them.

        A call that fails may have been carried out in part, so that each of its SKUs is in doubt.
        """
        check_call_size(pushes, self.most_per_call)
        if not pushes:
            return []
        return [await self._sent(self._batch_url, _rows(pushes), timeout)] * len(pushes)

    async def compare(self, pushes: Sequence[Push], timeout: timedelta) -> Comparison:
        """Ask whether the marketplace holds these numbers, in one call for any number of them.

        What it says where they differ is documented nowhere: every code but 0 is taken for a difference, unless its
        words are those of a failure.
        """
        if not pushes:
            return Comparison(agrees=True, outcome=_APPLIED)
        found = await self._compared(pushes, timeout)
        return Comparison(None, found, words=found.reason) if isinstance(found, Outcome) else found

    @contained
    async def _compared(self, pushes: Sequence[Push], timeout: timedelta) -> Comparison | Outcome:
        answer = await self._call(self._compare_url, _rows(pushes), timeout)
        if isinstance(answer, Outcome):
            return answer
        words = self._words(answer, answer.data)
        if answer.code == -1 and answer.message.strip().casefold() == _SYSTEM_ERROR:
            return Outcome(Kind.UNKNOWN, words)
        named = named_skus(answer.message, answer.data, pushes)
        # Only the code says whether they agree, not the message.
        return Comparison(answer.code == 0, Outcome(Kind.APPLIED, words), named, words)

    @contained
    async def probe(self) -> Outcome:
        """Fetch a token: reaches the gateway, proves address, account and password. The token is kept."""
        # Twice: another process may be fetching one just now.
        deadline = clock.monotonic() + 2 * self._settings.timeout.total_seconds()
        token = await self._tokens.renew(deadline)
        return token if isinstance(token, Outcome) else Outcome(Kind.APPLIED, "a token was granted")

    def use(self, settings: ChannelSettings) -> None:
        """Take over credentials that have changed; a token that is valid stays so."""
        self._settings = own_section(settings, SekormSettings)

    async def close(self) -> None:
        await self._tokens.close()
        await self._transport.close()

    @contained
    async def _sent(self, url: URL, fields: Mapping[str, str | int], timeout: timedelta) -> Outcome:
        return self._outcome(await self._call(url, fields, timeout))

    async def _call(
        self, url: URL, fields: Mapping[str, str | int], timeout: timedelta
    ) -> SekormAnswer | Outcome:
        """The answer; an Outcome when there is none, or when it is about the channel."""
        deadline = clock.monotonic() + timeout.total_seconds()
        token = self._tokens.current() or await self._tokens.obtain(deadline)
        if isinstance(token, Outcome):
            return token
        answer = await self._attempt(url, fields, token, deadline)
        if not isinstance(answer, Outcome) or answer.trouble is not Trouble.CREDENTIAL:
            return answer
        await self._tokens.invalidate(token.generation)
        token = await self._tokens.obtain(deadline)
        if isinstance(token, Outcome):
            return token
        return await self._attempt(url, fields, token, deadline)

    async def _attempt(
        self, url: URL, fields: Mapping[str, str | int], token: StoredToken, deadline: float
    ) -> SekormAnswer | Outcome:
        if (used := SecretStr(token.value)) not in self._used_tokens:
            self._used_tokens.append(used)
        body = self._write({"accessToken": token.value, **fields})
        reply = await self._transport.post(url, body, deadline - clock.monotonic())
        if isinstance(reply, Outcome):
            return reply
        answer = read_answer(reply.body)
        return (answer and self._trouble(answer)) or answer or _NO_ANSWER

    def _outcome(self, answer: SekormAnswer | Outcome) -> Outcome:
        """What an answer says of a push."""
        if isinstance(answer, Outcome):
            return answer
        # Only the code says whether it was applied, not the message.
        if answer.code == 0:
            return _APPLIED
        message = answer.message.strip().casefold()
        is_about_sku = answer.code == -1 and message not in ("", _SYSTEM_ERROR)
        return Outcome(Kind.UNKNOWN, self._words(answer), is_about_sku=is_about_sku)

    @contained
    async def _fetch_token(self, timeout_s: float) -> Grant | Outcome:
        """By POST, so that no URL holds the password."""
        settings = self._settings
        body = self._write({
            settings.account_parameter: settings.account.get_secret_value(),
            "appSecret": settings.app_secret.get_secret_value(),
        })  # fmt: skip
        reply = await self._transport.post(self._token_url, body, timeout_s)
        if isinstance(reply, Outcome):
            return reply
        answer = read_answer(reply.body)
        if answer is None:
            return _NO_ANSWER
        if answer.code == 0:
            return read_grant(answer.data)
        return self._trouble(answer) or self._outcome(answer)

    def _write(self, fields: Mapping[str, str | int]) -> bytes:
        """UTF-8, and in a form `+`, `/` and `=` of a token percent-encoded."""
        if self._is_form:
            quote = self._quote
            return "&".join([
                f"{quote(k)}={quote(text) if len(text := str(v)) <= LONGEST_TOKEN else quote_plus(text)}"
                for k, v in fields.items()
            ]).encode()  # fmt: skip
        return write_json(fields).encode()

    def _trouble(self, answer: SekormAnswer) -> Outcome | None:
        """What a failure says of the channel; None when it says something else."""
        known = _TROUBLES.get(answer.message.strip().casefold()) if answer.code == -1 else None
        if known is None:
            return None
        trouble, advice = known
        advice = advice.format(channel=self.channel)
        return Outcome(Kind.TROUBLE, self._words(answer), trouble, advice=advice)

    def _words(self, answer: SekormAnswer, data: object = None) -> str:
        """The marketplace's words, without our secrets."""
        details = "" if data is None else f" {_text(data)}"
        return foreign_words(f"{answer.code} {answer.message}{details}", self.mask)

    def mask(self, text: str) -> str:
        """The text without secrets: the credentials, and recently used tokens."""
        settings = self._settings
        secrets = (settings.app_secret.get_secret_value(), settings.account.get_secret_value())
        used = (token.get_secret_value() for token in self._used_tokens)
        return ForeignMask((*used, self._tokens.held, *secrets))(text)


def _text(data: object) -> str:
    try:
        return write_json(data)
    except RecursionError:
        return "(nested too deep to show)"


def _row(push: Push) -> dict[str, str | int]:
    pn_code, brand_name = push.identifiers
    return {"pnCode": pn_code, "brandName": brand_name, "stockQuantity": push.quantity}


def _rows(pushes: Sequence[Push]) -> dict[str, str | int]:
    """A string that holds a JSON array."""
    return {"data": write_json([_row(push) for push in pushes])}
