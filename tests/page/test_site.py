"""What the page's addresses answer, with facts of a test."""

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from daemon.core.errors import StoreUnavailable
from daemon.core.page_states import channel_views
from daemon.core.page_words import Language
from daemon.ops.http import listening
from daemon.ops.page.rendering import Renderer
from daemon.ops.page.site import Site
from tests.ops.wire import asked, parsed, said

NOW = datetime(2026, 11, 29, 4, 0, tzinfo=UTC)
HOSTILE = "<script>alert(1)</script>\u202e\x1b[31m\"'"


def channel(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - of any kind
    """A channel that is in order, as `status` says it."""
    return {
        "owners": [{"owner": "host/1/a", "slots": 16, "since": NOW - timedelta(hours=1)}],
        "slots_without_owner": 0, "paused": None, "trouble": None, "resynced_at": NOW, "unread_changes": 0,
        "refused": 0, "skus": 12345, "backlog": 0, "oldest_s": None, "in_flight": 0, "doubt": 0, "parked": 0,
        "discarded": 0, "held": 0, "held_since": None, "held_because": None, "guard": "", "parked_skus": [],
        "sync": None, "reconciled": None, "open_differences": 0,
    } | changes  # fmt: skip


class Facts:
    """The source of a test."""

    def __init__(self) -> None:
        self.channels_now = {"tokyo": channel(), "osaka": channel(parked=3)}
        self.is_away = False

    def channels(self, _language: Language) -> Mapping[str, str]:
        return {name: f"Marketplace ({name})" for name in self.channels_now}

    async def overview(self) -> Mapping[str, Any]:
        if self.is_away:
            raise StoreUnavailable("at db.internal")
        status = {
            "channels": self.channels_now,
            "capture": {"checked_at": NOW, "findings": []},
            "replicas": {"holders": ["host/1/a"], "differ_in": []},
            "notices": {
                "receivers": 0, "waiting": 0, "waiting_since": None, "why": None, "given_up_in_7_days": 0,
                "delivered_at": None,
            },
        }  # fmt: skip
        views = channel_views(self.channels_now)
        return {"status": status, "states": views, "rates": dict.fromkeys(self.channels_now, 10.0)}


@pytest.fixture
def facts() -> Facts:
    return Facts()


@pytest.fixture
async def port(facts: Facts) -> AsyncIterator[int]:
    site = Site(facts, Renderer(lambda: ZoneInfo("Asia/Tokyo"), lambda: NOW))
    async with listening("127.0.0.1", 0, {}, routes=site.routes()) as found:
        yield found


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


async def test_a_database_that_is_away_is_said_without_its_address(facts: Facts, port: int) -> None:
    facts.is_away = True
    answer = await asked(port, "/")
    assert answer.status == 503
    assert "The database does not answer" in answer.body.decode()
    assert "db.internal" not in answer.body.decode()


@pytest.mark.parametrize("query", ["a=1&" * 100, "q=%00", "q=a%00b"])
async def test_a_query_that_no_page_takes_is_refused(port: int, query: str) -> None:
    assert (await asked(port, f"/?{query}")).status == 400
