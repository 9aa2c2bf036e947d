"""Sends notifications to receivers through apprise; no other code sends with it.

Apprise blocks, logs whole addresses, and takes each HTTP 200 of a group robot for a success. So each delivery runs in
a thread of its own with a deadline, its messages are masked before they are shown, and the answers of DingTalk, WeCom
and Feishu are read.
"""

import asyncio
import logging
import re
import sys
import threading
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

import requests
from apprise import Apprise, AppriseAsset, NotifyFormat
from apprise.common import PersistentStoreMode
from pydantic import SecretStr

from daemon.core.errors import ConfigError
from daemon.core.notifications import Language, Notification, fitted
from daemon.core.secrecy import ForeignMask
from daemon.settings import receivers as addresses
from daemon.threads import in_thread

_ROBOTS: Final = frozenset({"dingtalk", "feishu", "lark", "wecombot"})
_LONGEST_WORDS: Final = 200
_LONGEST_ANSWER: Final = 4096
_REFUSED: Final = 422
_CAUSES: Final = (
    ("timed out", "no answer in time"),
    ("Connection refused", "connection refused"),
    ("Name or service not known", "the host name is not resolved"),
    ("NameResolutionError", "the host name is not resolved"),
    ("certificate verify failed", "the certificate is not trusted"),
    ("CERTIFICATE_VERIFY_FAILED", "the certificate is not trusted"),
    ("unreachable", "the network cannot be reached"),
    ("Remote end closed", "the receiver closed the connection"),
    ("Connection reset", "the receiver closed the connection"),
    ("SSLError", "TLS could not be set up: is there TLS at that port?"),
    (
        "AUTH extension not supported",
        "the mail server takes no password on this way: try mode=starttls or mode=ssl",
    ),
    ("STARTTLS extension not supported", "the mail server offers no STARTTLS: try mode=ssl or another port"),
    ("authentication", "user or password not accepted"),
    ("Authentication", "user or password not accepted"),
)
_STATUS: Final = re.compile(r"error=(\d{3})")
_SMTP: Final = re.compile(r"\(([45]\d\d), b['\"](.*?)['\"]")
_heard = threading.local()


class _ThreadLog(logging.Handler):
    """Keeps what apprise logs in this thread while it sends."""

    def emit(self, record: logging.LogRecord) -> None:
        lines: list[str] | None = getattr(_heard, "lines", None)
        if lines is not None and ("xception" in str(record.msg) or record.levelno >= logging.WARNING):
            try:
                lines.append(record.getMessage())
            except (TypeError, ValueError):
                lines.append(str(record.msg))


class _ReadingRequests:
    """Replaces `requests` in the module of a group robot. A robot answers HTTP 200 in any case and says in the body
    whether it accepted the message. apprise does not read the body, so a refused notice (a missing keyword, a wrong
    signature, too many at once) would count as delivered."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - all that the library has
        return getattr(requests, name)

    @staticmethod
    def post(*args: Any, **kwargs: Any) -> requests.Response:  # noqa: ANN401 - the library's signature
        answer = requests.post(*args, **kwargs)  # noqa: S113 - apprise gives the timeout
        if answer.status_code == requests.codes.ok and (words := _refusal(answer)) is not None:
            answer.status_code = _REFUSED
            _heard.answer = words
        return answer


def _refusal(answer: requests.Response) -> str | None:
    """Return in the robot's words why it refused the message; None: it accepted it."""
    if len(answer.content) > _LONGEST_ANSWER:
        return "its answer is not of the documented shape"
    try:
        found = answer.json()
    except ValueError:
        return "its answer is not JSON"
    # DingTalk and WeCom: errcode, errmsg. Feishu and Lark: code, msg; before 2021 StatusCode, StatusMessage.
    for code, message in (("errcode", "errmsg"), ("code", "msg"), ("StatusCode", "StatusMessage")):
        if isinstance(found, dict) and code in found:
            return None if found[code] == 0 else f"{found[code]}: {found.get(message)}"
    return "its answer does not say whether it took it"


class AppriseReceiver:
    """One address. `name` says which setting it is and of what kind; it holds no secret.

    Raises ConfigError when apprise does not know the address.
    """

    def __init__(self, number: int, url: SecretStr) -> None:
        # A secret of one or two letters occurs in every answer.
        self._mask = ForeignMask(
            secret for secret in addresses.secrets(url.get_secret_value()) if len(secret) > 2
        )
        schema = addresses.schema(url.get_secret_value())
        self.name = f"notify.urls[{number}] {schema}"
        addresses.mute()
        # Nothing is stored, and a redirect is no delivery: it turns a POST into a GET.
        asset = AppriseAsset(
            app_id="Stockrelay",
            app_desc="Stockrelay",
            async_mode=False,
            http_redirects=False,
            storage_mode=PersistentStoreMode.MEMORY,
        )
        service = Apprise.instantiate(url.get_secret_value(), asset=asset)
        if service is None:
            raise ConfigError(f"{self.name}: apprise does not know this address; see docs/notifications.md")
        self._service: Any = service
        self._is_delivering = False
        module: Any = sys.modules[type(self._service).__module__]
        if module.__name__.rpartition(".")[2] in _ROBOTS:
            module.requests = _ReadingRequests()
        logger = logging.getLogger("apprise")
        logger.setLevel(logging.DEBUG)
        if not any(isinstance(handler, _ThreadLog) for handler in logger.handlers):
            logger.addHandler(_ThreadLog())

    def __repr__(self) -> str:
        return f"AppriseReceiver({self.name})"

    async def send(self, message: Notification, language: Language, timeout: timedelta) -> str | None:
        """Deliver; return why it failed, in words that hold no secret, or None.

        After `timeout` the thread is left behind, and no other is started for this address until it has ended.
        """
        if self._is_delivering:
            return "it still has not answered the message before"
        self._is_delivering = True

        def deliver() -> str | None:
            try:
                return self._deliver(message, language)
            finally:
                # Before the answer is passed on: the next message may follow before this thread has ended.
                self._is_delivering = False

        try:
            async with asyncio.timeout(timeout.total_seconds()):
                return await in_thread(deliver, self.name)
        except TimeoutError:
            return f"no answer within {timeout.total_seconds():g} s"

    def _deliver(self, message: Notification, language: Language) -> str | None:
        _heard.lines, _heard.answer = [], None
        try:
            # WeCom counts bytes, others characters: bytes are the smaller measure.
            sent = fitted(message, language, self._service.body_maxlen)
            is_taken = self._service.notify(title=sent.title, body=sent.body, body_format=NotifyFormat.TEXT)
        except Exception as error:  # noqa: BLE001 - an error of a plugin may hold the address: only its type is shown
            return f"it could not be sent ({type(error).__name__})"
        if is_taken:
            return None
        if _heard.answer is not None:
            return self._masked(f"the receiver answers {_heard.answer}")
        return self._masked(_reason(_heard.lines))

    def _masked(self, words: str) -> str:
        plain = self._mask(words[: 4 * _LONGEST_WORDS])
        return "".join(c if c.isprintable() else " " for c in plain)[:_LONGEST_WORDS]


def _reason(lines: Sequence[str]) -> str:
    """Return the cause that the library's lines show. The lines themselves quote addresses and are not shown."""
    text = "\n".join(lines)
    if found := _SMTP.search(text):
        return f"the mail server answers {found[1]} {found[2]}"
    for mark, cause in _CAUSES:
        if mark in text:
            return cause
    if found := _STATUS.search(text):
        return f"it answers HTTP {found[1]}"
    return "it was not taken; the log of the receiver's side may say why"


def make_receivers(urls: Sequence[SecretStr]) -> list[AppriseReceiver]:
    """One receiver for each address. Raises ConfigError."""
    return [AppriseReceiver(number, url) for number, url in enumerate(urls)]
