"""Receivers on loopback."""

from collections.abc import AsyncIterator

import pytest

from tests.notify import inbox
from tests.notify.inbox import Inbox, Mailbox


@pytest.fixture
async def box() -> AsyncIterator[Inbox]:
    async with inbox.inbox() as opened:
        yield opened


@pytest.fixture
async def mailbox() -> AsyncIterator[Mailbox]:
    async with inbox.mailbox() as opened:
        yield opened
