"""What the page's addresses answer, with facts of a test."""

import asyncio
import contextlib
import json
import re
import socket
import time
from collections.abc import AsyncIterator, Collection, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from daemon.core.errors import StockrelayError, StoreRefused, StoreUnavailable
from daemon.core.explain.facts import PastAttempt
from daemon.core.exposure import Sums
from daemon.core.page_states import channel_views
from daemon.core.page_words import Language
from daemon.core.types import ChannelName, Sku, Slot
from daemon.ops.http import MOST_CONNECTIONS, MOST_STREAMS, listening
from daemon.ops.page.live import LiveUpdates
from daemon.ops.page.rendering import Renderer
from daemon.ops.page.site import Site
from daemon.store.answer_rows import LoggedAttempt
from daemon.store.history import HeldNumber, ParkedRow, SlotChange
from tests.ops.wire import asked, parsed, said

NOW = datetime(2026, 11, 29, 4, 0, tzinfo=UTC)
HOSTILE = "<script>alert(1)</script>\u202e\x1b[31m\"'"


def channel(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - of any kind
    """A channel that is in order, as `status` says it."""
    return {
        "owners": [{"owner": "host/1/a", "slots": 16, "since": NOW - timedelta(hours=1)}],
        "slots_without_owner": 0, "mode": "live", "live": {"since": NOW, "by": "ann"},
        "paused": None, "trouble": None, "resynced_at": NOW, "unread_changes": 0,
        "refused": 0, "skus": 12345, "backlog": 0, "oldest_s": None, "in_flight": 0, "doubt": 0, "parked": 0,
        "discarded": 0, "held": 0, "held_since": None, "held_because": None, "guard": "", "parked_skus": [],
        "sync": None, "reconciled": None, "open_differences": 0,
    } | changes  # fmt: skip


class Facts:
    """The source of a test."""

    list_size = 50

    def __init__(self) -> None:
        self.reads = 0
        self.skus: list[str] = []
        self.channels_now = {"tokyo": channel(), "osaka": channel(parked=3)}
        self.problem: StockrelayError | None = None
        self.findings: list[dict[str, Any]] = []

    def channels(self, _language: Language) -> Mapping[str, str]:
        return {name: f"Marketplace ({name})" for name in self.channels_now}

    async def overview(self) -> Mapping[str, Any]:
        if self.problem is not None:
            raise self.problem
        self.reads += 1
        status = {
            "channels": self.channels_now,
            "capture": {"checked_at": NOW, "findings": self.findings},
            "replicas": {"holders": ["host/1/a"], "differ_in": []},
            "notices": {
                "receivers": 0, "waiting": 0, "waiting_since": None, "why": None, "given_up_in_7_days": 0,
                "delivered_at": None,
            },
        }  # fmt: skip
        views = channel_views(self.channels_now)
        hour = {"pushes": [None, 0, 3], "failures": 1, "latencies": [None, None, 2.5], "rate": 0.05}
        attempt = PastAttempt(NOW, 1, ("A",), 7, "applied", HOSTILE, 12.0)
        return {
            "status": status,
            "states": views,
            "rates": dict.fromkeys(self.channels_now, 10.0),
            "hours": dict.fromkeys(self.channels_now, hour),
            "successes": {"tokyo": NOW},
            "attempts": [LoggedAttempt(ChannelName("tokyo"), Sku(HOSTILE), attempt)],
        }

    async def channel(
        self,
        name: ChannelName,
        held: tuple[int, str] | None,
        parked: tuple[datetime, str] | None,
        differences: tuple[str, str] | None,
    ) -> Mapping[str, Any]:
        self.asked = (name, held, parked, differences)
        rows = [ParkedRow(Sku(f"{HOSTILE}{n}"), HOSTILE, NOW, n) for n in range(51)]
        return {
            "held": [HeldNumber(Sku("A"), 5, None)],
            "parked": rows,
            "differences": [],
            "runs": [],
            "slots": [],
            "slot_changes": [SlotChange(NOW, "b", "a", (Slot(1), Slot(2)))],
        }

    async def exposure(self, channels: Collection[ChannelName]) -> Mapping[str, Mapping[date, Sums]]:
        return {name: {NOW.date(): Sums([1234.4], [0.0])} for name in channels}

    async def sku(self, asked: str, channel: str | None) -> tuple[Any, Mapping[str, Any]]:
        self.skus.append(asked)
        raise StockrelayError(f"no SKU {asked!r} at {channel}. Did you mean: {HOSTILE}?")


@pytest.fixture
def facts() -> Facts:
    return Facts()


@pytest.fixture
async def port(facts: Facts) -> AsyncIterator[int]:
    renderer = Renderer(lambda: ZoneInfo("Asia/Tokyo"), lambda: NOW)
    live = LiveUpdates(facts.overview, facts.channels, renderer, every_s=0.01)
    site = Site(facts, renderer, live)
    async with listening("127.0.0.1", 0, {}, routes=site.routes()) as found:
        yield found
        await live.close()


async def test_the_overview_says_what_each_channel_needs_and_allows_nothing_from_elsewhere(port: int) -> None:
    answer = await asked(port, "/")
    text = answer.body.decode()
    assert answer.status == 200
    assert '<html lang="en">' in text
    assert "12,345" in text
    assert "parked SKUs" in text
    assert "Asia/Tokyo" in text
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert " style=" not in text
    assert "<style" not in text


@pytest.mark.parametrize(("path", "plots"), [("/", 2), ("/channel/tokyo", 1), ("/channel/tokyo?lang=zh", 1)])
async def test_the_exposure_of_a_month_is_shown_by_channel(port: int, path: str, plots: int) -> None:
    text = (await asked(port, path)).body.decode()
    words = "over 1,234 (and 0 held or parked)" if "lang" not in path else "可超卖 1,234（"
    assert text.count('<svg class="exposure" role="img"') == plots
    assert text.count('<rect class="over"') == plots
    assert text.count(f"<title>2026-11-29: {words}") == plots
    assert text.count(f"<title>{words}") == plots


async def test_foreign_text_is_escaped_and_its_control_characters_are_shown(facts: Facts, port: int) -> None:
    trouble = {"what": "refused", "reason": HOSTILE, "advice": HOSTILE, "since": NOW}
    facts.channels_now["tokyo"] = channel(trouble=trouble)
    text = (await asked(port, "/")).body.decode()
    assert "<script>alert" not in text
    assert "\u202e" not in text
    assert "\x1b" not in text
    assert "\\u202e" in text


async def test_a_language_that_is_chosen_is_remembered(port: int) -> None:
    chosen = await asked(port, "/?lang=zh")
    assert '<html lang="zh-Hans">' in chosen.body.decode()
    cookie = chosen.headers["set-cookie"].partition(";")[0]
    again = await said(port, f"GET / HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}\r\n\r\n".encode())
    assert '<html lang="zh-Hans">' in parsed(again).body.decode()


@pytest.mark.parametrize(
    "path",
    [
        "/static/../site.py",
        "/static/..%2fsite.py",
        "/static/",
        "/static/page.css/",
        "/static/%00",
        "/static/%ff",
    ],
)
async def test_no_path_leads_out_of_the_static_files(port: int, path: str) -> None:
    assert (await asked(port, path)).status == 404


async def test_static_files_come_from_the_port(port: int) -> None:
    kinds = [(await asked(port, f"/static/page.{kind}")).headers["content-type"] for kind in ("css", "js")]
    assert kinds == ["text/css; charset=utf-8", "text/javascript; charset=utf-8"]


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        (StoreUnavailable("at db.internal"), "The database does not answer"),
        (StoreRefused("permission denied for db.internal"), "The database answered with an error"),
    ],
)
async def test_a_page_that_cannot_be_read_says_why_without_the_database_s_words(
    facts: Facts, port: int, problem: StockrelayError, said: str
) -> None:
    facts.problem = problem
    answer = await asked(port, "/")
    assert answer.status == 503
    assert said in answer.body.decode()
    assert "db.internal" not in answer.body.decode()


@pytest.mark.parametrize(
    ("changes", "headline", "said"),
    [
        ({"live": None}, "waits for go-live", "nothing is sent to it before `stockrelay go-live tokyo`"),
        ({"mode": "shadow"}, "in shadow", "Nothing is sent: channels.tokyo.mode is &#34;shadow&#34;."),
    ],
)
async def test_a_channel_to_which_nothing_is_sent_is_not_shown_in_order(
    facts: Facts, port: int, changes: dict[str, Any], headline: str, said: str
) -> None:
    facts.channels_now = {"tokyo": channel(**changes)}
    for path in ("/", "/channel/tokyo"):
        text = (await asked(port, path)).body.decode()
        assert f'<span class="badge warn">{headline}</span>' in text
        assert said in text
        assert "in order" not in text


async def test_changes_that_are_not_captured_are_said_first_although_all_channels_are_in_order(
    facts: Facts, port: int
) -> None:
    facts.channels_now = {"tokyo": channel()}
    facts.findings = [
        {"subject": "", "is_error": True, "found": "x is missing", "advice": "Migrate.", "since": NOW}
    ]
    text = (await asked(port, "/")).body.decode()
    assert "<strong>Error:</strong> <span>x is missing. Migrate.</span>" in text, (
        "and no colon for a table that is not named"
    )
    assert '<li class="bad"><a href="#capture">Changes in the ERP may not be captured</a></li>' in text
    assert "All channels are in order" not in text


@pytest.mark.parametrize("query", ["a=1&" * 100, "q=%00", "q=a%00b"])
async def test_a_query_that_no_page_takes_is_refused(port: int, query: str) -> None:
    assert (await asked(port, f"/?{query}")).status == 400


async def test_a_list_is_turned_over_by_links_that_name_its_last_row(facts: Facts, port: int) -> None:
    facts.channels_now["tokyo"] = channel(held_since=NOW, held=1, held_because="why")
    first = await asked(port, "/channel/tokyo")
    assert first.status == 200
    (link,) = re.findall(r'href="(/channel/tokyo\?parked=[^"#]+)', first.body.decode())
    assert (await asked(port, link)).status == 200
    assert facts.asked == ("tokyo", None, (NOW, f"{HOSTILE}49"), None)
    for cursor in ("x", "WzFd", "W10", "WyJhIiwgImIiXQ", "%ff", "WzEsIDJd"):
        assert (await asked(port, f"/channel/tokyo?parked={cursor}")).status == 400, cursor


@pytest.mark.parametrize(
    "path", ["/channel/kyoto", "/channel/tokyo%2fx", "/sku?channel=kyoto&q=A", "/events?channel=x"]
)
async def test_a_channel_that_there_is_not_is_not_found(port: int, path: str) -> None:
    assert (await asked(port, path)).status == 404


async def test_an_unknown_sku_is_said_with_what_may_have_been_meant(port: int) -> None:
    answer = await asked(port, "/sku?q=A%20%3Cb%3E&channel=tokyo")
    text = answer.body.decode()
    assert answer.status == 200
    assert "Did you mean" in text
    assert "<b>" not in text
    assert "<script>alert" not in text


async def test_blanks_around_a_sku_belong_to_it_unless_it_is_unknown(facts: Facts, port: int) -> None:
    assert (await asked(port, "/sku?q=+A&channel=tokyo")).status == 200
    await asked(port, "/sku?q=B")
    await asked(port, "/sku?q=+++")
    assert facts.skus == [" A", "A", "B"]


async def section(reader: asyncio.StreamReader, wanted: str) -> str:
    """The next text of a section that a stream brings."""
    async with asyncio.timeout(20):
        while line := await reader.readline():
            if line.startswith(b"data: ") and (found := json.loads(line[6:]))["id"] == wanted:
                return str(found["html"])
    raise AssertionError("the stream has ended")


async def streaming(port: int, path: str = "/events") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return reader, writer


async def test_an_open_page_is_sent_what_changes_and_ten_cost_one_reading(facts: Facts, port: int) -> None:
    streams = [await streaming(port) for _ in range(10)]
    assert all(["12,345" in await section(reader, "channels") for reader, _ in streams])
    facts.channels_now["tokyo"] = channel(skus=54321)
    before = facts.reads
    assert all(["54,321" in await section(reader, "channels") for reader, _ in streams])
    assert facts.reads - before < 10
    for _, writer in streams:
        writer.close()
    # With the last page, the reading ends.
    async with asyncio.timeout(20):
        while True:
            before = facts.reads
            await asyncio.sleep(0.05)
            if facts.reads == before:
                break


async def test_pages_that_are_loaded_at_once_cost_one_reading_for_each_language(
    facts: Facts, port: int
) -> None:
    answers = await asyncio.gather(*(asked(port, path) for path in ("/", "/?lang=zh") for _ in range(10)))
    assert {one.status for one in answers} == {200}
    assert facts.reads == 2


async def test_an_open_page_says_since_when_the_database_is_away(facts: Facts, port: int) -> None:
    reader, writer = await streaming(port, "/events?lang=zh")
    assert "<p" not in await section(reader, "age")
    facts.problem = StoreUnavailable("away")
    assert "无法读取数据库。本页显示的是 13:00:00 读取的内容。" in await section(reader, "age")
    facts.problem = None
    assert "<p" not in await section(reader, "age")
    writer.close()


async def test_chinese_pages_mark_what_is_said_in_english(facts: Facts, port: int) -> None:
    changes = {
        "held_since": NOW,
        "held": 1,
        "held_because": "many fell to 0",
        "guard": "more than 3",
        "parked": 1,
    }
    facts.channels_now["tokyo"] = channel(**changes)
    english, chinese = [
        (await asked(port, f"/channel/tokyo?lang={code}")).body.decode() for code in ("en", "zh")
    ]
    for words in ("many fell to 0.</span>", "more than 3</p>"):
        assert words in english
        assert f'lang="en">{words}' in chinese
    overview = (await asked(port, "/?lang=zh")).body.decode()
    assert "待确认、有搁置的" in overview


async def test_one_stream_too_many_is_refused_and_streams_keep_no_probe_out(port: int) -> None:
    streams = [await streaming(port) for _ in range(MOST_STREAMS)]
    for reader, _ in streams:
        await section(reader, "summary")
    assert (await asked(port, "/events")).status == 503
    idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(100)]
    assert (await asked(port, "/")).status == 200
    for _, writer in [*streams, *idle]:
        writer.close()
    assert MOST_CONNECTIONS < 100


async def test_a_page_that_reads_nothing_is_cut_off_and_delays_no_other(facts: Facts) -> None:
    renderer, largest = Renderer(lambda: ZoneInfo("Asia/Tokyo"), lambda: NOW), 200_000
    live = LiveUpdates(facts.overview, facts.channels, renderer, every_s=0.01)
    site = Site(facts, renderer, live)
    async with listening("127.0.0.1", 0, {}, 0.5, routes=site.routes()) as port:
        stuck = socket.create_connection(("127.0.0.1", port))
        stuck.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2 * largest)
        writer.write(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        began, sent = time.monotonic(), 0
        # More than the kernel buffers for one that does not read, and longer than that is borne.
        while sent < 60 * largest or time.monotonic() - began < 1.5:
            words = f"{sent:012}" + "x" * largest
            facts.findings = [
                {"subject": "", "is_error": True, "found": words, "advice": "Migrate.", "since": NOW}
            ]
            while words not in await section(reader, "capture"):
                pass
            sent += largest
        stuck.settimeout(20)
        received = 0
        with contextlib.suppress(ConnectionResetError):
            while part := stuck.recv(2**20):
                received += len(part)
        assert received < sent / 2
        stuck.close()
        writer.close()
        await live.close()


async def test_a_stream_ends_with_the_port(facts: Facts) -> None:
    renderer = Renderer(lambda: ZoneInfo("Asia/Tokyo"), lambda: NOW)
    live = LiveUpdates(facts.overview, facts.channels, renderer)
    site = Site(facts, renderer, live)
    async with listening("127.0.0.1", 0, {}, routes=site.routes()) as port:
        reader, writer = await streaming(port, "/events?channel=tokyo&lang=zh")
        assert "推送" in await section(reader, "attempts")
        await live.close()
        async with asyncio.timeout(20):
            await reader.read()
    writer.close()
