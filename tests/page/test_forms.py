"""The page's forms over HTTP, with actions of a test: who may act, and what nobody can make them do."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import pytest
from structlog.testing import capture_logs

from daemon.core.operations import Action, Operation, Operator
from daemon.core.page_actions import ActionPreview, ActionRefused, ActionResult
from daemon.core.page_sessions import LASTS_S, MOST_FAILURES
from daemon.core.types import ChannelName, Sku
from daemon.ops.http import LARGEST_BODY, listening
from daemon.ops.page.access import Access
from daemon.ops.page.forms import Forms, routes_without_token
from daemon.ops.page.live import LiveUpdates
from daemon.ops.page.rendering import Renderer
from daemon.ops.page.site import Site
from tests.ops.wire import Answer, parsed, said
from tests.page.test_site import Facts

NOW = datetime(2026, 11, 29, 4, 0, tzinfo=UTC)
TOKEN = "a-token-of-this-test-only"
TOKYO = ChannelName("tokyo")


class Acts:
    """Notes what it is asked to do."""

    def __init__(self) -> None:
        self.held = (1204, 1198)
        self.is_shadow = False
        self.fingerprint = "1"
        self.done: list[tuple[str, str, Action, str, Sequence[Sku] | None, str]] = []

    def channels(self) -> list[ChannelName]:
        return [TOKYO, ChannelName("osaka")]

    async def recent(self) -> list[Operation]:
        return [Operation(NOW, "<b>ann", "ann@desk", "pause", TOKYO, (), None, "why", "paused")]

    async def preview(
        self, action: Action, channel: ChannelName, skus: Sequence[Sku] | None
    ) -> ActionPreview:
        if action is Action.RESUME:
            raise ActionRefused("not_paused")
        if action is Action.RELEASE:
            return ActionPreview(self.held if channel == TOKYO else (0, 0), fingerprint=self.fingerprint)
        counts = (len(skus or "1234567"),) if action in (Action.RETRY, Action.DISCARD) else ()
        return ActionPreview(counts, self.is_shadow, self.fingerprint)

    async def act(
        self,
        operator: Operator,
        action: Action,
        channel: ChannelName,
        skus: Sequence[Sku] | None,
        reason: str,
    ) -> ActionResult:
        self.done.append((operator.name, operator.origin, action, channel, skus, reason))
        return (
            ActionResult("done.release", (1204,)) if action is Action.RELEASE else ActionResult("done.resume")
        )


class Browser:
    """A client with a cookie and the time of its server."""

    def __init__(self, port: int, time: list[float]) -> None:
        self.port, self.time, self.cookie = port, time, ""

    async def get(self, path: str) -> Answer:
        return parsed(await said(self.port, f"GET {path} HTTP/1.1\r\n{self._fields()}\r\n".encode()))

    async def post(self, path: str, fields: dict[str, str] | bytes, more: str = "") -> Answer:
        body = fields if isinstance(fields, bytes) else urlencode(fields).encode()
        head = (
            f"POST {path} HTTP/1.1\r\n{self._fields()}Content-Type: application/x-www-form-urlencoded\r\n"
            f"Content-Length: {len(body)}\r\n{more}\r\n"
        )
        return parsed(await said(self.port, head.encode() + body))

    async def sign_in(self, token: str = TOKEN, more: str = "") -> Answer:
        answer = await self.post("/sign-in", {"name": "ann", "token": token}, more)
        self.cookie = answer.headers.get("set-cookie", "").partition(";")[0]
        return answer

    async def form(self, path: str) -> dict[str, str]:
        """The hidden fields of a confirmation."""
        text = (await self.get(path)).body.decode()
        confirmation = text.partition('<form class="form"')[2]
        return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', confirmation))

    def _fields(self) -> str:
        return "Host: localhost\r\n" + (f"Cookie: {self.cookie}\r\n" if self.cookie else "")


@pytest.fixture
def acts() -> Acts:
    return Acts()


@pytest.fixture
async def browser(acts: Acts) -> AsyncIterator[Browser]:
    time = [100.0]
    facts, renderer = Facts(), Renderer(lambda: ZoneInfo("Asia/Tokyo"), lambda: NOW)
    site = Site(facts, renderer, LiveUpdates(facts.overview, facts.channels, renderer))
    forms = Forms(site, Access(lambda: TOKEN, lambda: time[0]), acts)
    site.account = forms.account
    async with listening("127.0.0.1", 0, {}, 2.0, routes=[*site.routes(), *forms.routes()]) as port:
        yield Browser(port, time)
    await forms.running.close()


async def told(browser: Browser, answer: Answer, timeout: float = 30) -> str:
    """Follow a redirect to the operation's page, until it has ended."""
    assert answer.status == 303, answer
    async with asyncio.timeout(timeout):
        while True:
            text = (await browser.get(answer.headers["location"])).body.decode()
            if "In progress" not in text:
                return text
            await asyncio.sleep(0.01)


async def test_a_sign_in_gives_a_cookie_that_no_script_and_no_other_site_gets(browser: Browser) -> None:
    assert (await browser.get("/operate")).headers["location"] == "/sign-in"
    cookie = (await browser.sign_in()).headers["set-cookie"]
    for part in ("HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=28800"):
        assert part in cookie
    assert "Secure" not in cookie
    assert TOKEN not in cookie
    text = (await browser.get("/operate")).body.decode()
    assert "Signed in as ann" in text
    assert "&lt;b&gt;ann" in text
    by_proxy = await browser.sign_in(more="Origin: https://localhost\r\n")
    assert "; Secure" in by_proxy.headers["set-cookie"]


async def test_a_release_names_its_numbers_and_asks_again_where_they_have_changed(
    browser: Browser, acts: Acts
) -> None:
    await browser.sign_in()
    page = "/do/release?channel=tokyo"
    assert "1,204 SKUs, 1,198 of them 0" in (await browser.get(page)).body.decode()
    form = await browser.form(page)
    acts.held = (1300, 1198)
    again = await browser.post("/do/release", form)
    assert again.status == 409
    assert "The numbers have changed" in again.body.decode()
    assert "1,300 SKUs" in again.body.decode()
    form = await browser.form(page)
    acts.fingerprint = "2"
    assert (await browser.post("/do/release", form)).status == 409, "as many SKUs, and others"
    assert acts.done == []
    answer = await browser.post("/do/release", await browser.form(page))
    assert "1,204 numbers are being sent" in await told(browser, answer)
    assert acts.done == [("ann", "the page, at 127.0.0.1", Action.RELEASE, "tokyo", None, "")]


@pytest.mark.parametrize(
    ("action", "fields", "skus", "reason"),
    [
        ("pause", {"reason": "stock <taking>"}, None, "stock <taking>"),
        ("retry", {}, None, ""),
        ("discard", {"skus": "A\r\nB"}, ("A", "B"), ""),
        ("push", {"skus": "A 1"}, ("A 1",), ""),
        ("reconcile", {}, None, ""),
    ],
)
async def test_each_action_is_done_once_with_what_the_form_says(
    browser: Browser,
    acts: Acts,
    action: str,
    fields: dict[str, str],
    skus: tuple[str, ...] | None,
    reason: str,
) -> None:
    await browser.sign_in()
    query = urlencode({"channel": "tokyo", **fields})
    form = await browser.form(f"/do/{action}?{query}")
    await told(browser, await browser.post(f"/do/{action}", form | fields))
    assert acts.done == [("ann", "the page, at 127.0.0.1", action, "tokyo", skus, reason)]


async def test_a_form_for_a_channel_in_shadow_says_that_nothing_is_sent(browser: Browser, acts: Acts) -> None:
    await browser.sign_in()
    acts.is_shadow = True
    page = (await browser.get("/do/retry?channel=tokyo")).body.decode()
    assert "This tries 7 parked SKUs again" in page
    assert "in shadow: nothing is sent" in page


async def test_what_makes_no_sense_is_said_in_the_form_and_not_done(browser: Browser, acts: Acts) -> None:
    await browser.sign_in()
    assert "not paused" in (await browser.get("/do/resume?channel=tokyo")).body.decode()
    form = await browser.form("/do/resume?channel=tokyo")
    assert (await browser.post("/do/resume", form)).status == 409
    for path in ("/do/release?channel=nowhere", "/do/release", "/do/go-live?channel=tokyo", "/do/x"):
        assert (await browser.get(path)).status == 404
    assert acts.done == []


async def test_without_a_valid_session_and_its_mark_nothing_is_done(browser: Browser, acts: Acts) -> None:
    await browser.sign_in()
    page, cookie = "/do/release?channel=tokyo", browser.cookie
    form = await browser.form(page)
    assert (await browser.get("/do/release?" + urlencode(form))).status == 200, "a GET asks"
    for wrong in ({**form, "csrf": "x"}, {name: value for name, value in form.items() if name != "csrf"}):
        assert (await browser.post("/do/release", wrong)).status == 403
    for origin in ("https://attacker.example", "null", "http://localhost:1"):
        assert (await browser.post("/do/release", form, f"Origin: {origin}\r\n")).status == 403
    assert (await browser.post("/do/release", form, "Sec-Fetch-Site: cross-site\r\n")).status == 403
    browser.cookie = "stockrelay_session=guessed"
    assert (await browser.post("/do/release", form)).status == 403
    browser.cookie = ""
    assert (await browser.post("/do/release", form)).status == 403
    assert (await browser.get(page)).headers["location"] == "/sign-in"
    browser.cookie = cookie
    assert (await browser.post("/sign-out", {"csrf": "x"})).status == 403
    assert (await browser.post("/sign-out", {"csrf": form["csrf"]})).status == 303
    assert (await browser.post("/do/release", form)).status == 403, "replayed after the sign-out"
    await browser.sign_in()
    form = await browser.form(page)
    browser.time[0] += LASTS_S
    assert (await browser.post("/do/release", form)).status == 403, "expired"
    assert acts.done == []


async def test_a_thousand_wrong_tokens_are_not_looked_at_and_are_not_in_the_log(browser: Browser) -> None:
    with capture_logs() as logs:
        answers = [await browser.sign_in(f"wrong-{number}") for number in range(1000)]
        assert [one.status for one in answers] == [403] * MOST_FAILURES + [429] * (1000 - MOST_FAILURES)
        assert (await browser.sign_in()).status == 429, "nor is the right one, for a minute"
        browser.time[0] += 61
        assert (await browser.sign_in()).status == 303
    assert [one["event"] for one in logs] == ["ops.sign_in_failed"] * MOST_FAILURES + ["ops.signed_in"]
    assert "wrong-" not in str(logs)
    assert TOKEN not in str(logs)


async def test_a_token_in_an_address_or_in_place_of_the_name_is_refused(browser: Browser) -> None:
    assert (await browser.get(f"/sign-in?token={TOKEN}")).status == 400
    answer = await browser.post(f"/sign-in?token={TOKEN}", {"name": "ann", "token": TOKEN})
    assert (answer.status, "set-cookie" in answer.headers) == (400, False)
    answer = await browser.post("/sign-in", {"name": TOKEN, "token": TOKEN})
    assert (answer.status, "set-cookie" in answer.headers) == (403, False)
    assert (await browser.post("/sign-in", {"name": " ", "token": TOKEN})).status == 400


async def test_a_body_that_is_huge_slow_or_no_form_does_nothing(browser: Browser, acts: Acts) -> None:
    await browser.sign_in()
    form = await browser.form("/do/release?channel=tokyo")
    assert (await browser.post("/do/release", b"x" * (LARGEST_BODY + 1))).status == 413
    json_type = "Content-Type: application/json\r\n"
    for body in (b"\xff", b"{}", b"a=1&" * 100):
        assert (await browser.post("/do/release", body)).status == 403
    assert (await browser.post("/sign-in", urlencode(form).encode(), json_type)).status in (400, 403)
    slow = f"POST /do/release HTTP/1.1\r\nHost: localhost\r\nCookie: {browser.cookie}\r\nContent-Length: 99\r\n\r\n"
    async with asyncio.timeout(10):
        assert await said(browser.port, slow.encode() + b"csrf=") == b"", "cut off at the deadline"
    assert acts.done == []


@pytest.mark.parametrize("path", ["/sign-in", "/sign-out", "/do/release", "/operate", "/operation/1"])
async def test_without_a_token_the_addresses_of_the_forms_say_why_they_do_nothing(path: str) -> None:
    facts, renderer = Facts(), Renderer(lambda: ZoneInfo("Asia/Tokyo"), lambda: NOW)
    site = Site(facts, renderer, LiveUpdates(facts.overview, facts.channels, renderer))
    routes = [*site.routes(), *routes_without_token(site)]
    async with listening("127.0.0.1", 0, {}, routes=routes) as port:
        browser = Browser(port, [0.0])
        for answer in (await browser.post(path, {}), await browser.get(path)):
            assert answer.status == 404
            assert "ops.admin_token" in answer.body.decode()
        assert (await browser.post("/", {})).status == 405
        assert "sign-in" not in (await browser.get("/")).body.decode()
