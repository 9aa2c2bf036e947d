"""The web hook, clause by clause: what a receiver gets, and what its answer means."""

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest
from pydantic import SecretStr, ValidationError

from daemon import clock
from daemon.check.findings import Findings
from daemon.check.marketplace import check
from daemon.core.finding import Finding, Verdict
from daemon.core.outcome import Kind, Outcome, Trouble
from daemon.core.types import ChannelName, Push, Sku
from daemon.marketplaces.webhook.client import WebhookClient
from daemon.marketplaces.webhook.settings import WebhookSettings
from daemon.simulator import Simulator
from daemon.simulator.marketplaces.webhook import sign
from tests.marketplaces.cases import WEBHOOK_DEMO, webhook_settings
from tests.marketplaces.conftest import LONG
from tests.marketplaces.scripted import Scripted, reply

CHANNEL = ChannelName("webhook")
PUSH = Push(Sku("SKU-7"), ("A-7",), 12)
OLD_SECRET = "whsec_" + base64.b64encode(b"o" * 32).decode()
Make = Callable[..., WebhookClient]


@pytest.fixture
async def make(simulator: Simulator) -> AsyncIterator[Make]:
    """Makes clients of the simulated receiver, or of the one at `base`; closes them."""
    async with AsyncExitStack() as stack:

        def client(base: str = "", **changes: object) -> WebhookClient:
            made = WebhookClient(CHANNEL, webhook_settings(base or simulator.url, **changes))
            stack.push_async_callback(made.close)
            return made

        yield client


async def test_w01_a_number_is_one_json_message(make: Make) -> None:
    async with Scripted(reply(b"", "204 No Content")) as server:
        assert await make(server.url).push(PUSH, LONG) == Outcome(Kind.APPLIED)
        (request,) = server.requests
    assert request.line.startswith("POST /webhook/webhook ")
    assert request.headers["content-type"] == "application/json; charset=utf-8"
    message = json.loads(request.body)
    assert message["type"] == "stock.updated"
    assert message["timestamp"].endswith("Z")
    assert message["data"] == {"sku": "SKU-7", "external_id": "A-7", "quantity": 12}


async def test_w01_many_numbers_are_one_message_of_another_type(make: Make, simulator: Simulator) -> None:
    pushes = [Push(Sku(f"SKU-{n}"), (f"A-{n}",), n) for n in range(3)]
    assert await make(batch=3).push_many(pushes, LONG) == [Outcome(Kind.APPLIED)] * 3
    assert simulator.state.of("webhook") == {"A-0": 0, "A-1": 1, "A-2": 2}
    assert simulator.stats.count("webhook", "stock.batch_updated") == 1


def test_w02_the_signature_is_that_of_the_standards_own_vector() -> None:
    # As the standard's libraries compute it for this message.
    secret, body = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", b'{"test": 2432232314}'
    name, seconds = "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330"
    client = WebhookClient(
        CHANNEL, WebhookSettings(enabled=False, base_url="http://127.0.0.1:1", secret=SecretStr(secret))
    )
    headers = client._signed(name, seconds, body)
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert (headers["webhook-id"], headers["webhook-timestamp"]) == (name, seconds)
    assert headers["webhook-signature"] == sign(secret, name, seconds, body)


@pytest.mark.parametrize(
    "secret",
    ["", "x", "whsec_", "whsec_!!!!", "whsec_c2hvcnQ=", "whsec_" + base64.b64encode(b"x" * 65).decode()],
)
def test_w02_a_secret_of_another_format_is_refused(secret: str) -> None:
    with pytest.raises(ValidationError):
        webhook_settings("http://127.0.0.1:1", secret=SecretStr(secret))


async def test_w03_two_secrets_make_two_signatures(make: Make, simulator: Simulator) -> None:
    client = make(old_secret=SecretStr(OLD_SECRET))
    assert (await client.push(PUSH, LONG)).kind is Kind.APPLIED
    simulator.change("webhook", secret=OLD_SECRET)
    assert (await client.push(PUSH, LONG)).kind is Kind.APPLIED, "the receiver may know either"
    client.use(webhook_settings(simulator.url))
    assert (await client.push(PUSH, LONG)).trouble is Trouble.CREDENTIAL, "the old one has been taken away"


async def test_w04_every_attempt_has_an_id_of_its_own(make: Make) -> None:
    async with Scripted(reply(b"{}")) as server:
        client = make(server.url)
        for _ in range(3):
            await client.push(PUSH, LONG)
        names = {request.headers["webhook-id"] for request in server.requests}
    assert len(names) == 3
    assert not any("." in name for name in names)


async def test_w05_the_timestamp_is_the_attempts_and_the_clocks_offset_is_measured(
    make: Make, simulator: Simulator
) -> None:
    client = make()
    assert client.authorisation.clock_offset() is None
    await client.push(PUSH, LONG)
    offset = client.authorisation.clock_offset()
    assert offset is not None
    assert abs(offset) < timedelta(seconds=3)
    simulator.configure(simulator.settings.model_copy(update={"clock_offset_s": 400}))
    outcome = await client.push(PUSH, LONG)
    assert (outcome.kind, "too far" in outcome.reason) == (Kind.TROUBLE, True)
    assert (client.authorisation.clock_offset() or timedelta(0)) > timedelta(seconds=390)


async def test_w05_a_refusal_by_a_clock_that_is_far_off_names_the_clock_first(
    make: Make, simulator: Simulator
) -> None:
    for offset_s, is_first in ((400, True), (-400, True), (200, False)):
        simulator.configure(simulator.settings.model_copy(update={"clock_offset_s": offset_s}))
        simulator.change("webhook", secret=OLD_SECRET)
        advice = (await make().push(PUSH, LONG)).advice
        assert advice.startswith("first see that both clocks are right") == is_first, offset_s
        assert advice.index("clocks") < advice.index("channels.webhook.secret") or not is_first
        assert "clocks" in advice


@pytest.mark.parametrize(
    ("status", "found"),
    [
        ("200 OK", "not looked at: the answer has no Date"),
        ("410 Gone", "not looked at: marketplace webhook has to pass first"),
    ],
)
async def test_w05_check_says_why_it_cannot_look_at_the_clock(make: Make, status: str, found: str) -> None:
    findings = Findings()
    async with Scripted(reply(b"{}", status)) as server:
        await check(findings, make(server.url), server.url)
    assert findings.results[-1] == Finding("clock webhook", "", found, verdict=Verdict.SKIPPED)


async def test_the_simulated_receiver_takes_external_ids_up_to_the_limit(
    make: Make, simulator: Simulator
) -> None:
    assert (await make().push(PUSH._replace(identifiers=("x" * 200,)), LONG)).kind is Kind.APPLIED
    assert (await make().push(PUSH._replace(identifiers=("x" * 201,)), LONG)).kind is Kind.REFUSED
    assert list(simulator.state.of("webhook")) == ["x" * 200]


async def test_w05_whole_seconds_of_now(make: Make) -> None:
    async with Scripted(reply(b"{}")) as server:
        await make(server.url).push(PUSH, LONG)
        (request,) = server.requests
    assert abs(int(request.headers["webhook-timestamp"]) - clock.now().timestamp()) < 5
    content = (
        f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}.".encode() + request.body
    )
    key = base64.b64decode(WEBHOOK_DEMO.secret.removeprefix("whsec_"))
    digest = hmac.new(key, content, hashlib.sha256).digest()
    assert request.headers["webhook-signature"] == f"v1,{base64.b64encode(digest).decode()}"


@pytest.mark.parametrize("status", ["200 OK", "201 Created", "202 Accepted", "204 No Content"])
async def test_w06_every_2xx_is_applied(make: Make, status: str) -> None:
    async with Scripted(reply(b"" if status.startswith("204") else b"<html>", status)) as server:
        assert await make(server.url).push(PUSH, LONG) == Outcome(Kind.APPLIED)


async def test_w07_422_refuses_the_sku_with_its_words(make: Make, simulator: Simulator) -> None:
    simulator.change("webhook", strict=True, catalogue=("A-8",))
    client = make(batch=2)
    outcome = await client.push(PUSH, LONG)
    assert (outcome.kind, outcome.trouble) == (Kind.REFUSED, None)
    assert "A-7 is not sold here" in outcome.reason
    pushes = [PUSH, Push(Sku("SKU-8"), ("A-8",), 1)]
    outcomes = await client.push_many(pushes, LONG)
    assert [each.kind for each in outcomes] == [Kind.UNKNOWN] * 2, "one of them may be the reason"
    assert simulator.state.of("webhook") == {}


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden"])
async def test_w08_401_and_403_are_a_matter_of_the_secret(make: Make, status: str) -> None:
    async with Scripted(reply(b'{"error":"signature"}', status)) as server:
        outcome = await make(server.url).push(PUSH, LONG)
    assert (outcome.kind, outcome.trouble) == (Kind.TROUBLE, Trouble.CREDENTIAL)
    assert "channels.webhook.secret" in outcome.advice


async def test_w09_gone_stops_the_channel(make: Make, simulator: Simulator) -> None:
    simulator.change("webhook", gone=True)
    outcome = await make().push(PUSH, LONG)
    assert (outcome.kind, outcome.trouble) == (Kind.TROUBLE, Trouble.DISABLED)
    assert "channels.webhook.enabled = false" in outcome.advice


@pytest.mark.parametrize(
    "status", ["400 Bad Request", "404 Not Found", "409 Conflict", "418 Teapot", "500 Oops"]
)
async def test_w11_what_may_be_about_the_channel_parks_no_sku_at_once(make: Make, status: str) -> None:
    async with Scripted(reply(b'{"error":"no"}', status)) as server:
        outcome = await make(server.url).push(PUSH, LONG)
    assert (outcome.kind, outcome.trouble) == (Kind.UNKNOWN, None)
    assert status.split(maxsplit=1)[0] in outcome.reason


async def test_what_a_receiver_repeats_of_the_secret_is_not_shown(make: Make) -> None:
    async with Scripted(reply(f'{{"error":"{WEBHOOK_DEMO.secret}"}}'.encode(), "400 Bad")) as server:
        client = make(server.url)
        outcome = await client.push(PUSH, LONG)
    key = WEBHOOK_DEMO.secret.removeprefix("whsec_")
    assert key not in repr(outcome) + repr(client) + repr(vars(client))


async def test_the_receiver_carries_a_repeated_message_out_once_and_refuses_another_under_its_id(
    make: Make, simulator: Simulator
) -> None:
    client = make()
    first, other = (
        b'{"type":"stock.updated","timestamp":"t","data":{"sku":"a","external_id":"a","quantity":1}}',
        b"",
    )
    other = first.replace(b":1}", b":2}")
    url = client._transport.url()
    seconds = str(int(clock.now().timestamp()))
    statuses = []
    for body in (first, first, other):
        answer = await client._transport.post(url, body, 5, headers=client._signed("msg_1", seconds, body))
        statuses.append(answer.reason if isinstance(answer, Outcome) else answer.status)
    assert statuses == [200, 200, 409]
    assert [entry.quantity for entry in simulator.journal] == [1]
