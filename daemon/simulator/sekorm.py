"""Sekorm's serviceGate, clause by clause, written from the partner's document alone."""

import base64
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import parse_qsl

from daemon import clock
from daemon.core.types import SEKORM
from daemon.simulator.books import Books, Key, Origin
from daemon.simulator.comparisons import Comparisons, Difference
from daemon.simulator.settings import SekormSettings
from daemon.simulator.traffic import Traffic
from daemon.simulator.wire import NO_INTERFERENCE, Answer, Call, Interference, Received

PREFIX: Final = "/serviceGate/"
TOKEN: Final = "getAccessToken"  # noqa: S105 - the name of an endpoint
BATCH: Final = "pnarttnumber/pnStock"
SINGLE: Final = "stock/updQuantity"
COMPARE: Final = "stock/compare"

MAX_TOKEN: Final = 100
MAX_NAME: Final = 50
MAX_QUANTITY: Final = 2**31 - 1
TOKENS_KEPT: Final = 10_000

_OK: Final = Answer("0", b'{"code":0,"msg":"OK","data":null}')
# The printed example of a failure, to the letter. It is not JSON.
_FORBIDDEN_TOKEN: Final = Answer(
    "-1 sp already forbidden", b'{"code":-1,msg:"sp already forbidden",data:null}'
)
_DIGITS: Final = re.compile(r"0|[1-9][0-9]{0,9}")
_FORM: Final = "application/x-www-form-urlencoded"
_JSON: Final = "application/json"
_UNKNOWN_PRODUCT: Final = "pn not found"
_INCORRECT: Final = "data incorrect"

_FIELDS: Final[Mapping[str, frozenset[str]]] = {
    BATCH: frozenset({"accessToken", "data"}),
    SINGLE: frozenset({"accessToken", "pnCode", "brandName", "stockQuantity"}),
    COMPARE: frozenset({"accessToken", "data"}),
}
_ROW: Final = frozenset({"pnCode", "brandName", "stockQuantity"})


class _RefusedError(Exception):
    """A clause is broken; the text is the answer's `msg`."""


def failure(text: str, code: int | str = -1, data: object = None) -> Answer:
    """One number for all failures, the message decides."""
    body = _compact({"code": code, "msg": text, "data": data})
    return Answer(f"{code} {text}"[:80], body.encode())


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


class Sekorm:
    """The simulated gateway. Tokens live in memory, at most 10,000, the oldest go first."""

    name = SEKORM
    endpoints = frozenset({TOKEN, BATCH, SINGLE, COMPARE})

    def __init__(
        self, settings: SekormSettings, books: Books, traffic: Traffic, comparisons: Comparisons
    ) -> None:
        self.settings = settings
        self._books = books
        self._traffic = traffic
        self._comparisons = comparisons
        self._known: frozenset[Key] = frozenset()
        self._tokens: dict[str, float] = {}
        self.configure(settings)

    def configure(self, settings: SekormSettings) -> None:
        """Takes other settings over. Tokens that are out stay valid as long as they were."""
        self.settings = settings
        self._known = frozenset(settings.catalogue)

    def revoke_tokens(self) -> None:
        """Every token that is out becomes "no permission"."""
        self._tokens.clear()

    # Reading and checking

    def read(self, received: Received) -> Call:
        endpoint = received.path.removeprefix(PREFIX)
        origin = Origin(received.number, received.received_at, endpoint)
        if endpoint not in self.endpoints:
            return Call("unknown", origin, refusal=Answer("404", b"Not Found", 404, "text/plain"))
        if received.method != "POST" and not (endpoint == TOKEN and received.method == "GET"):
            return Call(endpoint, origin, refusal=Answer("405", b"Method Not Allowed", 405, "text/plain"))
        rows: tuple[tuple[Key, int], ...] = ()
        parameters: Mapping[str, Any] | None = None
        flaw = ""
        try:
            parameters = self._parameters(received)
            # Read before anything is refused, so that faults and overlaps know the products.
            rows = _rows(endpoint, parameters)
        except _RefusedError as error:
            flaw = str(error)
        refusal = self._caller_refusal(endpoint, received.remote, parameters)
        return Call(endpoint, origin, rows, refusal or (failure(flaw) if flaw else None))

    def _caller_refusal(
        self, endpoint: str, remote: str, parameters: Mapping[str, Any] | None
    ) -> Answer | None:
        """The gateway looks at the address first, then at who asks; what is asked comes last."""
        if not self._is_allowed(remote):
            return failure("ip invalid")
        if parameters is None:
            return None
        flaw = self._account_flaw(parameters) if endpoint == TOKEN else self._token_flaw(parameters)
        if flaw:
            return failure(flaw)
        if self.settings.disabled:
            return _FORBIDDEN_TOKEN if endpoint == TOKEN else failure("sp already forbidden")
        return None

    def _parameters(self, received: Received) -> Mapping[str, Any]:
        if received.method == "GET":
            return _form(received.query.encode())
        kind, _, options = received.content_type.lower().partition(";")
        kind = kind.strip()
        charset = options.strip().removeprefix("charset=").strip('"')
        if charset not in {"", "utf-8", "utf8"}:
            raise _RefusedError(f"charset {charset} is not supported")
        if self.settings.body == "json":
            if kind != _JSON:
                raise _RefusedError(f"Content-Type must be {_JSON}")
            return _object(received.body)
        if kind != _FORM:
            raise _RefusedError(f"Content-Type must be {_FORM}")
        return _form(received.body)

    def _is_allowed(self, remote: str) -> bool:
        allowed = self.settings.allowed_addresses
        if allowed is None:
            return True
        address = ip_address(remote)
        return any(address in network for network in allowed)

    def _account_flaw(self, parameters: Mapping[str, Any]) -> str:
        account = self.settings.account_parameter
        if flaw := _names_flaw(parameters, frozenset({account, "appSecret"})):
            return flaw
        is_right = (
            parameters[account] == self.settings.account
            and parameters["appSecret"] == self.settings.app_secret
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

    def perform(self, call: Call, interference: Interference = NO_INTERFERENCE) -> Answer:
        if call.endpoint == TOKEN:
            return self._issue_token()
        if call.endpoint == COMPARE:
            differences = self._comparisons.add(
                SEKORM, call.rows, self._books.state, call.origin, interference.refused
            )
            return self._tell(differences, interference.message)
        for done, (key, quantity) in enumerate(call.rows):
            if done == interference.rows:
                break
            # A batch stops at the first row that is refused; the rows before it stay applied.
            if key in interference.refused:
                return failure(interference.message or _UNKNOWN_PRODUCT)
            if self.settings.strict and key not in self._known:
                return failure(_UNKNOWN_PRODUCT)
            self._books.write(SEKORM, key, quantity, call.origin)
            self._traffic.stats.accepted[SEKORM] += 1
        return _OK

    def message(self, code: int | str | None, text: str) -> Answer:
        return failure(text, -1 if code is None else code)

    def _tell(self, differences: Sequence[Difference], message: str | None) -> Answer:
        """The document says only "if the data is incorrect, notify the person in charge": how is a setting."""
        how = self.settings.compare
        if not differences or how == "silent":
            return _OK
        label = text = message or _INCORRECT
        rows = [(*difference.key, difference.told) for difference in differences]
        data: object = None
        if how == "message":
            text += ": " + ", ".join(f"{pn_code} {brand}" for pn_code, brand, _ in rows)
        elif how == "names":
            data = [pn_code for pn_code, *_ in rows]
        elif how != "code":
            data = [{"pnCode": pn, "brandName": brand, "stockQuantity": told} for pn, brand, told in rows]
        answer = failure(text, data=_compact(data) if how == "text" else data)
        return replace(answer, label=f"-1 {label}"[:80])

    def _issue_token(self) -> Answer:
        self._traffic.stats.token_calls += 1
        if self.settings.newest_token_only:
            self._tokens.clear()
        while len(self._tokens) >= TOKENS_KEPT:
            del self._tokens[next(iter(self._tokens))]
        token = _new_token()
        lifetime = self.settings.token_dies_after_s or self.settings.token_validity_s
        self._tokens[token] = clock.monotonic() + lifetime
        data = {"expiresIn": self.settings.token_validity_s, "accessToken": token}
        return Answer("0", json.dumps({"code": 0, "msg": "ok", "data": data}).encode())


def _new_token() -> str:
    # As in the document's example, `+`, `/` and `=` occur in every token.
    while True:
        token = base64.b64encode(secrets.token_bytes(64)).decode()
        if "+" in token and "/" in token:
            return token


def _form(body: bytes) -> Mapping[str, str]:
    """A form, read strictly: percent-encoded UTF-8, each name once. A bare `+` is a space."""
    if not body:
        return {}
    try:
        pairs = parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=True,
            encoding="utf-8",
            errors="strict",
            max_num_fields=20,
        )
    except UnicodeDecodeError:
        raise _RefusedError("parameters must be percent-encoded UTF-8") from None
    except ValueError:
        raise _RefusedError("parameters cannot be read") from None
    parameters = dict(pairs)
    if len(parameters) != len(pairs):
        raise _RefusedError("a parameter occurs twice")
    return parameters


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        raise _RefusedError("the body is not JSON in UTF-8") from None
    if not isinstance(value, dict):
        raise _RefusedError("the body is not a JSON object")
    return value


def _names_flaw(parameters: Mapping[str, Any], wanted: frozenset[str]) -> str:
    if parameters.keys() == wanted:
        return ""
    for name in sorted(wanted):
        if name not in parameters:
            return f"{name} is required"
    return f"unknown parameter {min(parameters.keys() - wanted)[:40]}"


def _rows(endpoint: str, parameters: Mapping[str, Any]) -> tuple[tuple[Key, int], ...]:
    if endpoint == TOKEN:
        return ()
    if flaw := _names_flaw(parameters, _FIELDS[endpoint]):
        raise _RefusedError(flaw)
    if endpoint == SINGLE:
        quantity = parameters["stockQuantity"]
        # A form is text: only the canonical digits of a non-negative integer are a number.
        if isinstance(quantity, str) and _DIGITS.fullmatch(quantity):
            quantity = int(quantity)
        return (_row(parameters["pnCode"], parameters["brandName"], quantity),)
    return tuple(_batch(parameters["data"]))


def _batch(data: object) -> list[tuple[Key, int]]:
    """`data` is a string that holds a JSON array."""
    if not isinstance(data, str):
        raise _RefusedError("data must be a string that holds a JSON array")
    try:
        rows = json.loads(data)
    except (ValueError, RecursionError):
        raise _RefusedError("data is not JSON") from None
    if not isinstance(rows, list) or not rows:
        raise _RefusedError("data must be a JSON array that is not empty")
    return [_batch_row(row) for row in rows]


def _batch_row(row: object) -> tuple[Key, int]:
    if not isinstance(row, dict):
        raise _RefusedError("data must hold objects")
    if flaw := _names_flaw(row, _ROW):
        raise _RefusedError(f"data: {flaw}")
    return _row(row["pnCode"], row["brandName"], row["stockQuantity"])


def _row(pn_code: object, brand: object, quantity: object) -> tuple[Key, int]:
    # Characters, not bytes.
    for name, value in (("pnCode", pn_code), ("brandName", brand)):
        if not isinstance(value, str) or not value.strip():
            raise _RefusedError(f"{name} is required")
        if len(value) > MAX_NAME:
            raise _RefusedError(f"{name} is longer than {MAX_NAME} characters")
    if type(quantity) is not int or not 0 <= quantity <= MAX_QUANTITY:
        raise _RefusedError("stockQuantity must be an integer of at least 0")
    return (str(pn_code), str(brand)), quantity
