"""No secret of the marketplaces in a reason, an advice, a log line, a repr or an address."""

import json
import logging
from collections.abc import Callable
from typing import assert_never
from urllib.parse import quote_plus

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from daemon.core.types import ChannelName, Push, Sku
from daemon.marketplaces.client import Client, Compares, Neither, ReadsBack
from daemon.marketplaces.reply import words
from daemon.marketplaces.sekorm.client import SekormClient
from daemon.marketplaces.webhook.client import WebhookClient
from daemon.marketplaces.ymatou.client import YmatouClient
from tests.marketplaces.cases import webhook_settings
from tests.marketplaces.conftest import LONG
from tests.marketplaces.memory import MemoryTokens
from tests.marketplaces.scripted import Behaviour, Scripted, hang_up, reply

TOKEN = "tok/SECRET+TOKEN=="
ACCOUNT = "acc-SECRET-ACCOUNT"
PASSWORD = "pw/SECRET+PASSWORD&1"
AUTH_CODE = "SECRET-AUTH-CODE-1234567890"
HOOK_SECRET = "whsec_" + 6 * "SECRET"
PUSH = Push(Sku("a"), ("A", "B"), 1)
GRANT = reply(json.dumps({"code": 0, "data": {"expiresIn": 60, "accessToken": TOKEN}}).encode())


def assert_clean(text: str) -> None:
    """All secrets hold this word, however they are spelled."""
    assert "SECRET" not in text, text


def parrots(*known: str) -> list[Behaviour]:
    """Replies that repeat what the marketplace was told."""
    entities = ["".join(f"&#{ord(character)};" for character in text) for text in known]
    cut = [text[: len(text) * 2 // 3] for text in known]
    parrot = " ".join(
        [*known, *cut, *map(quote_plus, known), *map(quote_plus, map(quote_plus, known)), *entities]
    )
    bodies = [
        {"code": -1, "msg": parrot},
        {"code": -1, "msg": "no permission", "data": parrot},
        {"code": 0, "msg": "ok", "data": {"accessToken": TOKEN * 10, "expiresIn": 1}},
        {"code": 0, "msg": "ok", "data": {"accessToken": TOKEN, "expiresIn": "never"}},
        {"code": "0001", "message": parrot, "content": {"echo": parrot}},
        {"code": "0002", "message": parrot},
        {"code": "0009", "message": parrot},
        {"code": "0000", "content": {"results": [{"outer_sku_id": "A", "success": False, "msg": parrot}]}},
    ]
    texts = [json.dumps(body) for body in bodies]
    return [
        *(reply(text.encode()) for text in texts),
        *(reply(text.replace("/", "\\/").encode()) for text in texts),
        *(reply(text.replace("S", "\\u0053").replace("T", "\\\\u0054").encode()) for text in texts),
        reply(parrot.encode()),
        reply(f'{{"code":-1,msg:"{parrot}",data:null}}'.encode()),
        reply(parrot.encode(), "500 " + parrot),
        reply(b"", "302 Found", Location=f"http://127.0.0.1/?{parrot}"),
        reply(b"{}", X_Echo=parrot + "x" * 20_000),
        reply(b"{}", f"2000 {parrot}"),
        hang_up,
    ]


async def listen(marketplace: Client, store: MemoryTokens) -> None:
    """Let the marketplace talk, and look at all that comes of it."""
    with capture_logs() as lines:
        assert_clean(repr(await marketplace.push(PUSH, LONG)))
        store.held_until = 0.0
        assert_clean(repr(await marketplace.probe()))
        assert_clean(repr(await marketplace.push_many([PUSH, PUSH], LONG)))
        match marketplace.verification:
            case Compares(compare):
                assert_clean(repr(await compare([PUSH], LONG)))
            case ReadsBack(read_page):
                assert_clean(repr(await read_page(1, LONG)))
            case Neither():
                pass
            case _ as unknown:
                assert_never(unknown)
    assert_clean(repr(marketplace) + repr(vars(marketplace)))
    assert_clean(json.dumps(lines, default=repr, ensure_ascii=False))


@pytest.mark.parametrize("answers", [(behave,) for behave in parrots(ACCOUNT, PASSWORD)]
                         + [(GRANT, behave) for behave in parrots(ACCOUNT, PASSWORD, TOKEN)])  # fmt: skip
async def test_what_sekorm_repeats_of_our_secrets_is_not_shown(
    make_sekorm: Callable[..., SekormClient], caplog: pytest.LogCaptureFixture, answers: tuple[Behaviour, ...]
) -> None:
    caplog.set_level(logging.DEBUG)
    store = MemoryTokens()
    async with Scripted(*answers) as server:
        await listen(make_sekorm(server.url, store, account=ACCOUNT, app_secret=PASSWORD), store)
        assert_clean(" ".join(request.line for request in server.requests))
    assert_clean(caplog.text)


@pytest.mark.parametrize("answer", parrots(PASSWORD, AUTH_CODE))
async def test_what_ymatou_repeats_of_our_secrets_is_not_shown(
    make_ymatou: Callable[..., YmatouClient], caplog: pytest.LogCaptureFixture, answer: Behaviour
) -> None:
    caplog.set_level(logging.DEBUG)
    async with Scripted(answer) as server:
        await listen(make_ymatou(server.url, app_secret=PASSWORD, auth_code=AUTH_CODE), MemoryTokens())
        assert_clean(" ".join(request.line for request in server.requests))
    assert_clean(caplog.text)


@pytest.mark.parametrize("answer", parrots(HOOK_SECRET))
async def test_what_a_webhook_repeats_of_our_secret_is_not_shown(
    caplog: pytest.LogCaptureFixture, answer: Behaviour
) -> None:
    caplog.set_level(logging.DEBUG)
    async with Scripted(answer) as server:
        settings = webhook_settings(server.url, secret=SecretStr(HOOK_SECRET))
        client = WebhookClient(ChannelName("webhook"), settings)
        await listen(client, MemoryTokens())
        await client.close()
    assert_clean(caplog.text)


def test_words_are_one_line_without_tricks() -> None:
    assert words("a\r\n\tb\u2028c\x00\x1b[2J\u202ed\ud83d") == "a b c d"
    assert words("\x1b[31;1mred\x1b[0m \x9b2K\x1b]0;title\x07 \x1b[") == "red 0;title"
    assert words("x" * 1_000) == "x" * 300
    assert words(" 签名 失败 ") == "签名 失败"
