"""Two small clients, written for these tests alone, so that nothing proves itself."""

import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import urlencode

import aiohttp

from daemon.simulator import SimulatorSettings
from daemon.simulator.marketplaces.sekorm import SekormShop
from daemon.simulator.marketplaces.ymatou.settings import YmatouShop

DEMO = SimulatorSettings()
Json = Any
FORM = "application/x-www-form-urlencoded; charset=utf-8"


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Json:
        return json.loads(self.body)


async def send(
    session: aiohttp.ClientSession, method: str, url: str, body: bytes | None = None, kind: str | None = None
) -> Reply:
    headers = {"Content-Type": kind} if kind else {}
    async with session.request(
        method, url, data=body, headers=headers, allow_redirects=False, skip_auto_headers=["Content-Type"]
    ) as response:
        return Reply(response.status, response.headers.copy(), await response.read())


@dataclass
class SekormClient:
    session: aiohttp.ClientSession
    url: str

    async def form(self, endpoint: str, **parameters: object) -> Reply:
        return await self.raw(endpoint, urlencode(parameters).encode())

    async def raw(self, endpoint: str, body: bytes, kind: str = FORM, method: str = "POST") -> Reply:
        return await send(self.session, method, f"{self.url}/serviceGate/{endpoint}", body, kind)

    async def token(self) -> str:
        reply = await self.form(
            "getAccessToken",
            accessToken=DEMO.of(SekormShop).account,
            appSecret=DEMO.of(SekormShop).app_secret,
        )
        return str(reply.json["data"]["accessToken"])

    async def update(self, token: str, pn: str = "LM358", brand: str = "AMS", quantity: object = 1) -> Reply:
        return await self.form(
            "stock/updQuantity", accessToken=token, pnCode=pn, brandName=brand, stockQuantity=quantity
        )

    async def rows(self, endpoint: str, token: str, rows: object) -> Reply:
        return await self.form(endpoint, accessToken=token, data=json.dumps(rows, ensure_ascii=False))


def beijing(offset_s: float = 0) -> str:
    now = datetime.now(timezone(timedelta(hours=8))) + timedelta(seconds=offset_s)
    return now.strftime("%Y-%m-%d %H:%M:%S")


@dataclass
class YmatouClient:
    session: aiohttp.ClientSession
    url: str
    dialect: str = "path"

    @property
    def method(self) -> str:
        return "ymatou.skus.stock.update" if self.dialect == "path" else "ymatou.sku.stock.update"

    def address(self, method: str, app_id: str = DEMO.of(YmatouShop).app_id) -> str:
        if self.dialect == "path":
            return f"{self.url}/api/v1/{app_id}/{method}"
        return f"{self.url}/apigateway/v1?app_id={app_id}&method={method}"

    def fields(
        self, method: str, content: object, app_id: object = DEMO.of(YmatouShop).app_id, **changes: object
    ) -> dict[str, Json]:
        """A signed body. Changes are made before it is signed; a change to None leaves the field out."""
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        values: dict[str, Any] = {
            "sign_method": "MD5",
            "auth_code": DEMO.of(YmatouShop).auth_code,
            "timestamp": beijing(),
            "nonce_str": secrets.token_hex(16),
            "biz_content": text,
        }
        values.update(changes)
        values = {name: value for name, value in values.items() if value is not None}
        signed = {**values, "app_id": app_id, "method": method}
        text = "&".join(f"{name}={signed[name]}" for name in sorted(signed) if signed[name])
        text += f"&app_secret={DEMO.of(YmatouShop).app_secret}"
        values.setdefault("sign", hashlib.md5(text.encode()).hexdigest().upper())
        return values

    async def call(self, method: str, content: object, **changes: object) -> Reply:
        return await self.post(method, self.fields(method, content, **changes))

    async def post(self, method: str, fields: object, kind: str = "application/json") -> Reply:
        return await send(self.session, "POST", self.address(method), json.dumps(fields).encode(), kind)

    def raw_update(self, sku: str, number: int) -> bytes:
        """A whole request of the path dialect, as bytes for a socket."""
        content = {"skuStocks": [{"outer_sku_id": sku, "stock_num": number}]}
        body = json.dumps(self.fields(self.method, content)).encode()
        path = self.address(self.method).removeprefix(self.url)
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body

    async def update(self, sku: object = "393992", number: object = 1, **changes: object) -> Reply:
        return await self.update_all([(sku, number)], **changes)

    async def update_all(self, rows: Sequence[tuple[object, object]], **changes: object) -> Reply:
        name = "skuStocks" if self.dialect == "path" else "sku_stocks"
        content = {name: [{"outer_sku_id": sku, "stock_num": number} for sku, number in rows]}
        return await self.call(self.method, content, **changes)
