"""Sekorm, clause by clause: against the simulator, and byte for byte where the wire itself is the clause."""

import asyncio
import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from urllib.parse import parse_qsl

import pytest

from daemon import clock
from daemon.core.outcome import Kind, Outcome, Trouble
from daemon.core.readback import Comparison
from daemon.core.types import Push, Sku
from daemon.marketplaces.sekorm import SPEC
from daemon.marketplaces.sekorm.client import SekormClient
from daemon.marketplaces.sekorm.settings import SekormSettings
from daemon.simulator import Simulator
from daemon.simulator.faults import FAULT
from tests.channels import SEKORM
from tests.marketplaces.conftest import LONG
from tests.marketplaces.memory import MemoryTokens
from tests.marketplaces.scripted import Scripted, reply

PRINTED_TOKEN = "sgOQYs6UKqp/6EUP6e7QEgzcbYgow2KMYveuQnjHtKVeUIh0rJ0DrJE9/X5A0lohTQ7o37JbrOTeHsYbdpOPMw=="
PRINTED_GRANT = json.dumps(
    {"code": 0, "msg": "ok", "data": {"expiresIn": 3600, "accessToken": PRINTED_TOKEN}}
).encode()
PRINTED_FAILURE = b'{"code":-1,msg:"sp already forbidden",data:null}'
DONE = reply(b'{"code":0,"msg":"OK","data":null}')
GRANT = reply(PRINTED_GRANT)
PUSH = Push(Sku("a"), ("1211LL的ON2", "AMS"), 100)

Make = Callable[..., SekormClient]


def change(simulator: Simulator, **values: object) -> None:
    simulator.configure(simulator.settings.changed("sekorm", **values))


def message(simulator: Simulator, text: str, times: int | None = None, **values: object) -> None:
    fault = {"kind": "message", "shop": "sekorm", "endpoint": "stock/updQuantity", "message": text}
    simulator.faults.add(FAULT.validate_python(fault | {"times": times} | values))


async def answered(make: Make, body: bytes) -> Outcome:
    """What a push comes to when its answer is `body`."""
    async with Scripted(GRANT, reply(body)) as server:
        return await make(server.url, MemoryTokens()).push(PUSH, LONG)


def test_s01_the_default_address_is_as_printed_with_four_ws() -> None:
    assert SekormSettings(enabled=False).base_url == "https://wwww.sekorm.com/serviceGate"


async def test_s02_the_token_is_asked_for_by_post_with_the_account_under_its_odd_name(
    make_sekorm: Make,
) -> None:
    async with Scripted(GRANT, DONE) as server:
        await make_sekorm(server.url).push(PUSH, LONG)
        call = server.requests[0]
    assert call.line == "POST /serviceGate/getAccessToken HTTP/1.1", "no secret in the address"
    assert dict(parse_qsl(call.body.decode())) == {
        "accessToken": "SP-DEMO-0001",
        "appSecret": "demo-secret-8Kq2mVx4",
    }


async def test_s02_the_accounts_parameter_can_be_renamed(simulator: Simulator, make_sekorm: Make) -> None:
    change(simulator, account_parameter="account")
    assert (await make_sekorm(account_parameter="account").push(PUSH, LONG)).kind is Kind.APPLIED


async def test_s03_the_printed_grant_is_understood_and_its_validity_is_in_seconds(
    make_sekorm: Make, tokens: MemoryTokens
) -> None:
    async with Scripted(GRANT, DONE) as server:
        assert (await make_sekorm(server.url).push(PUSH, LONG)).kind is Kind.APPLIED
    assert tokens.value == PRINTED_TOKEN
    assert 3590 < tokens.expires_at - clock.monotonic() <= 3600


@pytest.mark.parametrize(
    "grant",
    [
        {"expiresIn": 0, "accessToken": "abc"},
        {"expiresIn": -5, "accessToken": "abc"},
        {"expiresIn": "soon", "accessToken": "abc"},
        {"expiresIn": None, "accessToken": "abc"},
        {"expiresIn": True, "accessToken": "abc"},
        {"expiresIn": 12.5, "accessToken": "abc"},
        {"expiresIn": [], "accessToken": "abc"},
        {"accessToken": "abc"},
        {"expiresIn": 3600},
        {"expiresIn": 3600, "accessToken": ""},
        {"expiresIn": 3600, "accessToken": " "},
        {"expiresIn": 3600, "accessToken": None},
        {"expiresIn": 3600, "accessToken": 12345},
        {"expiresIn": 3600, "accessToken": "a\nb"},
        {"expiresIn": 3600, "accessToken": "\ud800"},
        {"expiresIn": 3600, "accessToken": "x" * 101},
        [],
        [[]],
        [{"expiresIn": 3600, "accessToken": "abc"}] * 2,
        [[{"expiresIn": 3600, "accessToken": "abc"}]],
        None,
        "token",
    ],
)
async def test_s03_a_grant_that_makes_no_sense_is_none_and_nothing_is_sent(
    make_sekorm: Make, tokens: MemoryTokens, grant: object
) -> None:
    body = json.dumps({"code": 0, "msg": "ok", "data": grant}).encode()
    async with Scripted(reply(body)) as server:
        outcome = await make_sekorm(server.url).push(PUSH, LONG)
        assert len(server.requests) == 1
    assert (outcome.kind, outcome.trouble) == (Kind.NOT_SENT, Trouble.UNREACHABLE)
    assert outcome.reason.startswith("no token: ")
    assert tokens.value is None


async def test_s03_a_grant_in_a_list_is_read_as_the_table_has_it(
    make_sekorm: Make, tokens: MemoryTokens
) -> None:
    body = json.dumps({"code": 0, "msg": "ok", "data": [{"expiresIn": 60, "accessToken": "abc"}]}).encode()
    async with Scripted(reply(body), DONE) as server:
        assert (await make_sekorm(server.url).push(PUSH, LONG)).kind is Kind.APPLIED
    assert tokens.value == "abc"


@pytest.mark.parametrize(("expires_in", "valid_s"), [(10**30, 86_400), ("3600", 3600), (1, 1)])
async def test_s03_an_odd_validity_is_bounded(
    make_sekorm: Make, tokens: MemoryTokens, expires_in: object, valid_s: int
) -> None:
    data = {"expiresIn": expires_in, "accessToken": "abc"}
    async with Scripted(reply(json.dumps({"code": 0, "data": data}).encode()), DONE) as server:
        assert (await make_sekorm(server.url).push(PUSH, LONG)).kind is Kind.APPLIED
    assert valid_s - 1 < tokens.expires_at - clock.monotonic() <= valid_s


async def test_s04_one_token_serves_tasks_replicas_and_restarts(
    simulator: Simulator, make_sekorm: Make
) -> None:
    for _restart in range(3):
        replicas = [make_sekorm(), make_sekorm()]
        pushes = [replica.push(PUSH, LONG) for replica in replicas for _task in range(20)]
        assert {outcome.kind for outcome in await asyncio.gather(*pushes)} == {Kind.APPLIED}
    assert simulator.stats.token_calls == 1


async def test_s04_a_token_is_renewed_before_its_end_and_once_per_period(
    simulator: Simulator, make_sekorm: Make
) -> None:
    change(simulator, token_validity_s=1)
    sekorm = make_sekorm()
    began_at = clock.monotonic()
    while clock.monotonic() - began_at < 2.5:
        assert (await sekorm.push(PUSH, LONG)).kind is Kind.APPLIED
    assert simulator.stats.count(SEKORM, answer="-1 no permission") == 0, "it never ran out in use"
    assert 2 <= simulator.stats.token_calls <= 4


async def test_s05_the_printed_failure_is_read_although_it_is_not_json(
    simulator: Simulator, make_sekorm: Make
) -> None:
    change(simulator, disabled=True)
    outcome = await make_sekorm().push(PUSH, LONG)
    assert (outcome.kind, outcome.trouble) == (Kind.TROUBLE, Trouble.DISABLED)
    assert (await answered(make_sekorm, PRINTED_FAILURE)).trouble is Trouble.DISABLED


@pytest.mark.parametrize(
    "body",
    [
        b'{"code":0,msg:"OK",data:null}',
        b"{code:0,msg:\"OK\",data:null}",
        b'{"code":-1,msg:"sp already forbidden",data:nul',
        b'{"code":-1,msg:"sp already forbidden",data:null}{"code":0}',
        b'x{"code":-1,msg:"sp already forbidden",data:null}',
        b'{"code":-2,msg:"sp already forbidden",data:null}',
        b'{"code":-1,msg:"no permi\xff",data:null}',
    ],
)  # fmt: skip
async def test_s05_nothing_else_is_read_loosely(make_sekorm: Make, body: bytes) -> None:
    assert (await answered(make_sekorm, body)).kind is Kind.UNKNOWN


@pytest.mark.parametrize(
    ("text", "kind", "trouble"),
    [
        ("system error", Kind.UNKNOWN, None),
        ("sp already forbidden", Kind.TROUBLE, Trouble.DISABLED),
        ("SP already forbidden ", Kind.TROUBLE, Trouble.DISABLED),
        ("ip invalid", Kind.TROUBLE, Trouble.ADDRESS),
        ("IP Invalid", Kind.TROUBLE, Trouble.ADDRESS),
        ("no permission", Kind.TROUBLE, Trouble.CREDENTIAL),
        ("no permission for this brand", Kind.UNKNOWN, None),
        ("", Kind.UNKNOWN, None),
        ("ok", Kind.UNKNOWN, None),
    ],
)
async def test_s06_one_number_for_all_failures_the_message_decides(
    simulator: Simulator, make_sekorm: Make, text: str, kind: Kind, trouble: Trouble | None
) -> None:
    message(simulator, text)
    outcome = await make_sekorm().push(PUSH, LONG)
    assert (outcome.kind, outcome.trouble) == (kind, trouble)
    assert outcome.reason == f"-1 {text.strip()}".strip()
    assert bool(outcome.advice) is (kind is Kind.TROUBLE)


async def test_s06_no_permission_costs_one_new_token_and_one_retry_within_the_push(
    simulator: Simulator, make_sekorm: Make, tokens: MemoryTokens
) -> None:
    sekorm = make_sekorm()
    await sekorm.push(PUSH, LONG)
    simulator.revoke_tokens()
    assert (await sekorm.push(PUSH, LONG)).kind is Kind.APPLIED
    assert (simulator.stats.token_calls, tokens.invalidations) == (2, 1)
    assert simulator.stats.count(SEKORM, "stock/updQuantity") == 3


async def test_s06_no_permission_for_a_fresh_token_is_a_matter_of_the_credential(
    simulator: Simulator, make_sekorm: Make
) -> None:
    message(simulator, "no permission")
    outcome = await make_sekorm().push(PUSH, LONG)
    assert (outcome.kind, outcome.trouble) == (Kind.TROUBLE, Trouble.CREDENTIAL)
    assert "app_secret" in outcome.advice
    assert simulator.stats.token_calls == 2
    assert simulator.stats.count(SEKORM, "stock/updQuantity") == 2


async def test_s06_many_refused_at_once_ask_for_one_new_token(
    simulator: Simulator, make_sekorm: Make, tokens: MemoryTokens
) -> None:
    sekorm = make_sekorm()
    await sekorm.push(PUSH, LONG)
    simulator.revoke_tokens()
    outcomes = await asyncio.gather(*(sekorm.push(PUSH, LONG) for _ in range(50)))
    assert {outcome.kind for outcome in outcomes} == {Kind.APPLIED}
    assert (simulator.stats.token_calls, tokens.invalidations) == (2, 1)


async def test_s06_the_retry_keeps_to_the_deadline_of_the_push(
    simulator: Simulator, make_sekorm: Make
) -> None:
    sekorm = make_sekorm()
    await sekorm.push(PUSH, LONG)
    simulator.revoke_tokens()
    fault = {"kind": "hold", "endpoint": "getAccessToken", "times": 1}
    simulator.faults.add(FAULT.validate_python(fault))
    began_at = clock.monotonic()
    outcome = await sekorm.push(PUSH, timedelta(seconds=0.3))
    assert clock.monotonic() - began_at < 0.6
    assert outcome.kind is Kind.NOT_SENT, "the first attempt was refused, the second never left"


async def test_s06_wrong_credentials_send_nothing_and_say_what_to_check(
    simulator: Simulator, make_sekorm: Make
) -> None:
    outcome = await make_sekorm(app_secret="wrong").push(PUSH, LONG)
    assert (outcome.kind, outcome.trouble) == (Kind.TROUBLE, Trouble.CREDENTIAL)
    assert "channels.sekorm.account" in outcome.advice
    assert simulator.stats.count(SEKORM, "stock/updQuantity") == 0


async def test_s07_an_unlisted_address_is_refused_with_the_advice_to_register_it(
    simulator: Simulator, make_sekorm: Make
) -> None:
    sekorm = make_sekorm()
    await sekorm.push(PUSH, LONG)
    change(simulator, allowed_addresses=())
    for outcome in (await sekorm.push(PUSH, LONG), await make_sekorm().probe()):
        assert (outcome.kind, outcome.trouble) == (Kind.TROUBLE, Trouble.ADDRESS)
        assert "egress address" in outcome.advice


async def test_s08_many_numbers_go_to_pn_stock_in_one_call_as_a_string_of_json(make_sekorm: Make) -> None:
    pushes = [PUSH, Push(Sku("b"), ("A+B/C", 'T&I="x"'), 0)]
    wanted = [
        {"pnCode": "1211LL的ON2", "brandName": "AMS", "stockQuantity": 100},
        {"pnCode": "A+B/C", "brandName": 'T&I="x"', "stockQuantity": 0},
    ]
    async with Scripted(GRANT, DONE) as server:
        outcomes = await make_sekorm(server.url).push_many(pushes, LONG)
        call = server.requests[1]
    assert [outcome.kind for outcome in outcomes] == [Kind.APPLIED, Kind.APPLIED]
    assert call.line == "POST /serviceGate/pnarttnumber/pnStock HTTP/1.1"
    form = dict(parse_qsl(call.body.decode(), strict_parsing=True))
    assert form.keys() == {"accessToken", "data"}
    assert (form["accessToken"], json.loads(form["data"])) == (PRINTED_TOKEN, wanted)
    async with Scripted(GRANT, DONE) as server:
        await make_sekorm(server.url, MemoryTokens(), body="json").push_many(pushes, LONG)
        sent = json.loads(server.requests[1].body)
    assert isinstance(sent["data"], str)
    assert json.loads(sent["data"]) == wanted


@pytest.mark.parametrize("body", ["form", "json"])
async def test_s08_the_largest_call_is_taken_whole(
    simulator: Simulator, make_sekorm: Make, body: str
) -> None:
    change(simulator, body=body)
    sekorm = make_sekorm(body=body)
    names = [(f"{n:03}" + "零" * 47, "牌" * 50) for n in range(sekorm.most_per_call)]
    pushes = [Push(Sku(names[0]), names, n) for n, names in enumerate(names)]
    assert {outcome.kind for outcome in await sekorm.push_many(pushes, LONG)} == {Kind.APPLIED}
    assert simulator.state.of(SEKORM) == {push.identifiers: push.quantity for push in pushes}
    assert simulator.stats.count(SEKORM, "pnarttnumber/pnStock") == 1
    with pytest.raises(ValueError, match="201 SKUs in one call, at most 200"):
        await sekorm.push_many([PUSH] * 201, LONG)


async def test_s08_an_empty_batch_makes_no_call(simulator: Simulator, make_sekorm: Make) -> None:
    assert await make_sekorm().push_many([], LONG) == []
    assert simulator.stats.token_calls == 0


MANY = [Push(Sku(f"sku-{n}"), (f"PN{n}", "AMS"), n) for n in range(1, 6)]


async def test_s08_a_call_that_stops_half_way_leaves_all_of_its_skus_in_doubt(
    simulator: Simulator, make_sekorm: Make
) -> None:
    fault = {"kind": "refuse_sku", "shop": "sekorm", "key": ["PN3", "AMS"]}
    simulator.faults.add(FAULT.validate_python(fault))
    outcomes = await make_sekorm().push_many(MANY, LONG)
    assert [(outcome.kind, outcome.reason) for outcome in outcomes] == [(Kind.UNKNOWN, "-1 pn not found")] * 5
    assert list(simulator.state.of(SEKORM).values()) == [1, 2], "one answer, and some rows were taken"


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"kind": "message"}, "-1 system error"),
        ({"kind": "garbage"}, "the reply is not an answer of serviceGate"),
        ({"kind": "status", "status": 502}, "HTTP 502"),
        ({"kind": "reset_after"}, "the connection"),
    ],
)
async def test_s08_a_failed_call_is_unknown_for_each_sku(
    simulator: Simulator, make_sekorm: Make, fault: dict[str, object], reason: str
) -> None:
    simulator.faults.add(FAULT.validate_python(fault | {"endpoint": "pnarttnumber/pnStock"}))
    outcomes = await make_sekorm().push_many(MANY, LONG)
    assert {outcome.kind for outcome in outcomes} == {Kind.UNKNOWN}
    assert len(outcomes) == 5
    assert reason in outcomes[0].reason


@pytest.mark.parametrize(
    ("text", "trouble"), [("sp already forbidden", Trouble.DISABLED), ("ip invalid", Trouble.ADDRESS)]
)
async def test_s08_a_trouble_is_the_channels_and_no_skus(
    simulator: Simulator, make_sekorm: Make, text: str, trouble: Trouble
) -> None:
    message(simulator, text, endpoint="pnarttnumber/pnStock")
    outcomes = await make_sekorm().push_many(MANY, LONG)
    assert [(outcome.kind, outcome.trouble) for outcome in outcomes] == [(Kind.TROUBLE, trouble)] * 5


async def test_s08_a_token_no_longer_taken_is_replaced_once(simulator: Simulator, make_sekorm: Make) -> None:
    sekorm = make_sekorm()
    await sekorm.push(PUSH, LONG)
    simulator.revoke_tokens()
    assert {outcome.kind for outcome in await sekorm.push_many(MANY, LONG)} == {Kind.APPLIED}
    assert simulator.stats.token_calls == 2
    message(simulator, "no permission", endpoint="pnarttnumber/pnStock")
    assert {outcome.trouble for outcome in await sekorm.push_many(MANY, LONG)} == {Trouble.CREDENTIAL}
    assert simulator.stats.count(SEKORM, "pnarttnumber/pnStock") == 4


async def test_s09_a_single_number_goes_to_upd_quantity(simulator: Simulator, make_sekorm: Make) -> None:
    await make_sekorm().push(PUSH, LONG)
    (entry,) = simulator.journal
    assert (entry.endpoint, entry.key, entry.quantity) == ("stock/updQuantity", ("1211LL的ON2", "AMS"), 100)


async def test_s10_names_go_out_as_utf8(make_sekorm: Make) -> None:
    async with Scripted(GRANT, DONE) as server:
        await make_sekorm(server.url).push(PUSH, LONG)
        body = server.requests[1].body
    assert b"pnCode=1211LL%E7%9A%84ON2" in body
    async with Scripted(GRANT, DONE) as server:
        await make_sekorm(server.url, MemoryTokens(), body="json").push(PUSH, LONG)
        body = server.requests[1].body
    assert "1211LL的ON2".encode() in body


async def test_s11_the_tokens_plus_slash_and_equals_are_percent_encoded(make_sekorm: Make) -> None:
    async with Scripted(reply(PRINTED_GRANT.replace(b"sgOQ", b"+/=+")), DONE) as server:
        await make_sekorm(server.url).push(PUSH, LONG)
        body = server.requests[1].body.decode()
    assert "accessToken=%2B%2F%3D%2BYs6UKqp%2F6" in body
    assert dict(parse_qsl(body))["accessToken"] == "+/=+" + PRINTED_TOKEN[4:]


async def compared(make: Make, body: bytes, pushes: Sequence[Push] = (PUSH,)) -> Comparison:
    """What a comparison comes to when its answer is `body`."""
    async with Scripted(GRANT, reply(body)) as server:
        return await make(server.url, MemoryTokens()).compare(pushes, LONG)


def said(code: object = -1, msg: object = "data incorrect", data: object = None) -> bytes:
    return json.dumps({"code": code, "msg": msg, "data": data}).encode()


async def test_s12_numbers_go_to_compare_as_a_string_of_json_and_change_nothing(
    simulator: Simulator, make_sekorm: Make
) -> None:
    async with Scripted(GRANT, DONE) as server:
        await make_sekorm(server.url).compare([PUSH], LONG)
        call = server.requests[1]
    assert call.line == "POST /serviceGate/stock/compare HTTP/1.1"
    form = dict(parse_qsl(call.body.decode(), strict_parsing=True))
    row = {"pnCode": "1211LL的ON2", "brandName": "AMS", "stockQuantity": 100}
    assert (form["accessToken"], json.loads(form["data"])) == (PRINTED_TOKEN, [row])
    await make_sekorm(store=MemoryTokens()).compare([PUSH], LONG)
    assert simulator.state.of(SEKORM) == {}


async def test_s12_the_same_numbers_agree(simulator: Simulator, make_sekorm: Make) -> None:
    sekorm = make_sekorm()
    await sekorm.push_many(MANY, LONG)
    comparison = await sekorm.compare(MANY, LONG)
    assert comparison == Comparison(agrees=True, outcome=Outcome(Kind.APPLIED, "0 OK"), words="0 OK")
    assert [c.rows for c in simulator.comparisons] == [5]
    assert (await sekorm.compare([], LONG)).agrees
    assert simulator.stats.count(SEKORM, "stock/compare") == 1, "nothing to compare is no call"


@pytest.mark.parametrize("how", ["message", "rows", "text", "names", "code"])
@pytest.mark.parametrize("body", ["form", "json"])
async def test_s12_what_differs_is_named_wherever_the_answer_names_it(
    simulator: Simulator, make_sekorm: Make, how: str, body: str
) -> None:
    change(simulator, compare=how, body=body)
    sekorm = make_sekorm(body=body)
    pushes = [
        *MANY,
        PUSH,
        Push(Sku("longer"), ("PN2-X", "AMS"), 7),
        Push(Sku("shorter"), ("1211LL", "AMS"), 8),
    ]
    await sekorm.push_many(pushes, LONG)
    simulator.state.put(SEKORM, ("PN2", "AMS"), 99)
    simulator.state.put(SEKORM, ("1211LL的ON2", "AMS"), 99)
    comparison = await sekorm.compare(pushes, LONG)
    assert (comparison.agrees, comparison.outcome.kind) == (False, Kind.APPLIED)
    assert comparison.named == (() if how == "code" else ("sku-2", "a"))
    assert comparison.words.startswith("-1 data incorrect")
    assert ("1211LL的ON2" in comparison.words) is (how != "code")
    simulator.state.put(SEKORM, ("PN2", "AMS"), 2)
    simulator.state.put(SEKORM, ("1211LL的ON2", "AMS"), 100)
    simulator.state.put(SEKORM, ("PN2-X", "AMS"), 99)
    simulator.state.put(SEKORM, ("1211LL", "AMS"), 99)
    comparison = await sekorm.compare(pushes, LONG)
    assert comparison.named == (() if how == "code" else ("longer", "shorter"))


@pytest.mark.parametrize("code", [1, -2, 500, -1])
async def test_s12_every_other_code_is_a_difference(make_sekorm: Make, code: int) -> None:
    comparison = await compared(make_sekorm, said(code, "库存不一致 1211LL的ON2", {"count": 1}))
    assert (comparison.agrees, comparison.named) == (False, ("a",))
    assert comparison.words == f'{code} 库存不一致 1211LL的ON2 {{"count":1}}'
    assert (await compared(make_sekorm, said(code, None))).agrees is False


async def test_s12_a_success_that_names_a_sku_is_a_success_all_the_same(make_sekorm: Make) -> None:
    comparison = await compared(make_sekorm, said(0, "OK", ["1211LL的ON2"]))
    assert (comparison.agrees, comparison.named) == (True, ("a",))
    assert comparison.words == '0 OK ["1211LL的ON2"]'


@pytest.mark.parametrize(
    ("text", "trouble"), [("sp already forbidden", Trouble.DISABLED), ("ip invalid", Trouble.ADDRESS)]
)
async def test_s12_a_trouble_is_no_answer_to_the_question(
    simulator: Simulator, make_sekorm: Make, text: str, trouble: Trouble
) -> None:
    message(simulator, text, endpoint="stock/compare")
    comparison = await make_sekorm().compare([PUSH], LONG)
    assert (comparison.agrees, comparison.outcome.kind) == (None, Kind.TROUBLE)
    assert (comparison.outcome.trouble, comparison.words, comparison.named) == (trouble, f"-1 {text}", ())


@pytest.mark.parametrize("text", ["system error", " System Error "])
async def test_s12_a_system_error_says_nothing_of_the_numbers(make_sekorm: Make, text: str) -> None:
    comparison = await compared(make_sekorm, said(-1, text, ["1211LL的ON2"]))
    assert (comparison.agrees, comparison.outcome.kind, comparison.named) == (None, Kind.UNKNOWN, ())
    assert comparison.words


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b'{"code":', said("0"), said(None), said(0, 7), b"[" * 5_000 + b"]" * 5_000],
)
async def test_s12_a_broken_reply_says_nothing_of_the_numbers(make_sekorm: Make, body: bytes) -> None:
    comparison = await compared(make_sekorm, body)
    assert (comparison.agrees, comparison.outcome.kind, comparison.named) == (None, Kind.UNKNOWN, ())


@pytest.mark.parametrize("kind", ["reset_before", "reset_after", "throttle", "status", "redirect", "bomb"])
async def test_s12_a_failed_call_says_nothing_of_the_numbers(
    simulator: Simulator, make_sekorm: Make, kind: str
) -> None:
    own: dict[str, dict[str, object]] = {"status": {"status": 500}, "redirect": {"location": "/x"}}
    fault = {"kind": kind, "endpoint": "stock/compare", **own.get(kind, {})}
    simulator.faults.add(FAULT.validate_python(fault))
    comparison = await make_sekorm().compare([PUSH], LONG)
    assert comparison.agrees is None
    assert comparison.outcome.kind is (Kind.TROUBLE if kind == "throttle" else Kind.UNKNOWN)
    assert comparison.words == comparison.outcome.reason != ""


async def test_s12_a_data_nested_deep_is_read_and_not_shown(make_sekorm: Make) -> None:
    body = said(-1, "x", "DATA").replace(
        b'"DATA"', b"[" * 60 + json.dumps("1211LL的ON2").encode() + b"]" * 60
    )
    comparison = await compared(make_sekorm, body)
    assert (comparison.agrees, comparison.named) == (False, ("a",))
    comparison = await compared(make_sekorm, body.replace(b"[", b"[[").replace(b"]", b"]]"))
    assert comparison.agrees is None
    assert len(comparison.words) <= 300


async def test_s12_a_token_no_longer_taken_is_replaced_once(simulator: Simulator, make_sekorm: Make) -> None:
    sekorm = make_sekorm()
    await sekorm.push(PUSH, LONG)
    simulator.revoke_tokens()
    assert (await sekorm.compare([PUSH], LONG)).agrees
    message(simulator, "no permission", endpoint="stock/compare")
    comparison = await sekorm.compare([PUSH], LONG)
    assert (comparison.agrees, comparison.outcome.trouble) == (None, Trouble.CREDENTIAL)
    assert simulator.stats.count(SEKORM, "stock/compare") == 4


async def test_s12_no_secret_of_ours_is_in_what_the_marketplace_is_said_to_have_said(
    make_sekorm: Make,
) -> None:
    secrets = [PRINTED_TOKEN, "demo-secret-8Kq2mVx4", "SP-DEMO-0001"]
    comparison = await compared(make_sekorm, said(-1, f"bad {secrets[0]}", {"who": secrets[1:]}))
    assert comparison.agrees is False
    assert not [secret for secret in secrets if secret in comparison.words + comparison.outcome.reason]
    assert comparison.words == '-1 bad [masked] {"who":["[masked]","[masked]"]}'


@pytest.mark.parametrize(
    "body",
    [
        b'{"code":0,"msg":"OK","data":null}',
        b'{"code":0,"msg":"ok","data":null}',
        b'{"code":0}',
        b'{"code":0,"msg":null,"data":null}',
        b'{"code":0,"msg":"no permission","data":null}',
        b' \r\n{"data":{},"code":0}\n',
    ],
)
async def test_s13_the_code_alone_decides_success(make_sekorm: Make, body: bytes) -> None:
    assert (await answered(make_sekorm, body)).kind is Kind.APPLIED


@pytest.mark.parametrize(
    "code", ['"0"', "0.0", "false", "true", "null", "[0]", '{"code":0}', "-0.0", "1", "00"]
)
async def test_s13_only_the_integer_zero_is_success(make_sekorm: Make, code: str) -> None:
    body = f'{{"code":{code},"msg":"OK","data":null}}'.encode()
    assert (await answered(make_sekorm, body)).kind is Kind.UNKNOWN


@pytest.mark.parametrize("text", ["[]", "7", "{}", "true"])
async def test_s13_a_message_of_another_type_is_no_answer(make_sekorm: Make, text: str) -> None:
    body = f'{{"code":0,"msg":{text},"data":null}}'.encode()
    assert (await answered(make_sekorm, body)).kind is Kind.UNKNOWN


async def test_s14_bodies_are_forms_unless_json_is_set(simulator: Simulator, make_sekorm: Make) -> None:
    for kind, content_type in (
        ("form", "application/x-www-form-urlencoded; charset=utf-8"),
        ("json", "application/json; charset=utf-8"),
    ):
        async with Scripted(GRANT, DONE) as server:
            await make_sekorm(server.url, MemoryTokens(), body=kind).push(PUSH, LONG)
            assert {request.headers["content-type"] for request in server.requests} == {content_type}
        change(simulator, body=kind)
        assert (await make_sekorm(store=MemoryTokens(), body=kind).push(PUSH, LONG)).kind is Kind.APPLIED


async def test_s15_lengths_are_counted_in_characters(simulator: Simulator, make_sekorm: Make) -> None:
    sekorm = make_sekorm()
    longest = "零" * 50
    assert SPEC.problem((longest, longest)) is None
    assert (await sekorm.push(Push(Sku("a"), (longest, longest), 1), LONG)).kind is Kind.APPLIED
    assert simulator.state.quantity(sekorm.channel, (longest, longest)) == 1


async def test_s15_what_is_too_long_is_named_with_field_value_and_limit() -> None:
    problem = SPEC.problem(("ABC", "x\n" * 1_000))
    assert problem is not None
    assert all(part in problem for part in ("brand_name", "2000 characters", "at most 50", "x x x"))
    assert len(problem) < 150
    assert problem.isprintable()
    problem = SPEC.problem(("x" * 51, "AMS"))
    assert problem is not None
    assert problem.startswith("pn_code has 51 characters")


async def test_s15_what_cannot_be_utf8_is_named() -> None:
    problem = SPEC.problem(("ab\ud800", "AMS"))
    assert problem is not None
    assert "UTF-8" in problem


@pytest.mark.parametrize("quantity", [0, 7, 2**31 - 1])
async def test_s16_the_quantity_is_a_plain_integer(make_sekorm: Make, quantity: int) -> None:
    push = Push(Sku("a"), ("A", "B"), quantity)
    async with Scripted(GRANT, DONE) as server:
        await make_sekorm(server.url).push(push, LONG)
        form = dict(parse_qsl(server.requests[1].body.decode()))
    assert form == {
        "accessToken": PRINTED_TOKEN, "pnCode": "A", "brandName": "B", "stockQuantity": str(quantity),
    }  # fmt: skip
    async with Scripted(GRANT, DONE) as server:
        await make_sekorm(server.url, MemoryTokens(), body="json").push(push, LONG)
        sent = json.loads(server.requests[1].body)
    assert sent == {
        "accessToken": PRINTED_TOKEN, "pnCode": "A", "brandName": "B", "stockQuantity": quantity,
    }  # fmt: skip
