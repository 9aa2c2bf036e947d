"""The settings let an operator ask for no more SKUs a call than the clients send."""

from typing import Any

import pytest
from pydantic import ValidationError

from daemon.marketplaces import registry
from daemon.marketplaces.spec import MarketplaceSpec
from tests.marketplaces.conftest import Line


def test_batch_ends_where_the_client_does(line: Line) -> None:
    most = line.client.most_per_call
    assert line.spec.section(enabled=False, batch=most).batch == most
    with pytest.raises(ValidationError):
        line.spec.section(enabled=False, batch=most + 1)


@pytest.mark.parametrize("spec", registry.MARKETPLACES, ids=lambda spec: spec.name)
def test_a_section_is_its_marketplaces(spec: MarketplaceSpec[Any]) -> None:
    assert spec.section(enabled=False).marketplace == spec.name
