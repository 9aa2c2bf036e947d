"""The control interface, over HTTP."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from ipaddress import ip_address

import aiohttp
import pytest

from daemon.simulator import Simulator, SimulatorSettings, banner, serve
from daemon.simulator.marketplaces.sekorm import SekormShop
from daemon.simulator.marketplaces.ymatou.settings import YmatouShop
from tests.channels import SEKORM, YMATOU
from tests.simulator.clients import DEMO, Reply, SekormClient, YmatouClient, send

Control = Callable[..., Awaitable[Reply]]


@pytest.fixture
def control(simulator: Simulator, session: aiohttp.ClientSession) -> Control:
    async def call(method: str, path: str, body: str = "") -> Reply:
        kind = "application/json" if method == "POST" else None
        return await send(session, method, f"{simulator.url}/_sim/{path}", body.encode() or None, kind)

    return call


async def test_state_lists_every_product(
    control: Control, sekorm: SekormClient, ymatou: YmatouClient
) -> None:
    await sekorm.update(await sekorm.token(), "的", "AMS", 4)
    await ymatou.update("A", 5)
    reply = await control("GET", "state")
    held = {shop: numbers for shop, numbers in reply.json.items() if numbers}
    assert held == {
        "sekorm": [{"key": ["的", "AMS"], "quantity": 4}],
        "ymatou": [{"key": "A", "quantity": 5}],
    }
    assert (await control("GET", "state?shop=ymatou")).json.keys() == {"ymatou"}


async def test_state_can_be_set_behind_the_journal(simulator: Simulator, control: Control) -> None:
    body = '{"shop": "sekorm", "quantities": [{"key": ["A", "AMS"], "quantity": 9}]}'
    assert (await control("POST", "state", body)).json == {"set": 1}
    assert simulator.state.quantity(SEKORM, ("A", "AMS")) == 9
    assert len(simulator.journal) == 0
    wrong = await control("POST", "state", body.replace("sekorm", "ymatou"))
    assert (wrong.status, wrong.json["fields"][0]["field"]) == (400, "quantities.key")


async def test_a_product_can_be_taken_out(simulator: Simulator, control: Control) -> None:
    simulator.state.put(SEKORM, ("A", "AMS"), 9)
    body = '{"shop": "sekorm", "quantities": [{"key": ["A", "AMS"], "quantity": null}]}'
    for _ in range(2):
        assert (await control("POST", "state", body)).json == {"set": 1}
        assert simulator.state.of(SEKORM) == {}


async def test_journal_is_read_in_parts(control: Control, ymatou: YmatouClient) -> None:
    for number in range(5):
        await ymatou.update("A", number)
    reply = (await control("GET", "journal?since=2&limit=2&shop=ymatou")).json
    assert [entry["n"] for entry in reply["entries"]] == [3, 4]
    assert reply["last"] == 5
    assert reply["entries"][0].keys() == {
        *("n", "applied_at", "received_at", "shop", "key", "quantity", "request", "endpoint")
    }
    assert (await control("GET", "journal?shop=sekorm")).json["entries"] == []


async def test_stats_are_json(control: Control, sekorm: SekormClient) -> None:
    await sekorm.token()
    stats = (await control("GET", "stats")).json
    assert stats["requests"]["sekorm"] == {"getAccessToken": {"0": 1}}
    assert stats["token_calls"] == 1
    assert stats["overlaps"] == []


async def test_comparisons_are_listed(control: Control, sekorm: SekormClient) -> None:
    rows = [{"pnCode": "A", "brandName": "B", "stockQuantity": 1}]
    await sekorm.rows("stock/compare", await sekorm.token(), rows)
    (comparison,) = (await control("GET", "comparisons")).json["comparisons"]
    assert comparison["differences"] == [{"key": ["A", "B"], "sent": 1, "held": None}]


async def test_fault_is_set_listed_and_taken_back(control: Control, ymatou: YmatouClient) -> None:
    body = '{"kind": "status", "status": 500, "shop": "ymatou", "times": 2}'
    fault = (await control("POST", "faults", body)).json
    assert (await ymatou.update()).status == 500
    (listed,) = (await control("GET", "faults")).json["faults"]
    assert listed == fault | {"matched": 1, "triggered": 1}
    assert (await control("GET", f"faults/{fault['id']}")).json == listed
    assert (await control("DELETE", f"faults/{fault['id']}")).json == {"removed": 1, "released": 0}
    assert (await ymatou.update()).status == 200
    assert (await control("DELETE", f"faults/{fault['id']}")).status == 404
    assert (await control("DELETE", "faults")).json == {"removed": 0, "released": 0}


async def test_held_request_is_released(simulator: Simulator, control: Control, ymatou: YmatouClient) -> None:
    fault = (await control("POST", "faults", '{"kind": "hold", "key": "A"}')).json
    call = asyncio.create_task(ymatou.update("A", 1))
    await simulator.wait_until(lambda: simulator.faults[fault["id"]].held == 1)
    assert (await control("POST", f"faults/{fault['id']}/release")).json == {"released": 1}
    assert (await call).json["code"] == "0000"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ('{"kind": "delay", "seconds": 1, "secs": 2}', "delay.secs"),
        ('{"kind": "delay"}', "delay.seconds"),
        ('{"kind": "delay", "seconds": -1}', "delay.seconds"),
        ('{"kind": "status", "status": 500, "shop": "amazon"}', "status.shop"),
        (
            '{"kind": "status", "status": 500, "shop": "ymatou", "endpoint": "stock/compare"}',
            "status.endpoint",
        ),
        ('{"kind": "hold", "shop": "ymatou", "key": ["A", "B"]}', "hold.key"),
        ('{"kind": "hold", "shop": "sekorm", "key": "A"}', "hold.key"),
        ('{"kind": "hold", "times": 0}', "hold.times"),
        ('{"kind": "redirect", "location": "/", "status": 304}', "redirect.status"),
        ('{"kind": "garbage", "shape": "x"}', "garbage.shape"),
        ('{"kind": "message", "rows": 1}', "message"),
    ],
)
async def test_wrong_fault_is_refused_with_the_field(control: Control, body: str, field: str) -> None:
    reply = await control("POST", "faults", body)
    assert reply.status == 400
    assert [problem["field"] for problem in reply.json["fields"]] == [field]


@pytest.mark.parametrize("body", ["", "nonsense", "[]", '{"kind": "explode"}'])
async def test_body_that_is_no_fault_is_refused(control: Control, body: str) -> None:
    assert (await control("POST", "faults", body)).status == 400


async def test_config_is_merged_and_answered(simulator: Simulator, control: Control) -> None:
    body = (
        '{"shops": {"sekorm": {"disabled": true, "allowed_addresses": ["10.0.0.0/8"]}}, "clock_offset_s": 60}'
    )
    reply = (await control("POST", "config", body)).json
    assert reply["shops"]["sekorm"]["disabled"] is True
    assert reply["shops"]["sekorm"]["account"] == DEMO.of(SekormShop).account
    assert simulator.settings.clock_offset_s == 60
    assert (await control("GET", "config")).json == reply
    reply = (await control("POST", "config", '{"shops": {"sekorm": {"allowed_addresses": null}}}')).json
    assert reply["shops"]["sekorm"]["allowed_addresses"] is None


async def test_config_revokes_tokens(control: Control, sekorm: SekormClient) -> None:
    token = await sekorm.token()
    await control("POST", "config", '{"revoke_tokens": true}')
    assert (await sekorm.update(token)).json["msg"] == "no permission"


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("config", '{"shops": {"sekorm": {"acount": "x"}}}', "shops.sekorm.acount"),
        ("config", '{"offset": 1}', "offset"),
        ("config", '{"revoke_tokens": 1}', "revoke_tokens"),
        ("config", '{"shops": {"ymatou": 1}}', "shops.ymatou"),
        ("reset", '{"journals": true}', "journals"),
        ("state", '{"shop": "ymatou", "quantities": []}', "quantities"),
    ],
)
async def test_unknown_or_wrong_field_is_named(
    simulator: Simulator, control: Control, path: str, body: str, field: str
) -> None:
    reply = await control("POST", path, body)
    assert (reply.status, reply.json["fields"][0]["field"]) == (400, field)
    assert simulator.settings == SimulatorSettings()


@pytest.mark.parametrize("path", ["journal?sinse=1", "state?x=1", "stats?x=1", "faults?x=1", "config?x=1"])
async def test_unknown_query_field_is_named(control: Control, path: str) -> None:
    reply = await control("GET", path)
    assert reply.status == 400
    assert reply.json["fields"][0]["field"] in {"sinse", "x"}


async def test_reset_forgets_what_the_call_names(
    simulator: Simulator, control: Control, sekorm: SekormClient, ymatou: YmatouClient
) -> None:
    token = await sekorm.token()
    await ymatou.update("A", 1, nonce_str="n")
    await control("POST", "faults", '{"kind": "delay", "seconds": 0.001}')
    await control("POST", "reset", '{"state": false}')
    assert (len(simulator.journal), len(simulator.faults), simulator.stats.count()) == (0, 0, 0)
    assert simulator.state.of(YMATOU) == {"A": 1}
    assert (await sekorm.update(token)).json["code"] == 0
    assert (await ymatou.update("A", 2, nonce_str="n")).json["code"] == "0001"
    reply = await control("POST", "reset", '{"tokens": true, "nonces": true}')
    assert reply.json["reset"] == ["journal", "state", "stats", "faults", "tokens", "nonces"]
    assert simulator.state.of(YMATOU) == {}
    assert (await sekorm.update(token)).json["msg"] == "no permission"
    assert (await ymatou.update("A", 2, nonce_str="n")).json["code"] == "0000"


async def test_unknown_control_call_lists_what_there_is(control: Control) -> None:
    reply = await control("GET", "nothing")
    assert reply.status == 404
    assert "GET journal" in reply.json["error"]
    assert (await control("DELETE", "journal")).status == 405
    assert (await control("POST", "faults/x/release")).status == 404


async def test_unknown_path_is_not_found(simulator: Simulator, session: aiohttp.ClientSession) -> None:
    assert (await send(session, "GET", f"{simulator.url}/")).status == 404


async def test_control_calls_from_elsewhere_are_refused(session: aiohttp.ClientSession) -> None:
    # Bound to every address, and called over one that is not loopback.
    address = _own_address()
    if address is None:
        pytest.skip("this machine has no address but loopback")
    simulator = Simulator()
    url = (await simulator.start("0.0.0.0")).replace("0.0.0.0", address)
    try:
        assert (await send(session, "GET", f"{url}/_sim/stats")).status == 403
        simulator.configure(SimulatorSettings(control_from_anywhere=True))
        assert (await send(session, "GET", f"{url}/_sim/stats")).status == 200
    finally:
        await simulator.stop()


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("GET", {"Host": "attacker.example"}, 421),
        ("GET", {"Sec-Fetch-Site": "cross-site"}, 403),
        ("POST", {"Content-Type": "application/json", "Origin": "https://attacker.example"}, 403),
        ("POST", {"Content-Type": "text/plain"}, 415),
        ("POST", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ("POST", {}, 415),
        ("POST", {"Content-Type": "application/json; charset=utf-8", "Host": "localhost"}, 200),
    ],
)
async def test_a_web_page_can_neither_read_nor_work_the_controls(
    simulator: Simulator,
    session: aiohttp.ClientSession,
    method: str,
    headers: dict[str, str],
    status: int,
) -> None:
    simulator.state.put(YMATOU, "A", 1)
    path = "state" if method == "GET" else "reset"
    async with session.request(
        method, f"{simulator.url}/_sim/{path}", headers=headers, skip_auto_headers=["Content-Type"]
    ) as response:
        assert response.status == status
    assert simulator.state.count(YMATOU) == (0 if status == 200 else 1)


async def test_the_simulator_serves_until_the_stop_is_requested(session: aiohttp.ClientSession) -> None:
    stop, urls = asyncio.Event(), asyncio.Queue[str]()
    task = asyncio.create_task(serve("127.0.0.1", 0, SimulatorSettings(), stop, urls.put_nowait))
    url = await asyncio.wait_for(urls.get(), 5)
    assert (await send(session, "GET", f"{url}/_sim/stats")).status == 200
    stop.set()
    await asyncio.wait_for(task, 5)
    with pytest.raises(aiohttp.ClientConnectorError):
        await send(session, "GET", f"{url}/_sim/stats")


async def test_taken_port_is_an_error(simulator: Simulator) -> None:
    port = int(simulator.url.rsplit(":", 1)[1])
    with pytest.raises(OSError, match="in use"):
        await Simulator().start(port=port)


def _own_address() -> str | None:
    # Connecting a datagram socket sends nothing, but chooses the address it would send from.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        address = str(probe.getsockname()[0])
    return None if ip_address(address).is_loopback else address


def test_banner_shows_addresses_credentials_and_calls() -> None:
    text = banner("http://127.0.0.1:8080", DEMO)
    credentials = [DEMO.of(SekormShop).account, DEMO.of(YmatouShop).auth_code]
    wanted: list[str] = [*credentials, "/serviceGate", "curl", "/_sim/faults"]
    assert all(word in text for word in wanted)
