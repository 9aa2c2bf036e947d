"""An address that no server can mend is said to be wrong, and is not tried again and again."""

from datetime import timedelta

import pytest

from daemon.core.errors import ConfigError
from daemon.store.database import ConnectOptions, connect

SECRET = "hunter2-but-long"


@pytest.mark.parametrize("option", ["sslmode=sometimes", "target_session_attrs=writeable"])
@pytest.mark.parametrize("hosts", ["127.0.0.1:1", "127.0.0.1:1,[::1]:2"])
async def test_an_option_with_a_value_that_it_does_not_have_is_named(option: str, hosts: str) -> None:
    dsn = f"postgresql://someone:{SECRET}@{hosts}/erp?{option}"
    with pytest.raises(ConfigError) as caught:
        await connect(ConnectOptions(dsn, timedelta(seconds=1)))
    assert "database.dsn" in str(caught.value)
    assert option.split("=", maxsplit=1)[0] in str(caught.value)
    assert SECRET not in str(caught.value)
