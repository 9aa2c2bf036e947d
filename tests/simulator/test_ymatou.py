"""Ymatou's clauses at the simulator: each one kept is accepted, each one broken is refused."""

import json
from email.utils import parsedate_to_datetime

import pytest

from daemon import clock
from daemon.simulator import Simulator, SimulatorSettings
from daemon.simulator.marketplaces.ymatou import sign
from daemon.simulator.marketplaces.ymatou.settings import YmatouShop
from tests.channels import YMATOU
from tests.simulator.clients import DEMO, YmatouClient, beijing, send

COMMON = {
    "app_id": "zWYVVFagTfenOHDPTm",
    "auth_code": "UkeV6CUfk8OKKv1UkjEmfBDU75ZjunA0",
    "sign_method": "MD5",
    "timestamp": "2017-01-01 12:00:00",
    "nonce_str": "3g3jJVfI9CWwKMr45x9SkB0gbi9kAn28",
}
SECRET = "cvxEvN7q2ixmN6Y8DFRJmuP79H2zxctK"
PUBLISHED = (
    '{"sku_stocks": [{"outer_sku_id":"393992","stock_num":10},{"outer_sku_id":"393993","stock_num":12}]}'
)


def configure(simulator: Simulator, **changes: object) -> None:
    simulator.configure(SimulatorSettings().changed(YMATOU, **changes))


async def test_y01_path_dialect_takes_its_method(simulator: Simulator, ymatou: YmatouClient) -> None:
    assert (await ymatou.update("393992", 10)).json["code"] == "0000"
    assert simulator.state.of(YMATOU) == {"393992": 10}
    (entry,) = simulator.journal
    assert (entry.shop, entry.endpoint) == (YMATOU, "ymatou.skus.stock.update")


async def test_y01_other_content_types_are_refused(ymatou: YmatouClient) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/json; charset=gbk"):
        fields = ymatou.fields(ymatou.method, {"skuStocks": []})
        assert (await ymatou.post(ymatou.method, fields, kind)).json["code"] == "0001"


async def test_y01_body_that_is_not_utf8_json_is_refused(either: YmatouClient) -> None:
    for body in (b"", b"{", b"[]", b'"x"', b'{"sign":"\xff"}'):
        reply = await send(either.session, "POST", either.address(either.method), body, "application/json")
        assert reply.json["code"] == "0001"


async def test_y01_only_post_is_taken(either: YmatouClient) -> None:
    assert (await send(either.session, "GET", either.address(either.method))).status == 405


async def test_y02_gateway_dialect_takes_its_method(simulator: Simulator, ymatou: YmatouClient) -> None:
    ymatou.dialect = "gateway"
    assert (await ymatou.update("393992", 10)).json["code"] == "0000"
    (entry,) = simulator.journal
    assert entry.endpoint == "ymatou.sku.stock.update"


@pytest.mark.parametrize(
    "name", ["sign_method", "auth_code", "timestamp", "sign", "nonce_str", "biz_content"]
)
@pytest.mark.parametrize("value", [None, "", 1])
async def test_y03_field_that_is_missing_empty_or_no_string_is_named(
    either: YmatouClient, name: str, value: object
) -> None:
    fields = either.fields(either.method, {"skuStocks": []})
    if value is None:
        del fields[name]
    else:
        fields[name] = value
    reply = await either.post(either.method, fields)
    assert reply.json["code"] == "0001"
    assert name in reply.json["message"]


@pytest.mark.parametrize(
    "changes",
    [
        {"auth_code": "x" * 33},
        {"nonce_str": "x" * 33},
        {"sign": "A" * 31},
        {"sign": "A" * 33},
        {"sign_method": "md5"},
        {"sign_method": "HMAC"},
        {"extra": "1"},
    ],
)
async def test_y03_field_of_wrong_length_or_value_is_refused(
    either: YmatouClient, changes: dict[str, str]
) -> None:
    assert (await either.update(**changes)).json["code"] == "0001"


@pytest.mark.parametrize(
    "timestamp",
    [
        "2017-01-01T12:00:00",
        "2017-01-01 12:00",
        "2017-1-1 12:00:00",
        "2017-01-01 12:00:00.0",
        "2017-13-01 12:00:00",
    ],
)
async def test_y03_timestamp_has_exactly_19_characters(either: YmatouClient, timestamp: str) -> None:
    assert (await either.update(timestamp=timestamp)).json["code"] == "0001"


async def test_y03_timestamp_is_beijing_time(either: YmatouClient) -> None:
    assert (await either.update(timestamp=beijing(-8 * 3600))).json["code"] == "0003"
    assert (await either.update(timestamp=beijing())).json["code"] == "0000"


@pytest.mark.parametrize(("offset_s", "code"), [(-595, "0000"), (595, "0000"), (-605, "0003"), (605, "0003")])
async def test_y04_timestamp_is_accepted_within_ten_minutes(
    either: YmatouClient, offset_s: int, code: str
) -> None:
    assert (await either.update(timestamp=beijing(offset_s))).json["code"] == code


async def test_y04_marketplace_clock_can_be_off(simulator: Simulator, either: YmatouClient) -> None:
    simulator.configure(SimulatorSettings(clock_offset_s=660))
    assert (await either.update()).json["code"] == "0003"
    assert (await either.update(timestamp=beijing(660))).json["code"] == "0000"


@pytest.mark.parametrize(
    "content",
    [
        "nonsense",
        "[]",
        '"x"',
        {},
        {"skuStocks": {}},
        {"skuStocks": []},
        {"skuStocks": [1]},
        {"skuStocks": [{"outer_sku_id": "A"}]},
        {"skuStocks": [{"outer_sku_id": "A", "stock_num": "1"}]},
        {"skuStocks": [{"outer_sku_id": "A", "stock_num": 1.0}]},
        {"skuStocks": [{"outer_sku_id": "A", "stock_num": True}]},
        {"skuStocks": [{"outer_sku_id": 1, "stock_num": 1}]},
        {"skuStocks": [{"outer_sku_id": "A", "stock_num": 1, "x": 1}]},
        {"sku_stocks": [{"outer_sku_id": "A", "stock_num": 1}]},
        {"skuStocks": [{"outer_sku_id": "A", "stock_num": 1}], "more": 1},
    ],
)
async def test_y05_y10_content_of_wrong_shape_is_1001(
    simulator: Simulator, ymatou: YmatouClient, content: object
) -> None:
    assert (await ymatou.call(ymatou.method, content)).json["code"] == "1001"
    assert len(simulator.journal) == 0


@pytest.mark.parametrize("content", ["nonsense", {"skuStocks": [{"outer_sku_id": "A", "stock_num": 1}]}])
async def test_y06_y10_content_of_wrong_shape_is_0006_in_the_gateway_dialect(
    ymatou: YmatouClient, content: object
) -> None:
    ymatou.dialect = "gateway"
    assert (await ymatou.call(ymatou.method, content)).json["code"] == "0006"


@pytest.mark.parametrize("number", [-1, 2**31])
async def test_y06_number_below_zero_or_too_large_is_refused(either: YmatouClient, number: int) -> None:
    assert (await either.update(number=number)).json["code"] == "0001"


def test_y07_published_vector_without_content() -> None:
    values = COMMON | {"method": "ymatou.skus.stock.update"}
    assert sign(values, SECRET) == "AC153D8C7F8D0EFEB1BA55177DEA2031"
    assert sign(values | {"biz_content": ""}, SECRET) == "AC153D8C7F8D0EFEB1BA55177DEA2031"


def test_y07_published_vector_with_content() -> None:
    values = COMMON | {"method": "ymatou.sku.stock.update", "biz_content": PUBLISHED}
    assert sign(values, SECRET) == "C33DFF4D1A70C9223434DF6ED11635EB"


async def test_y07_published_request_is_accepted_at_its_own_time(
    simulator: Simulator, ymatou: YmatouClient
) -> None:
    moment = parsedate_to_datetime("Sun, 01 Jan 2017 04:00:00 GMT").timestamp()
    simulator.configure(SimulatorSettings(clock_offset_s=moment - clock.now().timestamp()))
    ymatou.dialect = "gateway"
    fields = {name: COMMON[name] for name in ("auth_code", "sign_method", "timestamp", "nonce_str")}
    fields |= {"biz_content": PUBLISHED, "sign": "C33DFF4D1A70C9223434DF6ED11635EB"}
    assert (await ymatou.post("ymatou.sku.stock.update", fields)).json["code"] == "0000"
    assert simulator.state.of(YMATOU) == {"393992": 10, "393993": 12}


async def test_y07_wrong_signature_is_refused(simulator: Simulator, either: YmatouClient) -> None:
    fields = either.fields(either.method, {"skuStocks": []})
    assert (await either.post(either.method, fields | {"sign": fields["sign"].lower()})).json[
        "code"
    ] == "0004"
    assert (await either.update(sign="A" * 32)).json["code"] == "0004"
    assert simulator.stats.signature_failures == 2


@pytest.mark.parametrize("signed_as", ["other", DEMO.of(YmatouShop).app_id])
async def test_y07_app_id_of_the_url_is_signed_and_known(
    simulator: Simulator, either: YmatouClient, signed_as: str
) -> None:
    fields = either.fields(either.method, {"skuStocks": []}, app_id=signed_as)
    url = either.address(either.method, "other")
    reply = await send(either.session, "POST", url, json.dumps(fields).encode(), "application/json")
    assert reply.json["code"] == "0004"
    assert simulator.stats.signature_failures == 1


async def test_y07_method_of_the_url_is_signed(ymatou: YmatouClient) -> None:
    fields = ymatou.fields("ymatou.products.list.get", {"page_no": 1, "page_rows": 1})
    assert (await ymatou.post(ymatou.method, fields)).json["code"] == "0004"


async def test_y08_signed_content_is_the_one_that_came(ymatou: YmatouClient) -> None:
    content = '{"skuStocks": [{"outer_sku_id":"的","stock_num":1}]}'
    fields = ymatou.fields(ymatou.method, content)
    assert (await ymatou.post(ymatou.method, fields)).json["code"] == "0000"
    fields = ymatou.fields(ymatou.method, content)
    fields["biz_content"] = content.replace(": [", ":[")
    assert (await ymatou.post(ymatou.method, fields)).json["code"] == "0004"


async def test_y09_answer_has_code_message_and_content(either: YmatouClient) -> None:
    good, bad = await either.update(), await either.update(auth_code="wrong")
    assert good.json.keys() == bad.json.keys() == {"code", "message", "content"}
    assert good.json["message"] is None
    assert bad.json == {"code": "0002", "message": "非法授权码", "content": None}


@pytest.mark.parametrize("method", ["ymatou.skus.stock.updates", "ymatou.sku.stock.update"])
async def test_y10_unknown_method_of_the_path_dialect_is_0005(ymatou: YmatouClient, method: str) -> None:
    assert (await ymatou.call(method, {"skuStocks": []})).json["code"] == "0005"


async def test_y10_method_of_the_path_dialect_is_unknown_at_the_gateway(ymatou: YmatouClient) -> None:
    ymatou.dialect = "gateway"
    assert (await ymatou.call("ymatou.skus.stock.update", {"sku_stocks": []})).json["code"] == "0005"


async def test_y11_every_sku_has_a_result(simulator: Simulator, either: YmatouClient) -> None:
    configure(simulator, strict=True, catalogue=("A",))
    reply = await either.update_all([("A", 1), ("B", 2)])
    assert reply.json["code"] == "0000"
    assert reply.json["content"] == {
        "results": [
            {"outer_sku_id": "A", "success": True, "msg": "成功"},
            {"outer_sku_id": "B", "success": False, "msg": "商品不存在"},
        ]
    }
    assert simulator.state.of(YMATOU) == {"A": 1}


async def test_y11_results_can_be_left_out(simulator: Simulator, either: YmatouClient) -> None:
    configure(simulator, omit_results=True, strict=True, catalogue=("A",))
    assert (await either.update("A")).json == {"code": "0000", "message": None, "content": None}
    assert (await either.update("B")).json["code"] == "0001"


async def test_y12_numbers_are_read_back_in_pages(simulator: Simulator, either: YmatouClient) -> None:
    configure(simulator, catalogue=("A", "B"), unnamed_products=1)
    await either.update_all([("B", 5), ("C", 7)])
    seen: dict[str | None, int] = {}
    for page in (1, 2, 3):
        reply = await either.call("ymatou.products.list.get", {"page_no": page, "page_rows": 2})
        content = reply.json["content"]
        assert content["total_count"] == 4
        assert len(content["product_infos"]) == {1: 2, 2: 2, 3: 0}[page]
        for product in content["product_infos"]:
            seen.update({sku["outer_id"]: sku["stock_num"] for sku in product["skus"]})
    assert seen == {"A": 0, "B": 5, "C": 7, None: 0}
    wanted = {"page_no": 1, "page_rows": 100, "productid_list": ["P00000002"]}
    reply = await either.call("ymatou.products.list.get", wanted)
    assert [product["skus"][0]["outer_id"] for product in reply.json["content"]["product_infos"]] == ["B"]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ({"page_no": 0, "page_rows": 1}, "0001"),
        ({"page_no": 1, "page_rows": 0}, "0001"),
        ({"page_no": 1, "page_rows": 101}, "0001"),
        ({"page_no": 1, "page_rows": 1, "productid_list": ["P"] * 101}, "0001"),
        ({"page_no": 1, "page_rows": 1, "productid_list": [1]}, "1001"),
        ({"page_no": "1", "page_rows": 1}, "1001"),
        ({"page_no": 1}, "1001"),
        ({"page_no": 1, "page_rows": 1, "x": 1}, "1001"),
    ],
)
async def test_y12_page_outside_its_limits_is_refused(
    ymatou: YmatouClient, content: object, code: str
) -> None:
    assert (await ymatou.call("ymatou.products.list.get", content)).json["code"] == code


async def test_y12_products_hold_as_many_skus_as_set_some_twice_some_switched_off(
    simulator: Simulator, ymatou: YmatouClient
) -> None:
    configure(simulator, skus_per_product=2, duplicated=("B",), unused=("C",), unnamed_products=1)
    await ymatou.update_all([("A", 1), ("B", 2), ("C", 3)])
    content = (await ymatou.call("ymatou.products.list.get", {"page_no": 1, "page_rows": 2})).json["content"]
    assert content["total_count"] == 3
    products = content["product_infos"]
    content = (await ymatou.call("ymatou.products.list.get", {"page_no": 2, "page_rows": 2})).json["content"]
    products += content["product_infos"]
    assert [product["product_id"] for product in products] == ["P00000001", "P00000002", "P00000003"]
    skus = [[(s["outer_id"], s["stock_num"], s["used"]) for s in product["skus"]] for product in products]
    assert skus == [[("A", 1, True), ("B", 2, True)], [("C", 3, False), ("B", 2, True)], [(None, 0, True)]]


async def test_y12_what_comes_and_goes_between_pages_is_listed_so(
    simulator: Simulator, ymatou: YmatouClient
) -> None:
    async def listed() -> list[str]:
        reply = await ymatou.call("ymatou.products.list.get", {"page_no": 1, "page_rows": 100})
        return [p["skus"][0]["outer_id"] for p in reply.json["content"]["product_infos"]]

    await ymatou.update_all([("A", 1), ("B", 2)])
    assert await listed() == ["A", "B"]
    await ymatou.update("C", 3)
    simulator.state.remove(YMATOU, "A")
    assert await listed() == ["B", "C"]
    simulator.reset()
    assert await listed() == []


async def test_y12_reading_back_can_be_withheld(simulator: Simulator, either: YmatouClient) -> None:
    configure(simulator, read_back=False)
    reply = await either.call("ymatou.products.list.get", {"page_no": 1, "page_rows": 1})
    assert reply.json["code"] == "0005"


async def test_y13_nonce_is_taken_once(simulator: Simulator, either: YmatouClient) -> None:
    nonce = "n" * 32
    assert (await either.update(number=1, nonce_str=nonce)).json["code"] == "0000"
    reply = await either.update(number=2, nonce_str=nonce)
    assert reply.json["code"] == "0001"
    assert "nonce_str" in reply.json["message"]
    assert simulator.stats.duplicate_nonces == 1
    assert simulator.state.of(YMATOU) == {"393992": 1}


async def test_y13_nonce_of_a_forged_request_stays_free(ymatou: YmatouClient) -> None:
    assert (await ymatou.update(nonce_str="n", sign="A" * 32)).json["code"] == "0004"
    assert (await ymatou.update(nonce_str="n")).json["code"] == "0000"


async def test_y13_nonces_are_forgotten_after_their_window(
    simulator: Simulator, ymatou: YmatouClient
) -> None:
    assert (await ymatou.update(nonce_str="n")).json["code"] == "0000"
    simulator.configure(SimulatorSettings(clock_offset_s=1_202))
    assert (await ymatou.update(nonce_str="n", timestamp=beijing(1_202))).json["code"] == "0000"


async def test_y13_number_of_remembered_nonces_is_bounded(simulator: Simulator, ymatou: YmatouClient) -> None:
    simulator.configure(SimulatorSettings(nonce_limit=2))
    for nonce in ("a", "b", "c", "d", "e"):
        assert (await ymatou.update(nonce_str=nonce)).json["code"] == "0000"
    assert simulator.stats.nonces_forgotten == 2
    assert (await ymatou.update(nonce_str="a")).json["code"] == "0000"
    assert (await ymatou.update(nonce_str="e")).json["code"] == "0001"


@pytest.mark.parametrize("offset_s", [0, 660, -86_400])
async def test_y14_date_header_is_the_marketplace_clock(
    simulator: Simulator, either: YmatouClient, offset_s: int
) -> None:
    simulator.configure(SimulatorSettings(clock_offset_s=offset_s))
    reply = await either.update()
    shown = parsedate_to_datetime(reply.headers["Date"])
    assert abs((shown - clock.now()).total_seconds() - offset_s) < 3


@pytest.mark.parametrize("sku", ["", " "])
async def test_y15_outer_sku_id_is_required(either: YmatouClient, sku: str) -> None:
    assert (await either.update(sku)).json["code"] == "0001"


async def test_y15_outer_sku_id_has_no_length(simulator: Simulator, either: YmatouClient) -> None:
    assert (await either.update("洋" * 300, 2)).json["code"] == "0000"
    assert simulator.state.quantity(YMATOU, "洋" * 300) == 2


def test_credentials_are_the_published_ones() -> None:
    assert (DEMO.of(YmatouShop).app_id, DEMO.of(YmatouShop).auth_code) == (
        COMMON["app_id"],
        COMMON["auth_code"],
    )
    assert DEMO.of(YmatouShop).app_secret == SECRET
