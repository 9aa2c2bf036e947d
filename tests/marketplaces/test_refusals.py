"""What each answer counts for: the number, the SKU that it is about, or the channel."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Final, Literal

import pytest

from daemon.core.breaker import Breaker, Mode, refusals_to_open
from daemon.core.outcome import Kind, Outcome
from daemon.core.types import ChannelName, Push, Sku
from daemon.marketplaces.client import Client
from daemon.marketplaces.sekorm.client import SekormClient
from daemon.marketplaces.webhook.client import WebhookClient
from daemon.marketplaces.ymatou.client import YmatouClient
from tests.channels import SEKORM, YMATOU
from tests.marketplaces.cases import CASES
from tests.marketplaces.conftest import LONG
from tests.marketplaces.memory import MemoryTokens
from tests.marketplaces.scripted import Scripted, reply
from tests.marketplaces.test_sekorm import GRANT
from tests.marketplaces.test_ymatou import answer, results, row

Counts = Literal["number", "sku", "channel", "no answer"]
"""`no answer`: the channel, once ten in a row have none."""

OK: Final = "200 OK"
NO_PART: Final = '{"code":-1,"msg":"型号不存在","data":null}'.encode()


def sekorm(code: object, message: object) -> bytes:
    return json.dumps({"code": code, "msg": message, "data": None}).encode()


ANSWERS: Final[list[tuple[str, bytes, str, Counts]]] = [
    ("sekorm", sekorm(0, "ok"), OK, "number"),
    ("sekorm", NO_PART, OK, "sku"),
    ("sekorm", sekorm(-1, "brand not found"), OK, "sku"),
    ("sekorm", sekorm(-1, "no permission"), OK, "channel"),
    ("sekorm", sekorm(-1, "ip invalid"), OK, "channel"),
    ("sekorm", sekorm(-1, "sp already forbidden"), OK, "channel"),
    ("sekorm", sekorm(-1, "System Error"), OK, "no answer"),
    ("sekorm", sekorm(-1, ""), OK, "no answer"),
    ("sekorm", sekorm(500, "busy"), OK, "no answer"),
    ("sekorm", b"<html>", OK, "no answer"),
    ("sekorm", NO_PART, "502 Bad Gateway", "no answer"),
    ("ymatou", answer("0000"), OK, "number"),
    ("ymatou", results(row("1", success=False, msg="商品不存在")), OK, "sku"),
    ("ymatou", results(row("other", success=False)), OK, "sku"),
    ("ymatou", answer("0001", "参数"), OK, "sku"),
    ("ymatou", answer("1001", "商品不存在"), OK, "sku"),
    ("ymatou", answer("0006", "content"), OK, "sku"),
    ("ymatou", answer("7777", "?"), OK, "sku"),
    ("ymatou", answer("0002", "授权"), OK, "channel"),
    ("ymatou", answer("0004", "验签失败"), OK, "channel"),
    ("ymatou", answer("0005", "method"), OK, "channel"),
    ("ymatou", answer("0009", "稍后再试"), OK, "no answer"),
    ("ymatou", b"{}", OK, "no answer"),
    ("webhook", b"", "204 No Content", "number"),
    ("webhook", b"{}", "422 Unprocessable", "sku"),
    ("webhook", b"{}", "400 Bad Request", "sku"),
    ("webhook", b"{}", "404 Not Found", "sku"),
    ("webhook", b"{}", "409 Conflict", "sku"),
    ("webhook", b"{}", "401 Unauthorized", "channel"),
    ("webhook", b"{}", "410 Gone", "channel"),
    ("webhook", b"{}", "500 Oops", "no answer"),
]


@asynccontextmanager
async def client(name: str, body: bytes, status: str) -> AsyncIterator[Client]:
    """A client of that marketplace, whose answer to each number is the same."""
    answers = [GRANT] if name == "sekorm" else []
    async with Scripted(*answers, reply(body, status)) as server, AsyncExitStack() as stack:
        settings = CASES[name].settings(server.url)
        make: dict[str, Callable[..., Client]] = {
            "sekorm": lambda settings: SekormClient(SEKORM, settings, MemoryTokens()),
            "ymatou": partial(YmatouClient, YMATOU),
            "webhook": partial(WebhookClient, ChannelName("webhook")),
        }
        made = make[name](settings)
        stack.push_async_callback(made.close)
        yield made


def after(outcome: Outcome, *, skus: int, has_acknowledged: bool) -> Breaker:
    """The breaker once some SKUs, which are new to the marketplace, have had this answer thirty times in all."""
    breaker = Breaker()
    for number in range(30):
        if breaker.mode is not Mode.CLOSED:
            break
        breaker, ticket = breaker.sent(0.0)
        to_open = refusals_to_open(
            outcome, is_shared=False, is_known=False, has_acknowledged=has_acknowledged
        )
        breaker, _ = breaker.feed(ticket, Sku(str(number % skus)), outcome, 0.0, 0.0, to_open)
    return breaker


@pytest.mark.parametrize(("name", "body", "status", "counts"), ANSWERS)
async def test_each_answer_counts_for_the_number_the_sku_or_the_channel(
    name: str, body: bytes, status: str, counts: Counts
) -> None:
    async with client(name, body, status) as one:
        outcome = await one.push(Push(Sku("1"), tuple("1" for _ in CASES[name].names), 7), LONG)
    found = (
        "number"
        if outcome.kind is Kind.APPLIED
        else "sku"
        if outcome.is_refusal
        else "channel"
        if outcome.kind is Kind.TROUBLE
        else "no answer"
    )
    assert found == counts, outcome
    # Three SKUs that are refused are no trouble of a channel that works; nothing but refusals, from the first, is.
    works = after(outcome, skus=3, has_acknowledged=True)
    assert (works.mode is Mode.OPEN) is (counts in ("channel", "no answer"))
    wrong_shop = after(outcome, skus=30, has_acknowledged=False)
    assert (wrong_shop.mode is Mode.OPEN) is (counts != "number")
