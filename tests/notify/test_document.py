"""docs/notifications.md names addresses that are some."""

import re
from pathlib import Path

import pytest

from daemon.settings import receivers

DOCUMENT = Path(__file__).parents[2] / "docs" / "notifications.md"
REAL = {
    "AGENTID": "1000002",
    "HOST": "hook.example",
    "TA/BB/CC": "T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7",
}


def documented() -> list[str]:
    rows = [line for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    return [found for row in rows for found in re.findall(r"`([a-z]+://[^`]+)`", row)]


def test_the_document_names_addresses_of_every_kind_that_was_asked_for() -> None:
    kinds = {receivers.schema(url) for url in documented()}
    assert {"dingtalk", "wecombot", "wechat", "feishu", "mailtos", "mailto", "slack", "jsons"} <= kinds


@pytest.mark.parametrize("url", documented())
def test_every_address_in_the_document_is_one(url: str) -> None:
    for placeholder, real in REAL.items():
        url = url.replace(placeholder, real)
    assert receivers.problem(url) is None
