"""Two channels of one marketplace: clients, tokens and shops of their own."""

from collections.abc import AsyncIterator
from functools import partial

import pytest

from daemon.core.outcome import Kind, Trouble
from daemon.core.types import ChannelName, Push, Sku
from daemon.marketplaces import sekorm, ymatou
from daemon.marketplaces.client import Client
from daemon.simulator import Simulator
from daemon.simulator.marketplaces.sekorm import SekormShop
from daemon.simulator.marketplaces.ymatou.settings import YmatouShop
from tests.marketplaces.cases import sekorm_settings, ymatou_settings
from tests.marketplaces.conftest import LONG
from tests.marketplaces.memory import MemoryTokens

PART = Push(Sku("a"), ("LM358", "AMS"), 7)


def _kept(store: MemoryTokens, _key: str | None) -> MemoryTokens:
    return store


@pytest.fixture
async def accounts(simulator: Simulator) -> AsyncIterator[tuple[Client, Client, list[MemoryTokens]]]:
    """Two channels at Sekorm, each with an account and a token store of its own."""
    simulator.configure(simulator.settings.with_shop("shenzhen", "sekorm"))
    stores = [MemoryTokens(), MemoryTokens()]
    clients = []
    for name, store in zip(("sekorm", "shenzhen"), stores, strict=True):
        shop = simulator.settings.of(SekormShop, name)
        section = sekorm_settings(simulator.url, account=shop.account, app_secret=shop.app_secret)
        clients.append(sekorm.SPEC.client(ChannelName(name), section, partial(_kept, store)))
    yield clients[0], clients[1], stores
    for client in clients:
        await client.close()


async def test_s04_each_account_has_a_token_of_its_own(
    simulator: Simulator, accounts: tuple[Client, Client, list[MemoryTokens]]
) -> None:
    first, second, stores = accounts
    assert (await second.push(PART, LONG)).kind is Kind.APPLIED
    assert (simulator.state.of("shenzhen"), simulator.state.of("sekorm")) == ({("LM358", "AMS"): 7}, {})
    assert (await first.push(PART._replace(quantity=9), LONG)).kind is Kind.APPLIED
    assert simulator.state.of("shenzhen") == {("LM358", "AMS"): 7}
    assert stores[0].value != stores[1].value
    assert simulator.stats.token_calls == 2


async def test_an_account_that_is_disabled_leaves_the_other_alone_and_is_named_by_its_channel(
    simulator: Simulator, accounts: tuple[Client, Client, list[MemoryTokens]]
) -> None:
    first, second, _ = accounts
    simulator.change("shenzhen", app_secret="another")
    outcome = await second.push(PART, LONG)
    assert (outcome.trouble, "channels.shenzhen.account" in outcome.advice) == (Trouble.CREDENTIAL, True)
    assert (await first.push(PART, LONG)).kind is Kind.APPLIED


async def test_two_shops_of_one_application_are_distinguished_by_their_authorisations(
    simulator: Simulator,
) -> None:
    simulator.configure(simulator.settings.with_shop("tokyo", "ymatou"))
    tokyo = simulator.settings.of(YmatouShop, "tokyo")
    client = ymatou.SPEC.client(
        ChannelName("tokyo"),
        ymatou_settings(simulator.url, auth_code=tokyo.auth_code),
        lambda _key: MemoryTokens(),
    )
    assert (await client.push(Push(Sku("a"), ("393992",), 5), LONG)).kind is Kind.APPLIED
    assert (simulator.state.of("tokyo"), simulator.state.of("ymatou")) == ({"393992": 5}, {})
    await client.close()
