"""Ymatou's open API, clause by clause, written from the marketplace's documents alone."""

import hashlib
import hmac
import json
import re
from collections import deque
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, Final
from urllib.parse import parse_qsl

from daemon.simulator.journal import Key, Origin
from daemon.simulator.marketplaces.ymatou.content import (
    GATEWAY,
    PATH,
    UPDATE_GATEWAY,
    UPDATE_PATH,
    Dialect,
    YmatouRefusedError,
    page_asked,
    stock_rows,
)
from daemon.simulator.marketplaces.ymatou.products import Products
from daemon.simulator.marketplaces.ymatou.settings import YmatouShop
from daemon.simulator.settings import ShopSettings
from daemon.simulator.wire import (
    NO_EFFECTS,
    FaultEffects,
    Marketplace,
    Page,
    Received,
    SharedState,
    ShopAnswer,
    ShopApi,
    ShopCall,
)

PATH_PREFIX: Final = "/api/v1/"
GATEWAY_PATH: Final = "/apigateway/v1"
READ_BACK: Final = "ymatou.products.list.get"
ENDPOINTS: Final = frozenset({UPDATE_PATH, UPDATE_GATEWAY, READ_BACK})

WINDOW_S: Final = 600
NONCE_WINDOW_S: Final = 2 * WINDOW_S

_BEIJING: Final = timezone(timedelta(hours=8))
_TIMESTAMP: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}")
_FIELDS: Final = frozenset({"sign_method", "auth_code", "timestamp", "sign", "nonce_str", "biz_content"})
_MOST: Final = {"sign_method": 32, "auth_code": 32, "nonce_str": 32}
_UNKNOWN_SKU: Final = "商品不存在"


def sign(parameters: Mapping[str, str], app_secret: str) -> str:
    """What has a value, sorted by name, joined raw, the secret at the end; MD5, upper-case hex."""
    parts = [f"{name}={parameters[name]}" for name in sorted(parameters) if parameters[name] != ""]
    parts.append(f"app_secret={app_secret}")
    return hashlib.md5("&".join(parts).encode(), usedforsecurity=False).hexdigest().upper()


def failure(code: str | int, text: str | None) -> ShopAnswer:
    """The envelope of every answer without content."""
    body = json.dumps(
        {"code": code, "message": text, "content": None}, ensure_ascii=False, separators=(",", ":")
    )
    return ShopAnswer(f"{code}", body.encode())


class Ymatou(ShopApi):
    """A shop of the simulated API."""

    def __init__(self, shop: str, settings: ShopSettings, shared: SharedState) -> None:
        super().__init__(shop, settings, shared)
        self._products = Products(shop, shared.data.state)
        self._nonces: set[str] = set()
        self._nonces_by_age: deque[tuple[float, str]] = deque()

    def configure(self, settings: ShopSettings) -> None:
        """Takes other settings over; used nonces stay used."""
        assert isinstance(settings, YmatouShop)
        self.settings = self._mine = settings
        self._known: frozenset[Key] = frozenset(settings.catalogue)

    def claims(self, received: Received) -> bool:
        _, app_id, _ = _address(received)
        try:
            fields = _fields(received)
        except YmatouRefusedError:
            return False
        return app_id == self._mine.app_id and fields["auth_code"] == self._mine.auth_code

    def forget(self, *, tokens: bool = False, nonces: bool = False) -> None:  # noqa: ARG002 - it has none
        """Nonces may be used again."""
        if nonces:
            self._nonces.clear()
            self._nonces_by_age.clear()

    # Reading and checking

    def read(self, received: Received) -> ShopCall:
        dialect, app_id, method = _address(received)
        endpoint = method if method in ENDPOINTS else "unknown"
        origin = Origin(received.number, received.received_at, endpoint)
        if received.method != "POST":
            return ShopCall(
                endpoint, origin, refusal=ShopAnswer("405", b"Method Not Allowed", 405, "text/plain")
            )
        rows: tuple[tuple[Key, int], ...] = ()
        page: Page | None = None
        try:
            fields = _fields(received)
            content_flaw: YmatouRefusedError | None = None
            try:
                # Read before anything is refused, so that faults and overlaps know the products.
                if method == READ_BACK:
                    page = page_asked(fields["biz_content"], dialect)
                elif method == dialect.update:
                    rows = stock_rows(fields["biz_content"], dialect)
            except YmatouRefusedError as error:
                content_flaw = error
            self._check(fields, dialect, app_id, method)
            if content_flaw is not None:
                raise content_flaw
        except YmatouRefusedError as error:
            return ShopCall(endpoint, origin, rows, failure(error.code, str(error)))
        return ShopCall(endpoint, origin, rows, page=page)

    def _check(self, fields: Mapping[str, str], dialect: Dialect, app_id: str, method: str) -> None:
        is_granted = method == dialect.update or (method == READ_BACK and self._mine.read_back)
        if not is_granted:
            raise YmatouRefusedError("0005", "非法api名称")
        if fields["auth_code"] != self._mine.auth_code:
            raise YmatouRefusedError("0002", "非法授权码")
        sent_at = datetime.fromisoformat(fields["timestamp"]).replace(tzinfo=_BEIJING).timestamp()
        now = self.shared.now()
        # Timestamps are whole seconds, so the marketplace's clock is read in whole seconds too.
        if abs(int(now) - sent_at) > WINDOW_S:
            raise YmatouRefusedError("0003", "非法请求时间")
        signed = {name: value for name, value in fields.items() if name != "sign"}
        signed["app_id"] = app_id
        signed["method"] = method
        wanted = sign(signed, self._mine.app_secret)
        if app_id != self._mine.app_id or not hmac.compare_digest(wanted.encode(), fields["sign"].encode()):
            self.shared.traffic.stats.signature_failures += 1
            raise YmatouRefusedError("0004", "验签失败")
        self._use_nonce(fields["nonce_str"], now)

    def _use_nonce(self, nonce: str, now: float) -> None:
        by_age = self._nonces_by_age
        while by_age and (by_age[0][0] < now - NONCE_WINDOW_S or len(by_age) > self.shared.nonce_limit()):
            at, old = by_age.popleft()
            self._nonces.discard(old)
            if at >= now - NONCE_WINDOW_S:
                self.shared.traffic.stats.nonces_forgotten += 1
        if nonce in self._nonces:
            self.shared.traffic.stats.duplicate_nonces += 1
            raise YmatouRefusedError("0001", "nonce_str 重复")
        self._nonces.add(nonce)
        by_age.append((now, nonce))

    # Carrying out

    def perform(self, call: ShopCall, effects: FaultEffects = NO_EFFECTS) -> ShopAnswer:
        if call.page is not None:
            return _success(self._products.page(call.page, self._mine))
        results: list[dict[str, object]] = []
        refused = 0
        for done, (key, quantity) in enumerate(call.rows):
            if done == effects.rows:
                break
            text = "成功"
            is_refused = key in effects.refused or (self._mine.strict and key not in self._known)
            if is_refused:
                refused += 1
                text = (effects.message if key in effects.refused else None) or _UNKNOWN_SKU
            else:
                self.write(key, quantity, call.origin)
            results.append({"outer_sku_id": key, "success": not is_refused, "msg": text})
        if self._mine.omit_results:
            # Without results 0000 means success for all, so a refusal needs another code.
            return failure("0001", _UNKNOWN_SKU) if refused else _success(None)
        return _success({"results": results}, f"0000, {refused} refused" if refused else "0000")

    def message(self, code: int | str | None, text: str) -> ShopAnswer:
        return failure("0009" if code is None else code, text)

    def success(self) -> ShopAnswer:
        return failure("0000", "ok")

    def envelope(self) -> tuple[bytes, bytes]:
        return b'{"code":"0000","content":null,"message":"', b'"}'

    def other_code_type(self) -> bytes:
        return b'{"code":0,"message":null,"content":null}'


def _success(content: object, label: str = "0000") -> ShopAnswer:
    body = json.dumps(
        {"code": "0000", "message": None, "content": content}, ensure_ascii=False, separators=(",", ":")
    )
    return ShopAnswer(label, body.encode())


def _address(received: Received) -> tuple[Dialect, str, str]:
    """The dialect, and the two parameters that stand in the URL."""
    if received.path == GATEWAY_PATH:
        # Names with dots and letters only: what cannot be read is simply not a known app or method.
        pairs = parse_qsl(received.query, keep_blank_values=True, encoding="utf-8", errors="replace")
        query = dict(pairs)
        is_strict = len(pairs) == len(query) == 2
        return GATEWAY, query.get("app_id", ""), query.get("method", "") if is_strict else ""
    app_id, _, method = received.path.removeprefix(PATH_PREFIX).partition("/")
    return PATH, app_id, method


def _fields(received: Received) -> Mapping[str, str]:
    """The six fields, each a string within its length."""
    kind, _, options = received.content_type.lower().partition(";")
    if kind.strip() != "application/json" or options.strip() not in {"", "charset=utf-8"}:
        raise YmatouRefusedError("0001", "Content-Type 必须是 application/json")
    try:
        body = json.loads(received.body.decode("utf-8"))
    except (ValueError, RecursionError):
        raise YmatouRefusedError("0001", "请求体不是UTF-8编码的JSON") from None
    if not isinstance(body, dict):
        raise YmatouRefusedError("0001", "请求体不是JSON对象")
    if body.keys() != _FIELDS:
        missing = sorted(_FIELDS - body.keys())
        text = f"缺少必填参数 {missing[0]}" if missing else f"非法参数 {min(body.keys() - _FIELDS)[:40]}"
        raise YmatouRefusedError("0001", text)
    _check_values(body)
    return body


def _check_values(body: Mapping[str, Any]) -> None:
    for name, value in body.items():
        if not isinstance(value, str):
            raise YmatouRefusedError("0001", f"参数必须是字符串 {name}")
        if not value:
            raise YmatouRefusedError("0001", f"缺少必填参数 {name}")
    for name, most in _MOST.items():
        if len(body[name]) > most:
            raise YmatouRefusedError("0001", f"参数长度超过{most} {name}")
    if body["sign_method"] != "MD5":
        raise YmatouRefusedError("0001", "sign_method 只支持 MD5")
    if len(body["sign"]) != 32:
        raise YmatouRefusedError("0001", "sign 长度必须是32")
    if not _is_timestamp(body["timestamp"]):
        raise YmatouRefusedError("0001", "timestamp 格式必须是 yyyy-MM-dd HH:mm:ss")


def _is_timestamp(text: str) -> bool:
    if _TIMESTAMP.fullmatch(text) is None:
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _banner(url: str, shop: str, settings: ShopSettings) -> str:
    assert isinstance(settings, YmatouShop)
    return f"""\
Ymatou, shop {shop}
         base URL    {url}
         app id      {settings.app_id}
         app secret  {settings.app_secret}
         auth code   {settings.auth_code}
         path        {url}{PATH_PREFIX}{settings.app_id}/{UPDATE_PATH}
         gateway     {url}{GATEWAY_PATH}?app_id={settings.app_id}&method={UPDATE_GATEWAY}
"""


MARKETPLACE: Final = Marketplace(
    name="ymatou",
    settings=YmatouShop,
    api=Ymatou,
    endpoints=ENDPOINTS,
    serves=lambda path: path.startswith(PATH_PREFIX) or path == GATEWAY_PATH,
    keys=str,
    key_words="outer_sku_id, a string",
    banner=_banner,
)
