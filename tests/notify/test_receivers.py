"""Deliveries to real servers: what arrives, what counts as taken, and that no address is ever told."""

import asyncio
import io
import logging
import threading
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from pydantic import SecretStr

from daemon import clock, logs
from daemon.core.errors import ConfigError
from daemon.core.notifications import Notification
from daemon.receivers import AppriseReceiver, make_receivers
from daemon.settings import receivers as addresses
from tests.notify.inbox import TIMEOUT, Inbox, Mailbox

MESSAGE = Notification("世强 推送中断：连接不上", "自 10:03 起……\n· 请检查网络")
SOON = timedelta(seconds=TIMEOUT)
TOKEN = "tok3nZq8hunter2"


def receiver(url: str) -> AppriseReceiver:
    return make_receivers([SecretStr(url)])[0]


async def test_a_webhook_gets_title_and_text_intact(box: Inbox) -> None:
    assert await receiver(box.url()).send(MESSAGE, "zh", SOON) is None
    assert (box.got[0]["title"], box.got[0]["message"]) == (MESSAGE.title, MESSAGE.body)


async def test_a_mail_keeps_chinese_in_subject_and_text(mailbox: Mailbox) -> None:
    assert await receiver(mailbox.url()).send(MESSAGE, "zh", SOON) is None
    (mail,) = mailbox.mails
    assert mail["subject"] == MESSAGE.title
    assert mail["to"] == "boss@shop.example"
    text = mail.get_body(("plain",))
    assert text is not None
    assert text.get_content().strip().splitlines() == MESSAGE.body.splitlines()


async def test_a_mail_server_that_refuses_is_told_in_its_words(mailbox: Mailbox) -> None:
    mailbox.refusal = "554 5.7.1 spam suspected"
    reason = await receiver(mailbox.url()).send(MESSAGE, "zh", SOON)
    assert reason == "the mail server answers 554 5.7.1 spam suspected"
    assert not mailbox.mails


async def test_a_mail_server_that_takes_no_password_is_told_with_what_to_try(mailbox: Mailbox) -> None:
    url = mailbox.url().replace("mailto://", "mailto://boss:secret@")
    reason = await receiver(url).send(MESSAGE, "zh", SOON)
    assert reason is not None
    assert "mode=starttls" in reason


async def test_plain_http_where_tls_is_wanted_is_told(box: Inbox) -> None:
    reason = await receiver(box.url().replace("json://", "jsons://")).send(MESSAGE, "zh", SOON)
    assert reason is not None
    assert "TLS" in reason


@pytest.mark.parametrize("status", [204, 301, 400, 500])
async def test_only_a_success_is_a_success(box: Inbox, status: int) -> None:
    box.answer = (status, {})
    reason = await receiver(box.url()).send(MESSAGE, "zh", SOON)
    assert reason == (None if status == 204 else f"it answers HTTP {status}")
    assert len(box.got) == 1, "a redirect is not followed"


async def test_nobody_at_the_address_is_told_in_plain_words() -> None:
    reason = await receiver("json://127.0.0.1:1/hook").send(MESSAGE, "zh", SOON)
    assert reason == "connection refused"


class _SlowToEnd(threading.Thread):
    def run(self) -> None:
        super().run()
        time.sleep(0.2)


async def test_messages_may_follow_each_other_at_once(box: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = receiver(box.url())
    # As on a machine that is busy elsewhere.
    monkeypatch.setattr(threading, "Thread", _SlowToEnd)
    for _ in range(3):
        assert await asked.send(MESSAGE, "zh", SOON) is None


async def test_a_receiver_that_hangs_is_left_and_not_asked_again_meanwhile(box: Inbox) -> None:
    box.is_open.clear()
    hanging = receiver(box.url() + "?rto=60")
    began = clock.monotonic()
    assert await hanging.send(MESSAGE, "zh", timedelta(seconds=0.3)) == "no answer within 0.3 s"
    assert clock.monotonic() - began < 3
    assert await hanging.send(MESSAGE, "zh", SOON) == "it still has not answered the message before"
    assert len(box.got) == 1
    assert all(thread.daemon for thread in threading.enumerate() if thread.name == hanging.name)
    box.is_open.set()
    async with asyncio.timeout(TIMEOUT):
        while await hanging.send(MESSAGE, "zh", SOON) is not None:  # noqa: ASYNC110 - a thread's end has no event
            await asyncio.sleep(0.01)


# Group robots answer 200 whatever they think of a message


def robot(kind: str, box: Inbox) -> AppriseReceiver:
    """A robot whose service is on loopback."""
    made = receiver(f"{kind}://{TOKEN}")
    url = f"http://127.0.0.1:{box.port}/{kind}?access_token={TOKEN}"
    made._service.notify_url = made._service.api_url = made._service.webhook_url = url
    return made


TAKEN = {
    "dingtalk": {"errcode": 0, "errmsg": "ok"},
    "wecombot": {"errcode": 0, "errmsg": "ok"},
    "feishu": {"code": 0, "data": {}, "msg": "success"},
    "lark": {"StatusCode": 0, "StatusMessage": "success", "code": 0, "msg": "success"},
}
REFUSED = {
    "dingtalk": ({"errcode": 310000, "errmsg": "keywords not in content"}, "310000: keywords not in content"),
    "wecombot": ({"errcode": 93000, "errmsg": "invalid webhook url"}, "93000: invalid webhook url"),
    "feishu": ({"code": 19024, "msg": "Key Words Not Found"}, "19024: Key Words Not Found"),
    "lark": ({"code": 19021, "msg": "sign match fail"}, "19021: sign match fail"),
}


@pytest.mark.parametrize("kind", list(TAKEN))
async def test_a_robot_that_takes_it_has_been_told(box: Inbox, kind: str) -> None:
    box.answer = (200, TAKEN[kind])
    assert await robot(kind, box).send(MESSAGE, "zh", SOON) is None
    assert MESSAGE.title in str(box.got[0])
    assert "请检查网络" in str(box.got[0])


@pytest.mark.parametrize("kind", list(REFUSED))
async def test_a_robot_that_refuses_with_200_has_not_been_told(box: Inbox, kind: str) -> None:
    answer, words = REFUSED[kind]
    box.answer = (200, answer)
    assert await robot(kind, box).send(MESSAGE, "zh", SOON) == f"the receiver answers {words}"


@pytest.mark.parametrize("answer", ["<html>", [], {"ok": True}])
async def test_a_robot_that_says_something_else_has_not_been_told(box: Inbox, answer: object) -> None:
    box.answer = (200, answer)
    reason = await robot("dingtalk", box).send(MESSAGE, "zh", SOON)
    assert reason is not None
    assert reason.startswith("the receiver answers its answer")


async def test_wecom_gets_no_more_bytes_than_it_takes(box: Inbox) -> None:
    box.answer = (200, TAKEN["wecombot"])
    long = Notification("标题", "\n".join(f"· 第 {number} 行：库存不一致" for number in range(500)))
    assert await robot("wecombot", box).send(long, "zh", SOON) is None
    content = box.got[0]["text"]["content"]
    assert len(content.encode()) <= 2048
    assert content.endswith("……（内容过长，已截断）")


# No address is ever told


@pytest.fixture
def everything_logged() -> Iterator[io.StringIO]:
    """Every library at its most talkative, through our own log, which does not know the secrets."""
    stream = io.StringIO()
    logs.configure("debug", "json", stream=stream)
    logging.getLogger().setLevel(1)
    yield stream
    logging.getLogger().setLevel(logging.WARNING)


@pytest.mark.parametrize("end", ["taken", "refused", "nobody", "hangs"])
async def test_no_line_and_no_reason_holds_an_address(
    box: Inbox, mailbox: Mailbox, everything_logged: io.StringIO, end: str, capfd: pytest.CaptureFixture[str]
) -> None:
    box.answer = (200, TAKEN["dingtalk"]) if end == "taken" else (500, {"echo": TOKEN})
    port = 1 if end == "nobody" else box.port
    if end == "hangs":
        box.is_open.clear()
    if end == "refused":
        mailbox.refusal = f"554 no {TOKEN}"
    told = [
        receiver(f"json://user:{TOKEN}@127.0.0.1:{port}/{TOKEN}?+X={TOKEN}"),
        receiver(mailbox.url(f"&+X={TOKEN}")),
        robot("dingtalk", box),
        robot("feishu", box),
    ]
    patience = timedelta(seconds=0.3) if end == "hangs" else SOON
    reasons = await asyncio.gather(*(each.send(MESSAGE, "zh", patience) for each in told))
    assert end == "taken" or any(reasons)
    out, err = capfd.readouterr()
    for text in (everything_logged.getvalue(), out, err, str(reasons), repr(told)):
        assert TOKEN not in text


def test_an_address_that_apprise_does_not_know_is_refused_without_being_shown() -> None:
    with pytest.raises(ConfigError) as raised:
        receiver(f"nosuch://{TOKEN}")
    assert "notify.urls[0]" in str(raised.value)
    assert TOKEN not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "hidden"),
    [
        (f"dingtalk://SECabc123@{TOKEN}", {TOKEN, "SECabc123"}),
        (f"https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key={TOKEN}", {TOKEN}),
        (f"mailtos://boss:p%40ss{TOKEN}@mail.example/?to=a@b.example", {f"p@ss{TOKEN}", f"p%40ss{TOKEN}"}),
        (f"slack://T1JJ3T3L2/A1BRTD4JD/{TOKEN}", {"T1JJ3T3L2", TOKEN}),
    ],
)
def test_what_is_secret_of_an_address_is_known(url: str, hidden: set[str]) -> None:
    secrets = set(addresses.secrets(url))
    assert hidden | {url} <= secrets
    assert not {"mail.example", "a@b.example", "qyapi.weixin.qq.com"} & secrets
