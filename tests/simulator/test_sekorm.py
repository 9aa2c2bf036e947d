"""Sekorm's clauses at the simulator: each one kept is accepted, each one broken is refused."""

import json
from ipaddress import ip_network
from typing import Any
from urllib.parse import urlencode

import pytest

from daemon.simulator import RefuseSku, Simulator, SimulatorSettings
from daemon.simulator.marketplaces.sekorm import SekormShop
from tests.channels import SEKORM
from tests.simulator.clients import DEMO, FORM, SekormClient

OK = {"code": 0, "msg": "OK", "data": None}


def failed(text: str) -> dict[str, Any]:
    return {"code": -1, "msg": text, "data": None}


def configure(simulator: Simulator, **changes: object) -> None:
    simulator.configure(SimulatorSettings().changed(SEKORM, **changes))


async def test_s02_token_is_given_to_post_and_get(sekorm: SekormClient) -> None:
    assert await sekorm.token()
    query = f"accessToken={DEMO.of(SekormShop).account}&appSecret={DEMO.of(SekormShop).app_secret}"
    reply = await sekorm.raw(f"getAccessToken?{query}", b"", method="GET")
    assert reply.json["code"] == 0
    # A secret in the URL of a POST is not read.
    reply = await sekorm.raw(f"getAccessToken?{query}", b"")
    assert reply.json == failed("accessToken is required")


async def test_s02_account_parameter_can_have_another_name(
    simulator: Simulator, sekorm: SekormClient
) -> None:
    configure(simulator, account_parameter="account")
    reply = await sekorm.form(
        "getAccessToken", account=DEMO.of(SekormShop).account, appSecret=DEMO.of(SekormShop).app_secret
    )
    assert reply.json["code"] == 0
    assert (await sekorm.form("getAccessToken", accessToken="x", appSecret="y")).json["code"] == -1


@pytest.mark.parametrize(
    ("account", "secret"), [("SP-OTHER", DEMO.of(SekormShop).app_secret), (DEMO.of(SekormShop).account, "no")]
)
async def test_s02_wrong_account_or_secret_is_refused(
    sekorm: SekormClient, account: str, secret: str
) -> None:
    reply = await sekorm.form("getAccessToken", accessToken=account, appSecret=secret)
    assert reply.json == failed("no permission")


async def test_s03_token_answer_has_the_validity_in_seconds(sekorm: SekormClient) -> None:
    reply = await sekorm.form(
        "getAccessToken", accessToken=DEMO.of(SekormShop).account, appSecret=DEMO.of(SekormShop).app_secret
    )
    assert reply.status == 200
    assert reply.json["msg"] == "ok"
    assert reply.json["data"]["expiresIn"] == 3600


async def test_s04_token_serves_until_it_expires(simulator: Simulator, sekorm: SekormClient) -> None:
    configure(simulator, token_dies_after_s=0.05)
    token = await sekorm.token()
    replies = []
    for quantity in range(1_000):
        replies.append((await sekorm.update(token, quantity=quantity)).json)
        if replies[-1] != OK:
            break
    assert replies[0] == OK
    assert replies[-1] == failed("no permission")
    assert simulator.stats.token_calls == 1


async def test_s04_older_token_serves_beside_a_newer_one_unless_configured(
    simulator: Simulator, sekorm: SekormClient
) -> None:
    first, second = await sekorm.token(), await sekorm.token()
    assert (await sekorm.update(first)).json == (await sekorm.update(second)).json == OK
    configure(simulator, newest_token_only=True)
    third = await sekorm.token()
    assert (await sekorm.update(second)).json == failed("no permission")
    assert (await sekorm.update(third)).json == OK


async def test_s04_revoked_token_is_refused(simulator: Simulator, sekorm: SekormClient) -> None:
    token = await sekorm.token()
    simulator.revoke_tokens()
    assert (await sekorm.update(token)).json == failed("no permission")


async def test_s05_disabled_account_gets_the_printed_answer_that_is_not_json(
    simulator: Simulator, sekorm: SekormClient
) -> None:
    configure(simulator, disabled=True)
    reply = await sekorm.form(
        "getAccessToken", accessToken=DEMO.of(SekormShop).account, appSecret=DEMO.of(SekormShop).app_secret
    )
    assert reply.body == b'{"code":-1,msg:"sp already forbidden",data:null}'
    with pytest.raises(json.JSONDecodeError):
        json.loads(reply.body)


async def test_s06_disabled_account_is_refused_on_every_interface(
    simulator: Simulator, sekorm: SekormClient
) -> None:
    token = await sekorm.token()
    configure(simulator, disabled=True)
    assert (await sekorm.update(token)).json == failed("sp already forbidden")
    assert simulator.state.of(SEKORM) == {}


async def test_s07_address_that_is_not_listed_is_refused_before_all_else(
    simulator: Simulator, sekorm: SekormClient
) -> None:
    token = await sekorm.token()
    configure(simulator, allowed_addresses=(ip_network("10.0.0.0/8"),))
    assert (await sekorm.update(token)).json == failed("ip invalid")
    assert (await sekorm.raw("getAccessToken", b"nonsense")).json == failed("ip invalid")
    assert (await sekorm.update("wrong", "x" * 51)).json == failed("ip invalid")
    configure(simulator, allowed_addresses=(ip_network("127.0.0.1"),))
    assert (await sekorm.update("wrong", "x" * 51)).json == failed("no permission")
    assert (await sekorm.update(token)).json == OK


async def test_s08_batch_is_applied_in_order(simulator: Simulator, sekorm: SekormClient) -> None:
    token = await sekorm.token()
    rows = [
        {"pnCode": "ABCDE", "brandName": "AMS", "stockQuantity": 1000},
        {"pnCode": "1211LL的ON2", "brandName": "AMS", "stockQuantity": 0},
    ]
    assert (await sekorm.rows("pnarttnumber/pnStock", token, rows)).json == OK
    assert simulator.state.of(SEKORM) == {("ABCDE", "AMS"): 1000, ("1211LL的ON2", "AMS"): 0}
    assert [entry.key for entry in simulator.journal] == [("ABCDE", "AMS"), ("1211LL的ON2", "AMS")]
    assert {entry.endpoint for entry in simulator.journal} == {"pnarttnumber/pnStock"}


GOOD_ROW = {"pnCode": "A", "brandName": "B", "stockQuantity": 1}


@pytest.mark.parametrize(
    "rows",
    [
        [],
        {},
        "text",
        [1],
        [{**GOOD_ROW, "stockQuantity": "1"}],
        [{**GOOD_ROW, "stockQuantity": 1.0}],
        [{**GOOD_ROW, "stockQuantity": True}],
        [{**GOOD_ROW, "stockQuantity": -1}],
        [{**GOOD_ROW, "stockQuantity": None}],
        [{"pnCode": "A", "brandName": "B"}],
        [{**GOOD_ROW, "more": 1}],
        [{**GOOD_ROW, "pnCode": "x" * 51}],
        [GOOD_ROW, {**GOOD_ROW, "brandName": ""}],
    ],
)
@pytest.mark.parametrize("endpoint", ["pnarttnumber/pnStock", "stock/compare"])
async def test_s08_s12_batch_of_wrong_shape_is_refused_whole(
    simulator: Simulator, sekorm: SekormClient, endpoint: str, rows: object
) -> None:
    token = await sekorm.token()
    reply = await sekorm.rows(endpoint, token, rows)
    assert reply.json["code"] == -1
    assert len(simulator.journal) == 0


async def test_s08_batch_text_that_is_not_json_is_refused(sekorm: SekormClient) -> None:
    reply = await sekorm.form("pnarttnumber/pnStock", accessToken=await sekorm.token(), data="[{")
    assert reply.json == failed("data is not JSON")


async def test_s09_single_update_is_applied(simulator: Simulator, sekorm: SekormClient) -> None:
    token = await sekorm.token()
    assert (await sekorm.update(token, "LM358", "AMS", 7)).json == OK
    assert simulator.state.quantity(SEKORM, ("LM358", "AMS")) == 7


@pytest.mark.parametrize("missing", ["accessToken", "pnCode", "brandName", "stockQuantity"])
async def test_s09_missing_parameter_is_named(sekorm: SekormClient, missing: str) -> None:
    values: dict[str, object] = {
        "accessToken": await sekorm.token(),
        "pnCode": "LM358",
        "brandName": "AMS",
        "stockQuantity": 1,
    }
    del values[missing]
    assert (await sekorm.form("stock/updQuantity", **values)).json == failed(f"{missing} is required")


async def test_s09_unknown_or_repeated_parameter_is_refused(sekorm: SekormClient) -> None:
    token = urlencode({"accessToken": await sekorm.token()})
    body = f"{token}&pnCode=L&brandName=A&stockQuantity=1".encode()
    assert (await sekorm.raw("stock/updQuantity", body + b"&qty=1")).json == failed("unknown parameter qty")
    assert (await sekorm.raw("stock/updQuantity", body + b"&pnCode=M")).json == failed(
        "a parameter occurs twice"
    )


async def test_s09_only_post_is_taken(sekorm: SekormClient) -> None:
    assert (await sekorm.raw("stock/updQuantity", b"", method="GET")).status == 405
    assert (await sekorm.raw("stock/other", b"")).status == 404


async def test_s09_token_longer_than_100_is_refused(sekorm: SekormClient) -> None:
    reply = await sekorm.update("x" * 101)
    assert reply.json == failed("accessToken must be a string of at most 100 characters")


async def test_s10_non_ascii_part_number_is_utf8(simulator: Simulator, sekorm: SekormClient) -> None:
    token = await sekorm.token()
    assert (await sekorm.update(token, "1211LL的ON2", "洋码头", 3)).json == OK
    assert simulator.state.quantity(SEKORM, ("1211LL的ON2", "洋码头")) == 3


@pytest.mark.parametrize("value", ["%B5%C4", "%FF", "\u7684"])
async def test_s10_other_encodings_are_refused(sekorm: SekormClient, value: str) -> None:
    # GBK, a stray byte, and UTF-8 that is not percent-encoded.
    token = (await sekorm.token()).replace("+", "%2B").replace("/", "%2F").replace("=", "%3D")
    body = f"accessToken={token}&pnCode={value}&brandName=AMS&stockQuantity=1".encode()
    assert (await sekorm.raw("stock/updQuantity", body)).json == failed(
        "parameters must be percent-encoded UTF-8"
    )


async def test_s11_tokens_hold_plus_slash_and_equals(sekorm: SekormClient) -> None:
    tokens = [await sekorm.token() for _ in range(20)]
    assert all(set("+/=") <= set(token) and len(token) <= 100 for token in tokens)


async def test_s11_token_with_a_bare_plus_is_not_recognised(sekorm: SekormClient) -> None:
    token = await sekorm.token()
    body = f"accessToken={token}&pnCode=LM358&brandName=AMS&stockQuantity=1".encode()
    assert (await sekorm.raw("stock/updQuantity", body)).json == failed("no permission")


async def test_s12_comparison_applies_nothing_and_keeps_what_differs(
    simulator: Simulator, sekorm: SekormClient
) -> None:
    token = await sekorm.token()
    await sekorm.update(token, "A", "B", 5)
    rows = [GOOD_ROW, {"pnCode": "C", "brandName": "D", "stockQuantity": 2}]
    assert (await sekorm.rows("stock/compare", token, rows)).json["code"] == -1
    assert simulator.state.of(SEKORM) == {("A", "B"): 5}
    (comparison,) = simulator.comparisons
    assert [(d.key, d.sent, d.held) for d in comparison.differences] == [
        (("A", "B"), 1, 5),
        (("C", "D"), 2, None),
    ]


TOLD = {"pnCode": "A", "brandName": "B", "stockQuantity": 1}


@pytest.mark.parametrize(
    ("how", "message", "data"),
    [
        ("message", "data incorrect: A B, C D", None),
        ("rows", "data incorrect", [TOLD, {"pnCode": "C", "brandName": "D", "stockQuantity": 2}]),
        ("text", "data incorrect", ...),
        ("names", "data incorrect", ["A", "C"]),
        ("code", "data incorrect", None),
    ],
)
async def test_s12_how_differences_are_named_is_a_setting(
    simulator: Simulator, sekorm: SekormClient, how: str, message: str, data: object
) -> None:
    configure(simulator, compare=how)
    token = await sekorm.token()
    await sekorm.update(token, "E", "F", 5)
    same = {"pnCode": "E", "brandName": "F", "stockQuantity": 5}
    rows = [TOLD, {"pnCode": "C", "brandName": "D", "stockQuantity": 2}, same]
    answer = (await sekorm.rows("stock/compare", token, rows)).json
    if data is ...:
        assert json.loads(answer.pop("data")) == rows[:2]
        data = answer["data"] = None
    assert answer == {"code": -1, "msg": message, "data": data}
    assert simulator.stats.requests[SEKORM, "stock/compare", "-1 data incorrect"] == 1
    assert (await sekorm.rows("stock/compare", token, [same])).json == OK


async def test_s12_a_silent_marketplace_agrees_with_all_numbers(
    simulator: Simulator, sekorm: SekormClient
) -> None:
    configure(simulator, compare="silent")
    assert (await sekorm.rows("stock/compare", await sekorm.token(), [TOLD])).json == OK
    (comparison,) = simulator.comparisons
    assert len(comparison.differences) == 1


async def test_s12_a_refused_product_always_differs(simulator: Simulator, sekorm: SekormClient) -> None:
    token = await sekorm.token()
    await sekorm.update(token, "A", "B", 1)
    simulator.faults.add(RefuseSku(shop="sekorm", endpoint="stock/compare", key=("A", "B"), message="no"))
    assert (await sekorm.rows("stock/compare", token, [TOLD])).json == failed("no: A B")


async def test_s13_stock_calls_answer_the_printed_success(sekorm: SekormClient) -> None:
    reply = await sekorm.update(await sekorm.token())
    assert reply.body == b'{"code":0,"msg":"OK","data":null}'


@pytest.mark.parametrize(
    "kind", ["application/json", "text/plain", "application/x-www-form-urlencoded; charset=gbk"]
)
async def test_s14_body_of_another_kind_is_refused(sekorm: SekormClient, kind: str) -> None:
    assert (await sekorm.raw("stock/updQuantity", b"a=b", kind)).json["code"] == -1


async def test_s14_json_bodies_are_taken_only_when_configured(
    simulator: Simulator, sekorm: SekormClient
) -> None:
    token = await sekorm.token()
    configure(simulator, body="json")
    values = {"accessToken": token, "pnCode": "的", "brandName": "AMS", "stockQuantity": 4}
    body = json.dumps(values, ensure_ascii=False).encode()
    assert (await sekorm.raw("stock/updQuantity", body, "application/json; charset=utf-8")).json == OK
    assert simulator.state.quantity(SEKORM, ("的", "AMS")) == 4
    assert (await sekorm.raw("stock/updQuantity", b"a=b", FORM)).json["code"] == -1
    assert (await sekorm.raw("stock/updQuantity", b"[]", "application/json")).json["code"] == -1
    assert (await sekorm.raw("stock/updQuantity", b'{"a":"\xff"}', "application/json")).json["code"] == -1


@pytest.mark.parametrize("field", ["pn", "brand"])
async def test_s15_fifty_characters_pass_and_one_more_does_not(sekorm: SekormClient, field: str) -> None:
    token = await sekorm.token()
    assert (await sekorm.update(token, **{field: "的" * 50})).json == OK
    name = {"pn": "pnCode", "brand": "brandName"}[field]
    assert (await sekorm.update(token, **{field: "x" * 51})).json == failed(
        f"{name} is longer than 50 characters"
    )
    assert (await sekorm.update(token, **{field: " "})).json == failed(f"{name} is required")


@pytest.mark.parametrize("quantity", ["-1", "1.0", "1e3", "", " 1", "+1", "007", "１", "ten", str(2**31)])
async def test_s16_quantity_that_is_no_non_negative_integer_is_refused(
    simulator: Simulator, sekorm: SekormClient, quantity: str
) -> None:
    reply = await sekorm.update(await sekorm.token(), quantity=quantity)
    assert reply.json == failed("stockQuantity must be an integer of at least 0")
    assert len(simulator.journal) == 0


@pytest.mark.parametrize("quantity", [0, 1, 2**31 - 1])
async def test_s16_non_negative_integer_is_taken(
    simulator: Simulator, sekorm: SekormClient, quantity: int
) -> None:
    assert (await sekorm.update(await sekorm.token(), quantity=quantity)).json == OK
    assert simulator.state.quantity(SEKORM, ("LM358", "AMS")) == quantity


async def test_strict_catalogue_refuses_unknown_products(simulator: Simulator, sekorm: SekormClient) -> None:
    configure(simulator, strict=True, catalogue=(("LM358", "AMS"),))
    token = await sekorm.token()
    assert (await sekorm.update(token, "LM358")).json == OK
    assert (await sekorm.update(token, "OTHER")).json == failed("pn not found")
    rows = [{"pnCode": pn, "brandName": "AMS", "stockQuantity": 9} for pn in ("LM358", "OTHER", "LM358")]
    assert (await sekorm.rows("pnarttnumber/pnStock", token, rows)).json == failed("pn not found")
    assert [entry.quantity for entry in simulator.journal] == [1, 9]
