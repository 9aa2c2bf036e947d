"""An address that no server can mend is said to be wrong, and is not tried again and again."""

from datetime import timedelta

import pytest

from daemon.core.errors import ConfigError
from daemon.demo.postgres import PostgresServer
from daemon.store.connecting import ConnectOptions, connect, patience_s
from daemon.store.database import Database

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


@pytest.mark.parametrize("server", ["pg18"], indirect=True)
@pytest.mark.parametrize("option", ["-c%20work_mem%3Dabc", "zzz", "-c%20no_such%3D1"])
async def test_options_that_the_server_refuses_are_named(server: PostgresServer, option: str) -> None:
    dsn = f"{server.dsn()}{'&' if '?' in server.dsn() else '?'}options={option}"
    with pytest.raises(ConfigError, match=r"database\.dsn: the server refuses one of its parameters"):
        await Database(ConnectOptions(dsn, timedelta(seconds=5)), 1).open()


@pytest.mark.parametrize("port", ["x", "70000"])
async def test_a_port_of_the_environment_that_cannot_be_is_a_wrong_address(
    monkeypatch: pytest.MonkeyPatch, port: str
) -> None:
    monkeypatch.setenv("PGPORT", port)
    options = ConnectOptions(f"postgresql://someone:{SECRET}@127.0.0.1/erp", timedelta(seconds=1))
    for connecting in (connect(options), Database(options, 1).open()):
        with pytest.raises(ConfigError, match="PGPORT") as caught:
            await connecting
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "seconds"),
    [
        ("h/erp", 6),
        ("h,i/erp", 11),
        ("h,i/erp?connect_timeout=10", 21),
        ("h/erp?connect_timeout=0", 6),
        ("/erp?host=a,b,c&connect_timeout=7", 22),
    ],
)
def test_a_connection_is_waited_for_as_long_as_its_hosts_may_take(address: str, seconds: float) -> None:
    options = ConnectOptions(f"postgresql://{address}", timedelta(seconds=1))
    assert patience_s(options.arguments()) == seconds
