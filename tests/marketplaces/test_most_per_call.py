"""The settings let an operator ask for no more SKUs a call than the clients send."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from daemon.marketplaces import SekormClient, YmatouClient
from daemon.settings import rules


@pytest.mark.parametrize(
    ("batch", "most"),
    [(rules.SekormBatch, SekormClient.most_per_call), (rules.YmatouBatch, YmatouClient.most_per_call)],
)
def test_batch_ends_where_the_client_does(batch: Any, most: int) -> None:  # noqa: ANN401 - an annotated type
    number: TypeAdapter[int] = TypeAdapter(batch)
    assert number.validate_python(most) == most
    with pytest.raises(ValidationError):
        number.validate_python(most + 1)
