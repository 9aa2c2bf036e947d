"""`stockrelay simulate`: further shops, by name and marketplace."""

import click
import pytest

from daemon.commands.simulate import simulate
from daemon.simulator import SimulatorSettings, banner


@pytest.mark.parametrize("shop", ["tokyo", "=ymatou", "tokyo=amazon", "ymatou=ymatou", "tokyo="])
def test_a_shop_that_has_no_name_or_no_marketplace_is_refused_in_words(shop: str) -> None:
    with pytest.raises(click.BadParameter, match="write NAME=MARKETPLACE"):
        simulate.main(["--shop", shop], standalone_mode=False)


@pytest.mark.parametrize("shop", ["a?b=webhook", "x y=ymatou", "a\nb=ymatou", f"{'x' * 41}=ymatou"])
def test_a_shops_name_follows_the_rule_for_channels(shop: str) -> None:
    with pytest.raises(click.BadParameter, match="is no name for a channel; write lower-case") as caught:
        simulate.main(["--shop", shop], standalone_mode=False)
    assert "\n" not in caught.value.message


def test_the_banner_shows_every_shop_with_credentials_of_its_own() -> None:
    settings = SimulatorSettings().with_shop("tokyo", "ymatou").with_shop("kobe", "webhook")
    text = banner("http://127.0.0.1:8480", settings)
    assert {"shop sekorm", "shop ymatou", "shop tokyo", "shop kobe"} <= {
        line.partition(", ")[2] for line in text.splitlines() if ", shop " in line
    }
    assert len({line for line in text.splitlines() if "auth code" in line}) == 2
    assert "http://127.0.0.1:8480/webhook/kobe" in text
