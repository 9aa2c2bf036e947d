"""Several shops at one marketplace: each has credentials, numbers, faults and switches of its own."""

import json
from typing import Any

import aiohttp
import pytest

from daemon.simulator import Simulator, SimulatorSettings, Status
from daemon.simulator.faults import WrongFault
from daemon.simulator.marketplaces.sekorm import SekormShop
from daemon.simulator.marketplaces.ymatou.settings import YmatouShop
from tests.simulator.clients import SekormClient, YmatouClient, send


@pytest.fixture
def two(simulator: Simulator) -> Simulator:
    """Two shops at each of two marketplaces."""
    settings = simulator.settings.with_shop("tokyo", "ymatou").with_shop("shenzhen", "sekorm")
    simulator.configure(settings)
    return simulator


async def _send(two: Simulator, ymatou: YmatouClient, shop: str, **changes: object) -> Any:  # noqa: ANN401 - JSON
    """Send a number with the credentials of a shop, but for `changes`; return the answer's code."""
    credentials = two.settings.of(YmatouShop, shop)
    content = {"skuStocks": [{"outer_sku_id": "A", "stock_num": 5}]}
    fields = ymatou.fields(ymatou.method, content, auth_code=credentials.auth_code, **changes)
    return (await ymatou.post(ymatou.method, fields)).json["code"]


async def test_a_number_goes_to_the_shop_whose_credentials_it_carries(
    two: Simulator, ymatou: YmatouClient
) -> None:
    assert await _send(two, ymatou, "tokyo") == "0000"
    assert (two.state.of("tokyo"), two.state.of("ymatou")) == ({"A": 5}, {})
    assert [entry.shop for entry in two.journal] == ["tokyo"]
    assert two.stats.count("tokyo") == 1


async def test_the_authorisation_of_another_application_is_refused(
    two: Simulator, ymatou: YmatouClient
) -> None:
    two.change("tokyo", app_id="another-app", app_secret="another-secret")
    assert await _send(two, ymatou, "tokyo") == "0002"
    assert two.state.of("tokyo") == {}


@pytest.mark.usefixtures("two")
async def test_an_authorisation_that_no_shop_has_is_refused(ymatou: YmatouClient) -> None:
    fields = ymatou.fields(ymatou.method, {"skuStocks": []}, auth_code="x" * 32)
    assert (await ymatou.post(ymatou.method, fields)).json["code"] == "0002"


async def test_a_token_is_that_of_the_account_that_asked_for_it(two: Simulator, sekorm: SekormClient) -> None:
    account = two.settings.of(SekormShop, "shenzhen")
    reply = await sekorm.form("getAccessToken", accessToken=account.account, appSecret=account.app_secret)
    assert (await sekorm.update(reply.json["data"]["accessToken"], "LM358", "AMS", 7)).json["code"] == 0
    assert (two.state.of("shenzhen"), two.state.of("sekorm")) == ({("LM358", "AMS"): 7}, {})
    mixed = await sekorm.form(
        "getAccessToken", accessToken=account.account, appSecret=two.settings.of(SekormShop).app_secret
    )
    assert mixed.json == {"code": -1, "msg": "no permission", "data": None}


async def test_faults_and_switches_are_one_shops(two: Simulator, ymatou: YmatouClient) -> None:
    two.faults.add(Status(shop="tokyo", status=500, times=1))
    assert await _send(two, ymatou, "ymatou") == "0000"
    two.set_down("tokyo")
    with pytest.raises(aiohttp.ClientError):
        await _send(two, ymatou, "tokyo")
    assert await _send(two, ymatou, "ymatou") == "0000"


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"shop": "kyoto"}, "shop"),
        ({"shop": "tokyo", "endpoint": "stock/updQuantity"}, "endpoint"),
        ({"shop": "tokyo", "key": ("A", "B")}, "key"),
    ],
)
def test_a_fault_that_no_request_can_trigger_is_refused(
    two: Simulator, values: dict[str, Any], field: str
) -> None:
    with pytest.raises(WrongFault) as caught:
        two.faults.add(Status(status=500, **values))
    assert caught.value.field == field


async def test_a_shop_comes_and_goes_by_a_control_call(
    two: Simulator, session: aiohttp.ClientSession
) -> None:
    url = f"{two.url}/_sim/config"
    body = json.dumps({"shops": {"kobe": {"marketplace": "webhook"}}}).encode()
    reply = await send(session, "POST", url, body, "application/json")
    assert reply.json["shops"]["kobe"]["secret"] != reply.json["shops"]["webhook"]["secret"]
    wrong = json.dumps({"shops": {"kobe": {"marketplace": "amazon"}}}).encode()
    reply = await send(session, "POST", url, wrong, "application/json")
    assert (reply.status, reply.json["fields"][0]["field"]) == (400, "shops.kobe.marketplace")


def test_every_marketplace_has_one_shop_of_its_name_unless_others_are_set() -> None:
    shops = SimulatorSettings().shops
    assert {name: shop.marketplace for name, shop in shops.items()} == {name: name for name in shops}
