"""Sekorm's serviceGate, clause by clause, written from the marketplace's document alone."""

import base64
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any, Final, Literal

from pydantic import Field

from daemon import clock
from daemon.simulator.comparisons import ReceivedDifference
from daemon.simulator.journal import Key, Origin
from daemon.simulator.marketplaces.sekorm.reading import (
    BATCH,
    COMPARE,
    SINGLE,
    TOKEN,
    SekormRefusedError,
    form,
    json_object,
    names_flaw,
    rows_of,
)
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

PREFIX: Final = "/serviceGate/"
ENDPOINTS: Final = frozenset({TOKEN, BATCH, SINGLE, COMPARE})

MAX_TOKEN: Final = 100
TOKENS_KEPT: Final = 10_000

Network = IPv4Network | IPv6Network

_OK: Final = ShopAnswer("0", b'{"code":0,"msg":"OK","data":null}')
# The printed example of a failure, to the letter. It is not JSON.
_FORBIDDEN_TOKEN: Final = ShopAnswer(
    "-1 sp already forbidden", b'{"code":-1,msg:"sp already forbidden",data:null}'
)
_FORM: Final = "application/x-www-form-urlencoded"
_JSON: Final = "application/json"
_UNKNOWN_PRODUCT: Final = "pn not found"
_INCORRECT: Final = "data incorrect"


def failure(text: str, code: int | str = -1, data: object = None) -> ShopAnswer:
    """One number for all failures, the message decides."""
    body = _compact({"code": code, "msg": text, "data": data})
    return ShopAnswer(f"{code} {text}"[:80], body.encode())


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


class SekormShop(ShopSettings):
    """The Sekorm side. The account is invented; it exists nowhere but here."""

    marketplace: Literal["sekorm"] = "sekorm"
    account: str = Field(default="SP-DEMO-0001", min_length=1)
    app_secret: str = Field(default="demo-secret-8Kq2mVx4", min_length=1)
    account_parameter: str = Field(default="accessToken", min_length=1)
    """What the account's parameter of `getAccessToken` is called."""
    token_validity_s: int = Field(default=3600, ge=1)
    """The `expiresIn` that is announced, in seconds."""
    token_dies_after_s: float | None = Field(default=None, gt=0)
    """How long a token really works; by default as long as announced."""
    newest_token_only: bool = False
    """A new token ends the older ones. The document does not say so; a strict gateway might."""
    body: Literal["form", "json"] = "form"
    """Which request bodies are read; the other kind is refused."""
    allowed_addresses: tuple[Network, ...] | None = None
    """Addresses or networks that may call; none given: every address."""
    disabled: bool = False
    """The account is "already forbidden"."""
    compare: Literal["message", "rows", "text", "names", "code", "silent"] = "message"
    """How `stock/compare` names differences, which is documented nowhere. All but `silent` (always 0) answer
    -1: `message` names the products in its words, `rows` in `data` as objects like those that were sent, `text` as a
    string of such JSON, `names` as a list of part numbers, `code` names none."""
    catalogue: tuple[tuple[str, str], ...] = ()
    """Known products: part number and brand name."""

    @classmethod
    def named(cls, name: str) -> "SekormShop":
        return cls(account=f"SP-DEMO-{name}", app_secret=f"demo-secret-of-{name}")


class Sekorm(ShopApi):
    """A shop of the simulated gateway. Tokens live in memory, at most 10,000, the oldest go first."""

    def __init__(self, shop: str, settings: ShopSettings, shared: SharedState) -> None:
        super().__init__(shop, settings, shared)
        self._tokens: dict[str, float] = {}

    def configure(self, settings: ShopSettings) -> None:
        """Takes other settings over. Tokens that are out stay valid as long as they were."""
        assert isinstance(settings, SekormShop)
        self.settings = self._mine = settings
        self._known: frozenset[Key] = frozenset(settings.catalogue)

    def claims(self, received: Received) -> bool:
        try:
            parameters = self._parameters(received)
        except SekormRefusedError:
            return False
        if received.path.removeprefix(PREFIX) == TOKEN:
            return parameters.get(self._mine.account_parameter) == self._mine.account
        return parameters.get("accessToken") in self._tokens

    def forget(self, *, tokens: bool = False, nonces: bool = False) -> None:  # noqa: ARG002 - it has none
        """Every token that is out becomes "no permission"."""
        if tokens:
            self._tokens.clear()

    # Reading and checking

    def read(self, received: Received) -> ShopCall:
        endpoint = received.path.removeprefix(PREFIX)
        origin = Origin(received.number, received.received_at, endpoint)
        if endpoint not in ENDPOINTS:
            return ShopCall("unknown", origin, refusal=ShopAnswer("404", b"Not Found", 404, "text/plain"))
        if received.method != "POST" and not (endpoint == TOKEN and received.method == "GET"):
            return ShopCall(
                endpoint, origin, refusal=ShopAnswer("405", b"Method Not Allowed", 405, "text/plain")
            )
        rows: tuple[tuple[Key, int], ...] = ()
        parameters: Mapping[str, Any] | None = None
        flaw = ""
        try:
            parameters = self._parameters(received)
            # Read before anything is refused, so that faults and overlaps know the products.
            rows = rows_of(endpoint, parameters)
        except SekormRefusedError as error:
            flaw = str(error)
        refusal = self._caller_refusal(endpoint, received.remote, parameters)
        return ShopCall(endpoint, origin, rows, refusal or (failure(flaw) if flaw else None))

    def _caller_refusal(
        self, endpoint: str, remote: str, parameters: Mapping[str, Any] | None
    ) -> ShopAnswer | None:
        """The gateway looks at the address first, then at who asks; what is asked comes last."""
        if not self._is_allowed(remote):
            return failure("ip invalid")
        if parameters is None:
            return None
        flaw = self._account_flaw(parameters) if endpoint == TOKEN else self._token_flaw(parameters)
        if flaw:
            return failure(flaw)
        if self._mine.disabled:
            return _FORBIDDEN_TOKEN if endpoint == TOKEN else failure("sp already forbidden")
        return None

    def _parameters(self, received: Received) -> Mapping[str, Any]:
        if received.method == "GET":
            return form(received.query.encode())
        kind, _, options = received.content_type.lower().partition(";")
        kind = kind.strip()
        charset = options.strip().removeprefix("charset=").strip('"')
        if charset not in {"", "utf-8", "utf8"}:
            raise SekormRefusedError(f"charset {charset} is not supported")
        if self._mine.body == "json":
            if kind != _JSON:
                raise SekormRefusedError(f"Content-Type must be {_JSON}")
            return json_object(received.body)
        if kind != _FORM:
            raise SekormRefusedError(f"Content-Type must be {_FORM}")
        return form(received.body)

    def _is_allowed(self, remote: str) -> bool:
        allowed = self._mine.allowed_addresses
        if allowed is None:
            return True
        address = ip_address(remote)
        return any(address in network for network in allowed)

    def _account_flaw(self, parameters: Mapping[str, Any]) -> str:
        account = self._mine.account_parameter
        if flaw := names_flaw(parameters, frozenset({account, "appSecret"})):
            return flaw
        is_right = (
            parameters[account] == self._mine.account and parameters["appSecret"] == self._mine.app_secret
        )
        return "" if is_right else "no permission"

    def _token_flaw(self, parameters: Mapping[str, Any]) -> str:
        token = parameters.get("accessToken")
        if token is None:
            return "accessToken is required"
        if not isinstance(token, str) or len(token) > MAX_TOKEN:
            return f"accessToken must be a string of at most {MAX_TOKEN} characters"
        expires_at = self._tokens.get(token)
        if expires_at is None or expires_at <= clock.monotonic():
            return "no permission"
        return ""

    # Carrying out

    def perform(self, call: ShopCall, effects: FaultEffects = NO_EFFECTS) -> ShopAnswer:
        if call.endpoint == TOKEN:
            return self._issue_token()
        if call.endpoint == COMPARE:
            differences = self.shared.comparisons.add(
                self.shop, call.rows, self.shared.data.state, call.origin, effects.refused
            )
            return self._tell(differences, effects.message)
        for done, (key, quantity) in enumerate(call.rows):
            if done == effects.rows:
                break
            # A batch stops at the first row that is refused; the rows before it stay applied.
            if key in effects.refused:
                return failure(effects.message or _UNKNOWN_PRODUCT)
            if self._mine.strict and key not in self._known:
                return failure(_UNKNOWN_PRODUCT)
            self.write(key, quantity, call.origin)
        return _OK

    def message(self, code: int | str | None, text: str) -> ShopAnswer:
        return failure(text, -1 if code is None else code)

    def success(self) -> ShopAnswer:
        return _OK

    def envelope(self) -> tuple[bytes, bytes]:
        return b'{"code":0,"data":null,"msg":"', b'"}'

    def other_code_type(self) -> bytes:
        return b'{"code":"0","msg":"ok","data":null}'

    def _tell(self, differences: Sequence[ReceivedDifference], message: str | None) -> ShopAnswer:
        """The document says only "if the data is incorrect, notify the person in charge": how is a setting."""
        how = self._mine.compare
        if not differences or how == "silent":
            return _OK
        label = text = message or _INCORRECT
        rows = [(*difference.key, difference.sent) for difference in differences]
        data: object = None
        if how == "message":
            text += ": " + ", ".join(f"{pn_code} {brand}" for pn_code, brand, _ in rows)
        elif how == "names":
            data = [pn_code for pn_code, *_ in rows]
        elif how != "code":
            data = [{"pnCode": pn, "brandName": brand, "stockQuantity": sent} for pn, brand, sent in rows]
        answer = failure(text, data=_compact(data) if how == "text" else data)
        return replace(answer, label=f"-1 {label}"[:80])

    def _issue_token(self) -> ShopAnswer:
        self.shared.traffic.stats.token_calls += 1
        if self._mine.newest_token_only:
            self._tokens.clear()
        while len(self._tokens) >= TOKENS_KEPT:
            del self._tokens[next(iter(self._tokens))]
        token = _new_token()
        lifetime = self._mine.token_dies_after_s or self._mine.token_validity_s
        self._tokens[token] = clock.monotonic() + lifetime
        data = {"expiresIn": self._mine.token_validity_s, "accessToken": token}
        return ShopAnswer("0", json.dumps({"code": 0, "msg": "ok", "data": data}).encode())


def _new_token() -> str:
    # As in the document's example, `+`, `/` and `=` occur in every token.
    while True:
        token = base64.b64encode(secrets.token_bytes(64)).decode()
        if "+" in token and "/" in token:
            return token


def _banner(url: str, shop: str, settings: ShopSettings) -> str:
    assert isinstance(settings, SekormShop)
    return f"""\
Sekorm, shop {shop}
         base URL    {url}{PREFIX.rstrip("/")}
         account     {settings.account}   (parameter {settings.account_parameter})
         app secret  {settings.app_secret}
         token       {url}{PREFIX}{TOKEN}
         stock       {url}{PREFIX}{SINGLE}
"""


MARKETPLACE: Final = Marketplace(
    name="sekorm",
    settings=SekormShop,
    api=Sekorm,
    endpoints=ENDPOINTS,
    serves=lambda path: path.startswith(PREFIX),
    keys=tuple,
    key_words="[pn_code, brand]",
    banner=_banner,
)
