"""Ymatou, clause by clause: against the simulator, and byte for byte where the wire itself is the clause."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from structlog.testing import capture_logs

from daemon import clock
from daemon.core.outcome import Kind, Outcome, Trouble
from daemon.core.readback import ReadPage, ReadSku
from daemon.core.types import Push, Sku
from daemon.marketplaces.ymatou import SPEC
from daemon.marketplaces.ymatou.client import YmatouClient
from daemon.marketplaces.ymatou.settings import YmatouSettings
from daemon.marketplaces.ymatou.signature import sign
from daemon.simulator import Simulator
from daemon.simulator.faults import FAULT
from tests.channels import YMATOU
from tests.marketplaces.cases import YMATOU_DEMO
from tests.marketplaces.conftest import LONG
from tests.marketplaces.scripted import Scripted, reply

PUSH = Push(Sku("a"), ("393992",), 10)
DONE = reply(b'{"code":"0000","message":null,"content":null}')
APP_ID = YMATOU_DEMO.app_id

Make = Callable[..., YmatouClient]


def change(simulator: Simulator, **values: object) -> None:
    simulator.configure(simulator.settings.changed("ymatou", **values))


def shift_marketplace_clock(simulator: Simulator, seconds: float) -> None:
    simulator.configure(simulator.settings.model_copy(update={"clock_offset_s": seconds}))


def answer(code: object = "0000", message: object = None, content: object = None) -> bytes:
    return json.dumps({"code": code, "message": message, "content": content}).encode()


def results(*rows: dict[str, object]) -> bytes:
    return answer(content={"results": list(rows)})


def row(sku: object = "393992", success: object = True, msg: object = "成功") -> dict[str, object]:
    return {"outer_sku_id": sku, "success": success, "msg": msg}


async def answered(make: Make, body: bytes, **headers: str) -> Outcome:
    """What a push comes to when its answer is `body`."""
    async with Scripted(reply(body, **headers)) as server:
        return await make(server.url).push(PUSH, LONG)


async def sent(make: Make, push: Push = PUSH, **changes: object) -> tuple[str, dict[str, Any]]:
    """The request line and the body of a push."""
    async with Scripted(DONE) as server:
        await make(server.url, **changes).push(push, LONG)
        return server.requests[0].line, json.loads(server.requests[0].body)


def test_y01_the_default_host_and_dialect_are_the_guides() -> None:
    defaults = YmatouSettings(enabled=False)
    assert (defaults.base_url, defaults.dialect) == ("https://open.ymatou.com", "path")


async def test_y01_app_and_method_stand_in_the_path_and_the_body_is_json(make_ymatou: Make) -> None:
    async with Scripted(DONE) as server:
        await make_ymatou(server.url).push(PUSH, LONG)
        (request,) = server.requests
    assert request.line == f"POST /api/v1/{APP_ID}/ymatou.skus.stock.update HTTP/1.1"
    assert request.headers["content-type"] == "application/json; charset=utf-8"


async def test_y02_the_gateway_dialect_has_them_in_the_query(simulator: Simulator, make_ymatou: Make) -> None:
    line, _ = await sent(make_ymatou, dialect="gateway")
    assert line == f"POST /apigateway/v1?app_id={APP_ID}&method=ymatou.sku.stock.update HTTP/1.1"
    assert (await make_ymatou(dialect="gateway").push(PUSH, LONG)).kind is Kind.APPLIED
    assert simulator.state.quantity(make_ymatou().channel, "393992") == 10


async def test_y03_the_body_has_six_string_fields_and_the_time_is_gmt8(make_ymatou: Make) -> None:
    now = datetime(2016, 12, 31, 20, 0, 0, 999_999, tzinfo=UTC)
    _, body = await sent(make_ymatou, now=lambda: now)
    names = {"sign_method", "auth_code", "timestamp", "sign", "nonce_str", "biz_content"}
    assert body.keys() == names
    assert all(isinstance(value, str) for value in body.values())
    assert body["timestamp"] == "2017-01-01 04:00:00"
    assert body["sign_method"] == "MD5"
    assert (len(body["sign"]), len(body["nonce_str"])) == (32, 32)


@pytest.mark.parametrize("offset_s", [-595, 595])
async def test_y04_a_difference_within_ten_minutes_is_no_matter(
    simulator: Simulator, make_ymatou: Make, offset_s: float
) -> None:
    shift_marketplace_clock(simulator, offset_s)
    assert (await make_ymatou().push(PUSH, LONG)).kind is Kind.APPLIED
    assert simulator.stats.count(YMATOU) == 1


async def test_y05_the_guides_list_is_called_sku_stocks_in_camel_case(make_ymatou: Make) -> None:
    _, body = await sent(make_ymatou)
    assert body["biz_content"] == '{"skuStocks":[{"outer_sku_id":"393992","stock_num":10}]}'


async def test_y06_the_gateways_list_is_called_sku_stocks_in_snake_case(make_ymatou: Make) -> None:
    _, body = await sent(make_ymatou, dialect="gateway")
    assert body["biz_content"] == '{"sku_stocks":[{"outer_sku_id":"393992","stock_num":10}]}'


@pytest.mark.parametrize("dialect", ["path", "gateway"])
async def test_y07_app_id_and_method_of_the_url_are_signed_too(make_ymatou: Make, dialect: str) -> None:
    _, body = await sent(make_ymatou, dialect=dialect)
    method = {"path": "ymatou.skus.stock.update", "gateway": "ymatou.sku.stock.update"}[dialect]
    signature = body.pop("sign")
    assert signature == sign({**body, "app_id": APP_ID, "method": method}, YMATOU_DEMO.app_secret)


@pytest.mark.parametrize("name", ["a&b=c", "杯子 – 500ml", '"quoted"\\', "tab\tin", "emoji 🔋", "/+%20"])
async def test_y08_what_is_signed_is_what_is_sent(simulator: Simulator, make_ymatou: Make, name: str) -> None:
    assert (await make_ymatou().push(Push(Sku("a"), (name,), 3), LONG)).kind is Kind.APPLIED
    assert simulator.stats.signature_failures == 0
    assert simulator.state.quantity(make_ymatou().channel, name) == 3


@pytest.mark.parametrize(
    "body",
    [
        answer(),
        b'{"code":"0000"}',
        answer(message="ok"),
        answer(message=""),
        answer(content={}),
        answer(content={"results": None}),
        answer(content={"other": 1}),
    ],
)
async def test_y09_message_and_content_may_be_null_or_missing(make_ymatou: Make, body: bytes) -> None:
    assert (await answered(make_ymatou, body)).kind is Kind.APPLIED


@pytest.mark.parametrize(
    "code", [0, 0.0, None, False, True, "0", "00000", " 0000", "0000 ", "", [], ["0000"]]
)
async def test_y09_the_code_is_a_string_and_only_0000_is_success(make_ymatou: Make, code: object) -> None:
    assert (await answered(make_ymatou, answer(code))).kind is Kind.UNKNOWN


@pytest.mark.parametrize(
    "body",
    [
        answer(message=7),
        answer(message=[]),
        answer(content="text"),
        answer(content=[]),
        answer(content=1),
        answer(content={"results": "all"}),
        answer(content={"results": {"393992": True}}),
    ],
)
async def test_y09_other_types_than_printed_are_unknown(make_ymatou: Make, body: bytes) -> None:
    assert (await answered(make_ymatou, body)).kind is Kind.UNKNOWN


@pytest.mark.parametrize(
    ("code", "kind", "trouble"),
    [
        ("0001", Kind.REFUSED, None),
        ("0002", Kind.TROUBLE, Trouble.CREDENTIAL),
        ("0003", Kind.TROUBLE, Trouble.CLOCK),
        ("0004", Kind.TROUBLE, Trouble.SIGNATURE),
        ("0005", Kind.TROUBLE, Trouble.API_NAME),
        ("0009", Kind.UNKNOWN, None),
        ("1001", Kind.REFUSED, None),
        ("0006", Kind.REFUSED, None),
        ("0007", Kind.UNKNOWN, None),
        ("9999", Kind.UNKNOWN, None),
    ],
)
async def test_y10_every_code_has_its_class(
    make_ymatou: Make, code: str, kind: Kind, trouble: Trouble | None
) -> None:
    outcome = await answered(make_ymatou, answer(code, "验签失败"))
    assert (outcome.kind, outcome.trouble) == (kind, trouble)
    assert outcome.reason == f"{code} 验签失败"
    assert bool(outcome.advice) is (kind is not Kind.UNKNOWN)


@pytest.mark.parametrize(
    ("values", "trouble", "hint"),
    [
        ({"auth_code": "wrong"}, Trouble.CREDENTIAL, "auth_code"),
        ({"app_secret": "wrong"}, Trouble.SIGNATURE, "app_secret"),
        ({"app_id": "wrong"}, Trouble.SIGNATURE, "app_id"),
    ],
)
async def test_y10_each_wrong_credential_names_its_setting(
    make_ymatou: Make, values: dict[str, object], trouble: Trouble, hint: str
) -> None:
    ymatou = make_ymatou(**values)
    for outcome in (await ymatou.push(PUSH, LONG), await ymatou.probe()):
        assert (outcome.kind, outcome.trouble) == (Kind.TROUBLE, trouble)
        assert f"channels.ymatou.{hint}" in outcome.advice


@pytest.mark.parametrize("code", ["0001", "1001", "0006"])
async def test_y10_a_refused_call_has_its_whole_reply_in_the_log(make_ymatou: Make, code: str) -> None:
    body = answer(code, "参数", {"hint": "x" * 1_000})
    with capture_logs() as lines:
        await answered(make_ymatou, body)
    (line,) = [line for line in lines if line["event"] == "marketplace.reply_rejected"]
    assert line["skus"] == ["a"]
    assert "x" * 1_000 in line["reply"]
    assert "hint" in line["reply"]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (results(row()), Kind.APPLIED),
        (results(row(), row("other", success=False)), Kind.APPLIED),
        (results(), Kind.APPLIED),
        (results(row("other")), Kind.APPLIED),
        (results(row(success=False, msg="已下架")), Kind.REFUSED),
        (results(row(success=False), row(success=False, msg="已下架")), Kind.REFUSED),
        (results(row(success=False, msg=[1])), Kind.REFUSED),
        (results(row(success=False, msg=None)), Kind.REFUSED),
        (results(row(success="true")), Kind.UNKNOWN),
        (results(row(success=1)), Kind.UNKNOWN),
        (results({"outer_sku_id": "393992"}), Kind.UNKNOWN),
        (results(row(393992)), Kind.UNKNOWN),
        (results(row(393992, success=False)), Kind.UNKNOWN),
        (results(row(None)), Kind.UNKNOWN),
        (results(row(), row(success=False)), Kind.UNKNOWN),
        (results(row("other", success=False)), Kind.UNKNOWN),
        (results(row(), row("b", success=None)), Kind.UNKNOWN),
        (answer(content={"results": ["393992"]}), Kind.UNKNOWN),
    ],
)
async def test_y11_a_0000_can_still_refuse_the_sku(make_ymatou: Make, body: bytes, kind: Kind) -> None:
    assert (await answered(make_ymatou, body)).kind is kind


async def test_y11_the_refused_sku_carries_the_marketplaces_words(
    simulator: Simulator, make_ymatou: Make
) -> None:
    fault = {"kind": "refuse_sku", "shop": "ymatou", "key": "393992", "message": "商品已下架"}
    simulator.faults.add(FAULT.validate_python(fault))
    ymatou = make_ymatou()
    outcome = await ymatou.push(PUSH, LONG)
    assert outcome.kind is Kind.REFUSED
    assert "商品已下架" in outcome.reason
    assert (await ymatou.push(Push(Sku("b"), ("other",), 1), LONG)).kind is Kind.APPLIED


async def test_y11_without_results_0000_is_success(simulator: Simulator, make_ymatou: Make) -> None:
    change(simulator, omit_results=True)
    assert (await make_ymatou().push(PUSH, LONG)).kind is Kind.APPLIED


MANY = [Push(Sku(f"sku-{n}"), (f"39399{n}",), n) for n in range(1, 6)]


@pytest.mark.parametrize("dialect", ["path", "gateway"])
async def test_y11_many_numbers_go_in_one_call_with_a_result_each(
    simulator: Simulator, make_ymatou: Make, dialect: str
) -> None:
    fault = {"kind": "refuse_sku", "shop": "ymatou", "key": "393993", "message": "商品已下架"}
    simulator.faults.add(FAULT.validate_python(fault))
    outcomes = await make_ymatou(dialect=dialect).push_many(MANY, LONG)
    kinds = [outcome.kind for outcome in outcomes]
    assert kinds == [Kind.APPLIED, Kind.APPLIED, Kind.REFUSED, Kind.APPLIED, Kind.APPLIED]
    assert "商品已下架" in outcomes[2].reason
    assert simulator.state.of(YMATOU) == {"393991": 1, "393992": 2, "393994": 4, "393995": 5}
    assert simulator.stats.count(YMATOU) == 1


async def test_y11_a_refusal_that_belongs_to_no_sku_may_be_that_of_any_without_a_result(
    make_ymatou: Make,
) -> None:
    body = results(row("393991"), row("393992", success=False), row("39399x", success=False))
    async with Scripted(reply(body)) as server:
        outcomes = await make_ymatou(server.url).push_many(MANY, LONG)
    assert [outcome.kind for outcome in outcomes] == [Kind.APPLIED, Kind.REFUSED, *[Kind.UNKNOWN] * 3]


async def test_y11_results_in_any_order_belong_to_their_skus(make_ymatou: Make) -> None:
    body = results(row("393995", success=False), row("393991"), row("393992", success=False))
    async with Scripted(reply(body)) as server:
        outcomes = await make_ymatou(server.url).push_many(MANY, LONG)
    refused = [push.sku for push, outcome in zip(MANY, outcomes, strict=True) if outcome.kind is Kind.REFUSED]
    assert refused == ["sku-2", "sku-5"]


@pytest.mark.parametrize("code", ["0001", "1001", "0006"])
async def test_y11_a_call_refused_as_a_whole_says_nothing_of_any_one_sku(
    make_ymatou: Make, code: str
) -> None:
    async with Scripted(reply(answer(code, "参数"))) as server:
        ymatou = make_ymatou(server.url)
        with capture_logs() as lines:
            outcomes = await ymatou.push_many(MANY, LONG)
        (alone,) = await ymatou.push_many(MANY[:1], LONG)
    assert [outcome.kind for outcome in outcomes] == [Kind.UNKNOWN] * 5
    assert outcomes[0].reason == f"all 5 SKUs of the call were refused: {code} 参数"
    assert alone.kind is Kind.REFUSED, "by itself it is what was refused"
    (line,) = [line for line in lines if line["event"] == "marketplace.reply_rejected"]
    assert line["skus"] == [push.sku for push in MANY]


async def test_y11_an_api_without_results_may_have_taken_the_others_of_a_refused_call(
    simulator: Simulator, make_ymatou: Make
) -> None:
    change(simulator, omit_results=True)
    ymatou = make_ymatou()
    assert {outcome.kind for outcome in await ymatou.push_many(MANY, LONG)} == {Kind.APPLIED}
    fault = {"kind": "refuse_sku", "shop": "ymatou", "key": "393993"}
    simulator.faults.add(FAULT.validate_python(fault))
    newer = [Push(push.sku, push.identifiers, push.quantity + 10) for push in MANY]
    assert {outcome.kind for outcome in await ymatou.push_many(newer, LONG)} == {Kind.UNKNOWN}
    assert simulator.state.quantity(YMATOU, "393991") == 11
    kinds = [(await ymatou.push(push, LONG)).kind for push in newer]
    assert kinds == [Kind.APPLIED, Kind.APPLIED, Kind.REFUSED, Kind.APPLIED, Kind.APPLIED]


async def test_y11_the_largest_call_is_taken_whole(simulator: Simulator, make_ymatou: Make) -> None:
    ymatou = make_ymatou()
    pushes = [Push(Sku(f"{n}"), (f"{n}" + "码" * 300,), n) for n in range(ymatou.most_per_call)]
    assert {outcome.kind for outcome in await ymatou.push_many(pushes, LONG)} == {Kind.APPLIED}
    assert simulator.state.count(YMATOU) == 100
    with pytest.raises(ValueError, match="101 SKUs in one call, at most 100"):
        await ymatou.push_many([PUSH] * 101, LONG)
    assert await ymatou.push_many([], LONG) == []
    assert simulator.stats.count(YMATOU) == 1


async def test_y14_a_wrong_clock_is_applied_for_a_call_of_many_too(
    simulator: Simulator, make_ymatou: Make
) -> None:
    shift_marketplace_clock(simulator, 660)
    assert {outcome.kind for outcome in await make_ymatou().push_many(MANY, LONG)} == {Kind.APPLIED}
    assert simulator.stats.count(YMATOU) == 2


LIST = "ymatou.products.list.get"


def product(*skus: object, product_id: object = "P1") -> dict[str, object]:
    return {"product_id": product_id, "product_name": "杯子", "skus": list(skus)}


def held(outer_id: object = "393992", stock_num: object = 10, **more: object) -> dict[str, object]:
    return {"sku_id": "S1", "outer_id": outer_id, "stock_num": stock_num, "used": True, **more}


def page(*products: object, total: object = 1) -> bytes:
    return answer(content={"total_count": total, "product_infos": list(products)})


async def read(make: Make, body: bytes, number: int = 1) -> ReadPage | Outcome:
    """What a page comes to when its answer is `body`."""
    async with Scripted(reply(body)) as server:
        return await make(server.url).read_page(number, LONG)


@pytest.mark.parametrize(
    ("dialect", "line"),
    [
        ("path", f"POST /api/v1/{APP_ID}/{LIST} HTTP/1.1"),
        ("gateway", f"POST /apigateway/v1?app_id={APP_ID}&method={LIST} HTTP/1.1"),
    ],
)
async def test_y12_a_page_of_100_products_is_asked_for_by_number(
    make_ymatou: Make, dialect: str, line: str
) -> None:
    async with Scripted(reply(page(total=0))) as server:
        await make_ymatou(server.url, dialect=dialect).read_page(7, LONG)
        (request,) = server.requests
    body = json.loads(request.body)
    assert request.line == line
    assert body["biz_content"] == '{"page_no":7,"page_rows":100}'
    signature = body.pop("sign")
    assert signature == sign({**body, "app_id": APP_ID, "method": LIST}, YMATOU_DEMO.app_secret)


@pytest.mark.parametrize("dialect", ["path", "gateway"])
async def test_y12_all_numbers_are_read_back_page_by_page(
    simulator: Simulator, make_ymatou: Make, dialect: str
) -> None:
    change(simulator, unnamed_products=3)
    for n in range(250):
        simulator.state.put(YMATOU, f"码{n}", n)
    ymatou = make_ymatou(dialect=dialect)
    pages = [await ymatou.read_page(number, LONG) for number in (1, 2, 3, 4)]
    assert [p.products for p in pages if isinstance(p, ReadPage)] == [100, 100, 53, 0]
    assert {p.total for p in pages if isinstance(p, ReadPage)} == {253}
    skus = [sku for p in pages if isinstance(p, ReadPage) for sku in p.skus]
    assert [(sku.identifier, sku.quantity) for sku in skus[:250]] == [(f"码{n}", n) for n in range(250)]
    assert [sku.identifier for sku in skus[250:]] == [None] * 3, "some have no name of ours"
    assert simulator.stats.count(YMATOU, LIST) == 4


async def test_y12_every_sku_of_a_product_is_read_and_a_switched_off_one_says_so(make_ymatou: Make) -> None:
    body = page(
        product(held("a", 0), held("b", 7, used=False), held("a", 3)),
        product(product_id=12),
        product({"sku_id": "S", "stock_num": 5}, held(""), held(393992, used=None), product_id="P3"),
        total=3,
    )
    assert await read(make_ymatou, body) == ReadPage(
        3,
        3,
        (
            ReadSku("a", 0, "P1"),
            ReadSku("b", 7, "P1", is_used=False),
            ReadSku("a", 3, "P1"),
            ReadSku(None, 5, "P3"),
            ReadSku(None, 10, "P3"),
            ReadSku("393992", 10, "P3"),
        ),
    )


@pytest.mark.parametrize("number", ["10", 10.0, 10.5, None, True, [], {}, 2**31, -(2**31), 10**30])
async def test_y12_only_a_whole_number_is_a_quantity(make_ymatou: Make, number: object) -> None:
    assert await read(make_ymatou, page(product(held(stock_num=number)))) == ReadPage(
        1, 1, (ReadSku("393992", None, "P1"),)
    )


async def test_y12_a_number_below_zero_is_what_the_marketplace_holds(make_ymatou: Make) -> None:
    found = await read(make_ymatou, page(product(held(stock_num=-3))))
    assert isinstance(found, ReadPage)
    assert found.skus[0].quantity == -3


async def test_y12_a_page_without_products_may_be_null_only_where_none_is_left(make_ymatou: Make) -> None:
    empty = answer(content={"total_count": 0, "product_infos": None})
    assert await read(make_ymatou, empty) == ReadPage(0, 0, ())
    beyond = answer(content={"total_count": 100, "product_infos": None})
    assert await read(make_ymatou, beyond, 2) == ReadPage(100, 0, ())
    found = await read(make_ymatou, beyond, 1)
    assert isinstance(found, Outcome)
    assert found.kind is Kind.UNKNOWN


@pytest.mark.parametrize(
    "body",
    [
        answer(),
        answer(content=[]),
        answer(content={}),
        answer(content={"total_count": 1}),
        answer(content={"product_infos": []}),
        page(total="1"),
        page(total=None),
        page(total=1.0),
        page(total=True),
        page(total=-1),
        page(total=2**31),
        page(product(*[{}] * 25_001)),
        page(*[product(held())] * 101, total=101),
    ],
)
async def test_y12_a_page_of_other_types_than_printed_is_no_page(make_ymatou: Make, body: bytes) -> None:
    found = await read(make_ymatou, body)
    assert isinstance(found, Outcome)
    assert found.kind is Kind.UNKNOWN
    assert found.reason.startswith("0000, but this is no page of products: ")


MALFORMED: list[tuple[object, str]] = [
    (None, "a product is no object"),
    ("P1", "a product is no object"),
    ({"product_id": "P1"}, "a product's skus are no list"),
    ({"product_id": "P1", "skus": None}, "a product's skus are no list"),
    ({"product_id": "P1", "skus": {}}, "a product's skus are no list"),
    ({"skus": []}, "a product has no product_id"),
    (product(product_id=None), "a product has no product_id"),
    (product(product_id=1.5), "product_id is no text"),
    (product(held(), product_id="x" * 501), "product_id has 501 characters"),
    (product(None), "a SKU is no object"),
    (product("393992"), "a SKU is no object"),
    (product(held([])), "outer_id is no text"),
    (product(held(1.5)), "outer_id is no text"),
    (product(held("码" * 501)), "outer_id has 501 characters"),
    (product(held("a\0b")), "outer_id holds a character that is none"),
    (product(held("a\ud800")), "outer_id holds a character that is none"),
    (product(held(used=1)), "a SKU's used is neither true nor false"),
    (product(held(used="true")), "a SKU's used is neither true nor false"),
]


@pytest.mark.parametrize(("malformed", "problem"), MALFORMED)
async def test_y12_a_malformed_product_or_sku_is_set_aside_and_the_rest_is_read(
    make_ymatou: Make, malformed: object, problem: str
) -> None:
    body = page(product(held("a", 1)), malformed, product(held("b", 2), product_id="P2"), total=3)
    assert await read(make_ymatou, body) == ReadPage(
        3, 3, (ReadSku("a", 1, "P1"), ReadSku("b", 2, "P2")), set_aside=1, problem=problem
    )


async def test_y12_a_malformed_sku_leaves_the_others_of_its_product(make_ymatou: Make) -> None:
    found = await read(make_ymatou, page(product(held("a", 1), held({}), held([]), held("b", 2))))
    assert found == ReadPage(
        1, 1, (ReadSku("a", 1, "P1"), ReadSku("b", 2, "P1")), set_aside=2, problem="outer_id is no text"
    )


@pytest.mark.parametrize("dialect", ["path", "gateway"])
async def test_y12_an_app_that_may_not_read_is_refused_for_good(
    simulator: Simulator, make_ymatou: Make, dialect: str
) -> None:
    change(simulator, read_back=False)
    ymatou = make_ymatou(dialect=dialect)
    found = await ymatou.read_page(1, LONG)
    assert isinstance(found, Outcome)
    assert (found.kind, found.trouble) == (Kind.REFUSED, None)
    assert "products.list.get" in found.advice
    assert (await ymatou.push(PUSH, LONG)).kind is Kind.APPLIED, "that is no trouble of the channel"


@pytest.mark.parametrize(
    ("code", "kind", "trouble"),
    [
        ("0001", Kind.UNKNOWN, None),
        ("0002", Kind.TROUBLE, Trouble.CREDENTIAL),
        ("0003", Kind.TROUBLE, Trouble.CLOCK),
        ("0004", Kind.TROUBLE, Trouble.SIGNATURE),
        ("0005", Kind.REFUSED, None),
        ("0006", Kind.UNKNOWN, None),
        ("0009", Kind.UNKNOWN, None),
        ("1001", Kind.UNKNOWN, None),
        ("7777", Kind.UNKNOWN, None),
    ],
)
async def test_y12_only_0005_says_that_this_app_may_not_read(
    make_ymatou: Make, code: str, kind: Kind, trouble: Trouble | None
) -> None:
    with capture_logs() as lines:
        found = await read(make_ymatou, answer(code, "失败", {"product_infos": []}))
    assert isinstance(found, Outcome)
    assert (found.kind, found.trouble, found.reason) == (kind, trouble, f"{code} 失败")
    rejected = [line for line in lines if line["event"] == "marketplace.reply_rejected"]
    assert len(rejected) == (code in {"0001", "0006", "1001"})


async def test_y12_a_wrong_clock_is_measured_and_the_page_asked_for_once_more(
    simulator: Simulator, make_ymatou: Make
) -> None:
    shift_marketplace_clock(simulator, 660)
    assert isinstance(await make_ymatou().read_page(1, LONG), ReadPage)
    assert simulator.stats.count(YMATOU, LIST) == 2


@pytest.mark.parametrize("kind", ["garbage", "reset_before", "reset_after", "status", "drip", "bomb"])
async def test_y12_a_broken_reply_is_no_page(simulator: Simulator, make_ymatou: Make, kind: str) -> None:
    own: dict[str, dict[str, object]] = {"status": {"status": 500}, "garbage": {"shape": "truncated"}}
    fault = {"kind": kind, "shop": "ymatou", "endpoint": LIST, **own.get(kind, {})}
    simulator.faults.add(FAULT.validate_python(fault))
    found = await make_ymatou().read_page(1, timedelta(seconds=1))
    assert isinstance(found, Outcome)
    assert found.kind is Kind.UNKNOWN


async def test_y12_a_long_page_fits_and_one_without_end_is_cut(make_ymatou: Make) -> None:
    more = {"extra_info": None, "price": 10.0, "properties": [{"name": "颜色", "value": "红" * 20}]}
    products = [product(*[held(f"{p}-{n}", n, **more) for n in range(200)]) for p in range(100)]
    body = page(*products, total=100)
    assert 4_000_000 < len(body) < 8_000_000
    found = await read(make_ymatou, body)
    assert isinstance(found, ReadPage)
    assert len(found.skus) == 20_000
    found = await read(make_ymatou, body + b" " * 8_000_000)
    assert isinstance(found, Outcome)
    assert found.kind is Kind.UNKNOWN
    assert "longer than 8388608 bytes" in found.reason


async def test_y13_every_attempt_has_a_nonce_of_its_own(simulator: Simulator, make_ymatou: Make) -> None:
    ymatou = make_ymatou()
    await asyncio.gather(*(ymatou.push(PUSH, LONG) for _ in range(200)))
    shift_marketplace_clock(simulator, 3_600)
    assert (await ymatou.push(PUSH, LONG)).kind is Kind.APPLIED, "the second attempt is not a replay"
    assert simulator.stats.duplicate_nonces == 0


@pytest.mark.parametrize("offset_s", [-660, 660, 86_000])
async def test_y14_a_wrong_clock_is_measured_applied_and_the_call_made_once_more(
    simulator: Simulator, make_ymatou: Make, offset_s: float
) -> None:
    shift_marketplace_clock(simulator, offset_s)
    ymatou = make_ymatou()
    assert (await ymatou.push(PUSH, LONG)).kind is Kind.APPLIED
    assert simulator.stats.count(YMATOU) == 2
    for _ in range(5):
        assert (await ymatou.push(PUSH, LONG)).kind is Kind.APPLIED
    assert simulator.stats.count(YMATOU) == 7, "the offset stays applied"
    shift_marketplace_clock(simulator, 0)
    assert (await ymatou.push(PUSH, LONG)).kind is Kind.APPLIED, "and is measured again when it is wrong"


async def test_y14_a_clock_that_steps_back_by_itself_is_followed(make_ymatou: Make) -> None:
    wrong = timedelta(minutes=11)
    ymatou = make_ymatou(now=lambda: clock.now() + wrong)
    assert (await ymatou.push(PUSH, LONG)).kind is Kind.APPLIED
    wrong = timedelta(minutes=-11)
    assert (await ymatou.push(PUSH, LONG)).kind is Kind.APPLIED


async def test_y14_a_second_refusal_is_a_matter_of_the_clock(simulator: Simulator, make_ymatou: Make) -> None:
    fault = {"kind": "message", "shop": "ymatou", "code": "0003", "message": "非法请求时间"}
    simulator.faults.add(FAULT.validate_python(fault))
    outcome = await make_ymatou().push(PUSH, LONG)
    assert (outcome.kind, outcome.trouble) == (Kind.TROUBLE, Trouble.CLOCK)
    assert "NTP" in outcome.advice
    assert simulator.stats.count(YMATOU) == 2


@pytest.mark.parametrize(
    "date",
    [
        None,
        "yesterday",
        "Thu, 99 Foo 9999 99:99:99 GMT",
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "Fri, 31 Dec 9999 23:59:59 -2359",
        "Mon, 01 Jan 0001 00:00:00 +2359",
        "Sat, 28 Nov 1970 12:00:00 GMT",
        "Sat, 28 Nov 2026 12:00:00 GMT" + " " * 70 + "x",
    ],
)
async def test_y14_without_a_usable_date_there_is_nothing_to_apply(
    make_ymatou: Make, date: str | None
) -> None:
    headers = {"Date": date} if date else {}
    async with Scripted(reply(answer("0003"), **headers)) as server:
        ymatou = make_ymatou(server.url)
        outcome = await ymatou.push(PUSH, LONG)
        assert len(server.requests) == 1
        assert outcome.trouble is Trouble.CLOCK
        server.answers = [DONE]
        assert (await ymatou.push(PUSH, LONG)).kind is Kind.APPLIED, "and nothing of it is left"


async def test_y14_an_offset_that_does_not_help_is_forgotten(make_ymatou: Make) -> None:
    there = datetime.now(UTC) + timedelta(hours=23)
    refused = reply(answer("0003"), Date=format_datetime(there, usegmt=True))
    async with Scripted(refused) as server:
        ymatou = make_ymatou(server.url)
        assert (await ymatou.push(PUSH, LONG)).trouble is Trouble.CLOCK
        server.answers = [DONE]
        assert (await ymatou.push(PUSH, LONG)).kind is Kind.APPLIED
        hours = [datetime.fromisoformat(json.loads(r.body)["timestamp"]) for r in server.requests]
    assert [round((at - hours[0]) / timedelta(hours=1)) for at in hours] == [0, 23, 0]


async def test_y14_an_offset_that_is_refused_without_a_date_gives_way_to_this_machines_clock(
    make_ymatou: Make,
) -> None:
    there = datetime.now(UTC) + timedelta(hours=5)
    refused = reply(answer("0003"), Date=format_datetime(there, usegmt=True))
    async with Scripted(refused, DONE, reply(answer("0003")), DONE) as server:
        ymatou = make_ymatou(server.url)
        assert (await ymatou.push(PUSH, LONG)).kind is Kind.APPLIED
        assert (await ymatou.push(PUSH, LONG)).kind is Kind.APPLIED
        hours = [datetime.fromisoformat(json.loads(r.body)["timestamp"]) for r in server.requests]
    assert [round((at - hours[0]) / timedelta(hours=1)) for at in hours] == [0, 5, 5, 0]


async def test_y14_an_offset_above_30_s_is_reported_every_time_it_changes(make_ymatou: Make) -> None:
    offset_s = 0.0

    async def told(seconds: float) -> list[float]:
        nonlocal offset_s
        offset_s = seconds
        date = format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)
        server.answers = [reply(answer(), Date=date)]
        with capture_logs() as lines:
            await ymatou.push(PUSH, LONG)
        return [line["offset_s"] for line in lines if line["event"] == "marketplace.clock_offset_changed"]

    async with Scripted(DONE) as server:
        ymatou = make_ymatou(server.url)
        assert await told(20) == []
        assert await told(100) == [pytest.approx(100, abs=2)]
        assert await told(102) == [], "that is the measurement's own noise"
        assert await told(-100) == [pytest.approx(-100, abs=2)]
        assert await told(1) == [pytest.approx(1, abs=2)], "that it is gone is a change too"
        assert await told(-1) == []


async def test_y14_the_offset_is_not_applied_while_the_marketplace_takes_our_time(make_ymatou: Make) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(hours=5), usegmt=True)
    async with Scripted(reply(answer(), Date=date)) as server:
        ymatou = make_ymatou(server.url)
        await ymatou.push(PUSH, LONG)
        await ymatou.push(PUSH, LONG)
        stamp = datetime.fromisoformat(json.loads(server.requests[1].body)["timestamp"])
    here = datetime.now(UTC).replace(tzinfo=None) + timedelta(hours=8)
    assert abs(stamp - here) < timedelta(seconds=5)


async def test_y15_a_long_outer_sku_id_is_sent_as_no_limit_is_printed(make_ymatou: Make) -> None:
    ymatou = make_ymatou()
    name = "x" * 500
    assert SPEC.problem((name,)) is None
    assert (await ymatou.push(Push(Sku("a"), (name,), 1), LONG)).kind is Kind.APPLIED


async def test_y15_a_missing_outer_sku_id_is_named() -> None:
    assert SPEC.problem((None,)) == "outer_sku_id is missing"
    assert SPEC.problem(("  ",)) == "outer_sku_id holds blanks only"
