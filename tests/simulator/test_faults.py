"""Each kind of fault, as a raw client sees it."""

import asyncio
import contextlib
import gzip
import json
import zlib
from typing import Literal

import aiohttp
import pytest

from daemon.simulator import (
    Bomb,
    Delay,
    DelayAfter,
    Drip,
    Fault,
    Garbage,
    HoldRequest,
    Message,
    Oversized,
    Redirect,
    RefuseSku,
    ResetAfter,
    ResetBefore,
    Simulator,
    Status,
    Throttle,
)
from tests.channels import SEKORM, YMATOU
from tests.simulator.clients import SekormClient, YmatouClient

OUTSIDE = "http://127.0.0.1:1/elsewhere"


async def test_delay_applies_only_after_the_wait(simulator: Simulator, ymatou: YmatouClient) -> None:
    rule = simulator.faults.add(Delay(seconds=0.2))
    call = asyncio.create_task(ymatou.update("A", 1))
    await simulator.wait_until(lambda: rule.triggered == 1)
    assert len(simulator.journal) == 0
    assert (await call).json["code"] == "0000"
    (entry,) = simulator.journal
    assert entry.applied_at - entry.received_at >= 0.19


async def test_delay_after_applies_before_the_wait(simulator: Simulator, ymatou: YmatouClient) -> None:
    simulator.faults.add(DelayAfter(seconds=0.2))
    call = asyncio.create_task(ymatou.update("A", 1))
    await simulator.wait_for_journal(1)
    assert not call.done()
    assert (await call).json["code"] == "0000"


async def test_held_write_lands_on_release_after_a_newer_one(
    simulator: Simulator, ymatou: YmatouClient
) -> None:
    rule = simulator.faults.add(HoldRequest(shop="ymatou", key="A", times=1))
    old = asyncio.create_task(ymatou.update("A", 1))
    await simulator.wait_until(lambda: rule.held == 1)
    assert (await ymatou.update("A", 2)).json["code"] == "0000"
    assert simulator.faults.release(rule.id) == 1
    assert (await old).json["code"] == "0000"
    assert [entry.quantity for entry in simulator.journal] == [2, 1]
    assert simulator.state.quantity(YMATOU, "A") == 1


async def test_held_write_lands_though_its_client_has_gone(
    simulator: Simulator, ymatou: YmatouClient
) -> None:
    rule = simulator.faults.add(HoldRequest())
    call = asyncio.create_task(ymatou.update("A", 1))
    await simulator.wait_until(lambda: rule.held == 1)
    call.cancel()
    await simulator.wait_until(lambda: simulator.stats.in_flight == 0)
    rule.release()
    assert (await simulator.wait_for_journal(1)).quantity == 1


async def test_held_writes_land_in_the_order_of_arrival(simulator: Simulator, ymatou: YmatouClient) -> None:
    rule = simulator.faults.add(HoldRequest())
    calls = []
    for number in range(5):
        calls.append(asyncio.create_task(ymatou.update(f"S{number}", number)))
        await simulator.wait_until(lambda: rule.held == len(calls))
    simulator.faults.remove(rule.id)
    await asyncio.gather(*calls)
    assert [entry.quantity for entry in simulator.journal] == [0, 1, 2, 3, 4]


async def test_stopping_drops_what_is_held_or_delayed(session: aiohttp.ClientSession) -> None:
    simulator = Simulator()
    ymatou = YmatouClient(session, await simulator.start())
    simulator.faults.add(HoldRequest(key="A"))
    simulator.faults.add(Delay(key="B", seconds=60))
    calls = [asyncio.create_task(ymatou.update(sku)) for sku in ("A", "B")]
    await simulator.wait_until(lambda: sum(rule.triggered for rule in simulator.faults) == 2)
    async with asyncio.timeout(5):
        await simulator.stop()
    for call in calls:
        with pytest.raises(aiohttp.ClientConnectionError):
            await call
    assert len(simulator.journal) == 0


async def test_reset_before_sends_rst_and_applies_nothing(simulator: Simulator, ymatou: YmatouClient) -> None:
    simulator.faults.add(ResetBefore())
    with pytest.raises(aiohttp.ClientOSError, match="reset by peer"):
        await ymatou.update("A", 1)
    assert len(simulator.journal) == 0


async def test_reset_after_applies_and_sends_rst(simulator: Simulator, ymatou: YmatouClient) -> None:
    simulator.faults.add(ResetAfter())
    with pytest.raises(aiohttp.ClientOSError, match="reset by peer"):
        await ymatou.update("A", 1)
    assert [entry.quantity for entry in simulator.journal] == [1]
    assert simulator.stats.count(answer="reset_after") == 1


@pytest.mark.parametrize("apply", [True, False])
async def test_status_with_any_code_headers_and_body(
    simulator: Simulator, ymatou: YmatouClient, *, apply: bool
) -> None:
    simulator.faults.add(Status(status=502, headers={"X-Trace": "7"}, body="bad gateway", apply=apply))
    reply = await ymatou.update("A", 1)
    assert (reply.status, reply.headers["X-Trace"], reply.body) == (502, "7", b"bad gateway")
    assert len(simulator.journal) == apply


@pytest.mark.parametrize("status", [429, 503])
async def test_throttle_carries_retry_after(
    simulator: Simulator, ymatou: YmatouClient, status: Literal[429, 503]
) -> None:
    simulator.faults.add(Throttle(status=status, retry_after=17))
    reply = await ymatou.update("A", 1)
    assert (reply.status, reply.headers["Retry-After"]) == (status, "17")
    assert len(simulator.journal) == 0


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect_points_elsewhere(
    simulator: Simulator, ymatou: YmatouClient, status: Literal[301, 302, 303, 307, 308]
) -> None:
    simulator.faults.add(Redirect(status=status, location=OUTSIDE))
    reply = await ymatou.update("A", 1)
    assert (reply.status, reply.headers["Location"]) == (status, OUTSIDE)


async def test_garbage_html(simulator: Simulator, ymatou: YmatouClient) -> None:
    simulator.faults.add(Garbage(shape="html"))
    reply = await ymatou.update("A", 1)
    assert reply.status == 200
    assert reply.body.startswith(b"<html>")


async def test_garbage_empty(simulator: Simulator, ymatou: YmatouClient) -> None:
    simulator.faults.add(Garbage(shape="empty"))
    assert (await ymatou.update("A", 1)).body == b""


@pytest.mark.parametrize("shape", ["truncated", "not_utf8", "deep"])
async def test_garbage_that_is_not_json(
    simulator: Simulator, ymatou: YmatouClient, shape: Literal["truncated", "not_utf8", "deep"]
) -> None:
    simulator.faults.add(Garbage(shape=shape))
    reply = await ymatou.update("A", 1)
    assert reply.status == 200
    with pytest.raises((ValueError, RecursionError)):
        json.loads(reply.body)
    assert len(simulator.journal) == 1


async def test_garbage_wrong_types(simulator: Simulator, ymatou: YmatouClient) -> None:
    simulator.faults.add(Garbage(shape="wrong_types"))
    assert (await ymatou.update("A", 1)).json["code"] == [0]


async def test_garbage_array(simulator: Simulator, ymatou: YmatouClient) -> None:
    simulator.faults.add(Garbage(shape="array"))
    assert (await ymatou.update("A", 1)).json[0]["code"] == "0000"


async def test_garbage_code_of_the_other_type(
    simulator: Simulator, ymatou: YmatouClient, sekorm: SekormClient
) -> None:
    simulator.faults.add(Garbage(shape="other_code_type"))
    assert (await ymatou.update("A", 1)).json["code"] == 0
    assert (await sekorm.update("token")).json["code"] == "0"


async def test_garbage_cut_off_ends_inside_the_body(simulator: Simulator, ymatou: YmatouClient) -> None:
    simulator.faults.add(Garbage(shape="cut_off"))
    with pytest.raises(aiohttp.ClientPayloadError):
        await ymatou.update("A", 1)


async def test_garbage_huge_headers(simulator: Simulator, ymatou: YmatouClient) -> None:
    simulator.faults.add(Garbage(shape="huge_headers"))
    with pytest.raises(aiohttp.ClientResponseError):
        await ymatou.update("A", 1)


async def test_drip_sends_byte_by_byte(simulator: Simulator, ymatou: YmatouClient) -> None:
    simulator.faults.add(Drip(interval_s=0.002))
    url, fields = ymatou.address(ymatou.method), ymatou.fields(ymatou.method, '{"skuStocks":[]}')
    async with ymatou.session.post(url, json=fields) as response:
        pieces = [piece async for piece in response.content.iter_any()]
    assert len(pieces) > 10
    assert json.loads(b"".join(pieces))["code"] == "1001"


@pytest.mark.parametrize("fault", [Drip(interval_s=0.005), Oversized(megabytes=50)])
async def test_client_that_goes_during_a_long_answer_ends_it(
    simulator: Simulator, ymatou: YmatouClient, caplog: pytest.LogCaptureFixture, fault: Fault
) -> None:
    simulator.faults.add(fault)
    async with ymatou.session.post(ymatou.address(ymatou.method)) as response:
        await response.content.readany()
        response.close()
    await simulator.wait_until(lambda: simulator.stats.count(answer="client gone") == 1)
    assert caplog.records == []


async def test_oversized_body_is_as_long_as_asked(simulator: Simulator, ymatou: YmatouClient) -> None:
    simulator.faults.add(Oversized(megabytes=3))
    reply = await ymatou.update("A", 1)
    assert len(reply.body) > 3 * 1024 * 1024
    assert reply.json["code"] == "0000"


async def test_bomb_is_small_on_the_wire_and_large_inside(simulator: Simulator, sekorm: SekormClient) -> None:
    simulator.faults.add(Bomb(megabytes=20))
    url = f"{simulator.url}/serviceGate/stock/updQuantity"
    async with aiohttp.ClientSession(auto_decompress=False) as session, session.post(url) as response:
        packed = await response.read()
    assert response.headers["Content-Encoding"] == "gzip"
    assert len(packed) < 100_000
    assert len(gzip.decompress(packed)) > 20 * 1024 * 1024
    assert zlib.decompressobj(31).decompress(packed, 13) == b'{"code":0,"da'
    assert sekorm.url == simulator.url


async def test_message_with_unknown_words(
    simulator: Simulator, sekorm: SekormClient, ymatou: YmatouClient
) -> None:
    simulator.faults.add(Message(shop="sekorm", message="库存服务繁忙"))
    simulator.faults.add(Message(shop="ymatou", code="8888", message="未知"))
    assert (await sekorm.update("token")).json == {"code": -1, "msg": "库存服务繁忙", "data": None}
    assert (await ymatou.update()).json == {"code": "8888", "message": "未知", "content": None}
    assert len(simulator.journal) == 0


async def test_message_after_half_of_a_batch_was_applied(simulator: Simulator, sekorm: SekormClient) -> None:
    token = await sekorm.token()
    simulator.faults.add(Message(message="system error", apply=True, rows=2))
    rows = [{"pnCode": f"P{n}", "brandName": "AMS", "stockQuantity": n} for n in range(4)]
    assert (await sekorm.rows("pnarttnumber/pnStock", token, rows)).json["code"] == -1
    assert [entry.quantity for entry in simulator.journal] == [0, 1]


async def test_refuse_sku_refuses_that_one_alone(
    simulator: Simulator, sekorm: SekormClient, ymatou: YmatouClient
) -> None:
    token = await sekorm.token()
    simulator.faults.add(RefuseSku(shop="ymatou", key="B", message="已下架"))
    simulator.faults.add(RefuseSku(shop="sekorm", key=("B", "AMS")))
    reply = await ymatou.update_all([("A", 1), ("B", 2), ("C", 3)])
    assert [row["success"] for row in reply.json["content"]["results"]] == [True, False, True]
    assert reply.json["content"]["results"][1]["msg"] == "已下架"
    assert (await sekorm.update(token, "A")).json["code"] == 0
    assert (await sekorm.update(token, "B")).json["msg"] == "pn not found"
    assert simulator.state.of(YMATOU) == {"A": 1, "C": 3}
    assert simulator.state.of(SEKORM) == {("A", "AMS"): 1}


async def test_down_marketplace_drops_connections_and_the_other_goes_on(
    simulator: Simulator, sekorm: SekormClient, ymatou: YmatouClient
) -> None:
    rule = simulator.faults.add(HoldRequest(shop="ymatou"))
    call = asyncio.create_task(ymatou.update("A", 1))
    await simulator.wait_until(lambda: rule.held == 1)
    simulator.set_down(YMATOU)
    with pytest.raises(aiohttp.ClientConnectionError):
        await call
    with pytest.raises(aiohttp.ClientOSError, match="reset by peer"):
        await ymatou.update("A", 1)
    assert await sekorm.token()
    simulator.set_down(YMATOU, down=False)
    simulator.faults.clear()
    assert (await ymatou.update("B", 2)).json["code"] == "0000"


async def test_a_fault_applies_to_its_shop_endpoint_and_key_only(
    simulator: Simulator, sekorm: SekormClient, ymatou: YmatouClient
) -> None:
    simulator.faults.add(Status(shop="sekorm", endpoint="stock/updQuantity", key=("A", "AMS"), status=500))
    token = await sekorm.token()
    statuses = [(await sekorm.update(token, pn)).status for pn in ("B", "A")]
    assert [*statuses, (await ymatou.update("A")).status] == [200, 500, 200]


async def test_fault_spares_the_first_and_stops_after_its_times(
    simulator: Simulator, ymatou: YmatouClient
) -> None:
    simulator.faults.add(Status(status=500, after=2, times=3))
    statuses = [(await ymatou.update()).status for _ in range(7)]
    assert statuses == [200, 200, 500, 500, 500, 200, 200]


async def test_probability_is_repeatable_with_a_seed(simulator: Simulator, ymatou: YmatouClient) -> None:
    runs = []
    for _ in range(2):
        rule = simulator.faults.add(Status(status=500, probability=0.5, seed=7))
        runs.append([(await ymatou.update()).status for _ in range(40)])
        simulator.faults.remove(rule.id)
    assert runs[0] == runs[1]
    assert 5 < runs[0].count(500) < 35


async def test_steps_combine_with_one_answer(simulator: Simulator, ymatou: YmatouClient) -> None:
    simulator.faults.add(Delay(seconds=0.05))
    simulator.faults.add(ResetAfter(times=1))
    simulator.faults.add(Status(status=500))
    with pytest.raises(aiohttp.ClientOSError, match="reset by peer"):
        await ymatou.update("A", 1)
    assert (await ymatou.update("A", 2)).status == 500
    (entry,) = simulator.journal
    assert entry.applied_at - entry.received_at >= 0.04


@pytest.mark.parametrize("fault", [ResetAfter(), Garbage(), Drip(interval_s=0.001), DelayAfter(seconds=0.01)])
async def test_fault_applies_nothing_that_a_clause_forbids(
    simulator: Simulator, ymatou: YmatouClient, fault: Fault
) -> None:
    simulator.faults.add(fault)
    with contextlib.suppress(aiohttp.ClientOSError):
        await ymatou.update("A", 1, auth_code="wrong")
    assert len(simulator.journal) == 0
