"""A receiver of web hooks, strict to Standard Webhooks 1.0.0, written from the standard alone."""

import base64
import hashlib
import hmac
import json
import re
from collections import deque
from typing import Any, Final, Literal

from pydantic import Field

from daemon.simulator.journal import Key, Origin
from daemon.simulator.settings import ShopSettings
from daemon.simulator.wire import (
    NO_EFFECTS,
    FaultEffects,
    Marketplace,
    Received,
    SharedState,
    ShopAnswer,
    ShopApi,
    ShopCall,
)

PREFIX: Final = "/webhook/"
UPDATED: Final = "stock.updated"
BATCH: Final = "stock.batch_updated"
TEST: Final = "stock.test"
ENDPOINTS: Final = frozenset({UPDATED, BATCH, TEST})
TOLERANCE_S: Final = 300
LONGEST_NAME: Final = 200
MAX_QUANTITY: Final = 2**31 - 1
IDS_KEPT: Final = 100_000

_PREFIX: Final = "whsec_"
_SECONDS: Final = re.compile("[1-9][0-9]{0,11}")
_ITEM: Final = frozenset({"sku", "external_id", "quantity"})
_OK: Final = ShopAnswer("200", b'{"status":"ok"}')


class _MessageRefusedError(Exception):
    """The request is refused with this status and these words."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def sign(secret: str, name: str, seconds: str, body: bytes) -> str:
    """One signature, as it stands in the header."""
    key = base64.b64decode(secret.removeprefix(_PREFIX))
    digest = hmac.new(key, f"{name}.{seconds}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def refusal(status: int, text: str) -> ShopAnswer:
    body = json.dumps({"error": text}, ensure_ascii=False, separators=(",", ":"))
    return ShopAnswer(f"{status} {text}"[:80], body.encode(), status)


class WebhookShop(ShopSettings):
    """The receiver. Its address ends in the shop's name."""

    marketplace: Literal["webhook"] = "webhook"
    secret: str = Field(default=f"{_PREFIX}ZGVtby1zZWNyZXQtb2YtdGhlLXdlYi1ob29r", min_length=1)
    """What requests must be signed with: `whsec_` and base64."""
    gone: bool = False
    """The receiver wants no more messages: every request is answered 410."""
    catalogue: tuple[str, ...] = ()
    """Known SKUs: their `external_id`."""

    @classmethod
    def named(cls, name: str) -> "WebhookShop":
        key = base64.b64encode(hashlib.sha256(name.encode()).digest()).decode()
        return cls(secret=f"{_PREFIX}{key}")


class Webhook(ShopApi):
    """One receiver. It keeps the newest 100,000 ids: a message that comes twice is carried out once."""

    def __init__(self, shop: str, settings: ShopSettings, shared: SharedState) -> None:
        super().__init__(shop, settings, shared)
        self._ids: dict[str, bytes] = {}
        self._ids_by_age: deque[str] = deque()

    def configure(self, settings: ShopSettings) -> None:
        """Takes other settings over; ids that are known stay so."""
        assert isinstance(settings, WebhookShop)
        self.settings = self._mine = settings
        self._known: frozenset[Key] = frozenset(settings.catalogue)

    def claims(self, received: Received) -> bool:
        return received.path == f"{PREFIX}{self.shop}"

    def forget(self, *, tokens: bool = False, nonces: bool = False) -> None:  # noqa: ARG002 - it has none
        """Ids may be used again."""
        if nonces:
            self._ids.clear()
            self._ids_by_age.clear()

    def read(self, received: Received) -> ShopCall:
        endpoint = "unknown"
        rows: tuple[tuple[Key, int], ...] = ()
        answer: ShopAnswer | None = None
        try:
            message = _message(received)
            endpoint = message["type"] if message["type"] in ENDPOINTS else "unknown"
            flaw: _MessageRefusedError | None = None
            try:
                # Read before anything is refused, so that faults and overlaps know the products.
                rows = _rows(endpoint, message["data"])
            except _MessageRefusedError as error:
                flaw = error
            self._check_caller(received)
            if flaw is not None:
                raise flaw
            if self._is_repeated(received):
                answer = ShopAnswer("200 repeated", _OK.body)
        except _MessageRefusedError as error:
            answer = refusal(error.status, str(error))
        return ShopCall(endpoint, Origin(received.number, received.received_at, endpoint), rows, answer)

    def perform(self, call: ShopCall, effects: FaultEffects = NO_EFFECTS) -> ShopAnswer:
        for key, _ in call.rows:
            is_unknown = self._mine.strict and key not in self._known
            if key in effects.refused or is_unknown:
                # All of a message or nothing of it.
                return refusal(422, effects.message or f"{key} is not sold here")
        for key, quantity in call.rows[: effects.rows]:
            self.write(key, quantity, call.origin)
        return _OK

    def message(self, code: int | str | None, text: str) -> ShopAnswer:
        is_status = isinstance(code, int) and 200 <= code <= 599
        return refusal(code if is_status and isinstance(code, int) else 503, text)

    def success(self) -> ShopAnswer:
        return _OK

    def envelope(self) -> tuple[bytes, bytes]:
        return b'{"status":"', b'"}'

    def other_code_type(self) -> bytes:
        return b'{"status":0}'

    def _check_caller(self, received: Received) -> None:
        if self._mine.gone:
            raise _MessageRefusedError(410, "no more messages are wanted")
        if not self.claims(received):
            raise _MessageRefusedError(404, "there is no such receiver")
        headers = received.headers
        name, seconds, signatures = (
            headers.get(f"webhook-{part}", "") for part in ("id", "timestamp", "signature")
        )
        if not name or "." in name or not _SECONDS.fullmatch(seconds) or not signatures:
            raise _MessageRefusedError(
                401, "webhook-id, webhook-timestamp and webhook-signature are required"
            )
        if abs(int(self.shared.now()) - int(seconds)) > TOLERANCE_S:
            raise _MessageRefusedError(401, "webhook-timestamp is too far from the receiver's clock")
        wanted = sign(self._mine.secret, name, seconds, received.body)
        if not any(hmac.compare_digest(wanted, each) for each in signatures.split(" ")):
            self.shared.traffic.stats.signature_failures += 1
            raise _MessageRefusedError(401, "the signature is wrong")

    def _is_repeated(self, received: Received) -> bool:
        """Whether a message has come before. Raises _MessageRefusedError for another one under the same id."""
        name = received.headers["webhook-id"]
        if name in self._ids:
            self.shared.traffic.stats.duplicate_nonces += 1
            if self._ids[name] != received.body:
                raise _MessageRefusedError(409, "another message had this webhook-id")
            return True
        self._ids[name] = received.body
        self._ids_by_age.append(name)
        if len(self._ids_by_age) > IDS_KEPT:
            del self._ids[self._ids_by_age.popleft()]
        return False


def _message(received: Received) -> dict[str, Any]:
    if received.method != "POST":
        raise _MessageRefusedError(405, "messages are sent by POST")
    kind, _, options = received.content_type.lower().partition(";")
    if kind.strip() != "application/json" or options.strip() not in {"", "charset=utf-8"}:
        raise _MessageRefusedError(415, "Content-Type must be application/json")
    try:
        message = json.loads(received.body.decode())
    except (ValueError, RecursionError):
        raise _MessageRefusedError(400, "the body is not JSON in UTF-8") from None
    is_message = isinstance(message, dict) and message.keys() == {"type", "timestamp", "data"}
    if not is_message or not all(isinstance(message[name], str) for name in ("type", "timestamp")):
        raise _MessageRefusedError(400, "the body must hold type, timestamp and data")
    if not isinstance(message["data"], dict):
        raise _MessageRefusedError(400, "data must be an object")
    return message  # type: ignore[no-any-return] # it is an object


def _rows(endpoint: str, data: dict[str, Any]) -> tuple[tuple[Key, int], ...]:
    if endpoint == TEST:
        return ()
    if endpoint == UPDATED:
        return (_row(data),)
    if endpoint != BATCH:
        raise _MessageRefusedError(422, "the type is not understood")
    items = data.get("items")
    if data.keys() != {"items"} or not isinstance(items, list) or not items:
        raise _MessageRefusedError(422, "data must hold a list of items")
    return tuple([_row(item) for item in items])


def _row(item: object) -> tuple[Key, int]:
    if not isinstance(item, dict) or item.keys() != _ITEM:
        raise _MessageRefusedError(422, "an item must hold sku, external_id and quantity")
    name, quantity = item["external_id"], item["quantity"]
    if not isinstance(name, str) or not name.strip() or not isinstance(item["sku"], str):
        raise _MessageRefusedError(422, "sku and external_id must be texts")
    if len(name) > LONGEST_NAME:
        raise _MessageRefusedError(422, f"external_id has more than {LONGEST_NAME} characters")
    if type(quantity) is not int or not 0 <= quantity <= MAX_QUANTITY:
        raise _MessageRefusedError(422, "quantity must be an integer of at least 0")
    return name, quantity


def _banner(url: str, shop: str, settings: ShopSettings) -> str:
    assert isinstance(settings, WebhookShop)
    return f"""\
Webhook, shop {shop}
         base URL    {url}{PREFIX}{shop}
         secret      {settings.secret}
"""


MARKETPLACE: Final = Marketplace(
    name="webhook",
    settings=WebhookShop,
    api=Webhook,
    endpoints=ENDPOINTS,
    serves=lambda path: path.startswith(PREFIX),
    keys=str,
    key_words="external_id, a string",
    banner=_banner,
)
