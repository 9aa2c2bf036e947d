"""What a running daemon takes over from a new configuration, and what it names as needing a restart."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from daemon.app.configuration import load
from daemon.settings import Settings
from daemon.settings.reload import reload

EXAMPLE = Path(__file__).parents[2] / "config.example.toml"


def settings(**variables: str) -> Settings:
    """The example's settings, with some given by the environment."""
    return load(EXAMPLE, None, {f"STOCKRELAY_{name.upper()}": value for name, value in variables.items()})


def value(settings: Settings, key: str) -> Any:  # noqa: ANN401 - whatever the key holds
    found: Any = settings
    for name in key.split("."):
        found = found[name] if isinstance(found, Mapping) else getattr(found, name)
    return found


@pytest.mark.parametrize(
    ("key", "variables"),
    [
        ("log.level", {"log__level": "debug"}),
        ("notify.urls", {"notify__urls": '["json://example.org/x"]'}),
        ("notify.gather_s", {"notify__gather_s": "7"}),
        ("channels.sekorm.rate_per_s", {"channels__sekorm__rate_per_s": "7"}),
        ("channels.sekorm.app_secret", {"channels__sekorm__app_secret": "another-one-77"}),
        ("channels.sekorm.account", {"channels__sekorm__account": "another-one-77"}),
        ("channels.ymatou.auth_code", {"channels__ymatou__auth_code": "another-one-77"}),
        ("channels.ymatou.batch_above", {"channels__ymatou__batch_above": "7"}),
        ("channels.ymatou.only", {"channels__ymatou__only": '["SKU-1"]'}),
        ("channels.ymatou.only_where", {"channels__ymatou__only_where": "outer_sku_id <> 'X'"}),
        ("database.dsn", {"database__dsn": "postgresql://stockrelay:another-77@127.0.0.1:5432/erp"}),
    ],
)
def test_it_takes_effect_at_once(key: str, variables: Mapping[str, str]) -> None:
    old, new = settings(), settings(**variables)
    done = reload(old, new)
    assert (done.changed, done.needs_restart) == ((key,), ())
    assert value(done.settings, key) == value(new, key) != value(old, key)


@pytest.mark.parametrize(
    ("key", "variables"),
    [
        ("log.format", {"log__format": "json"}),
        ("run.poll_s", {"run__poll_s": "7"}),
        ("watch", {"watch": '[{"table": "erp.other", "sku": "sku"}]'}),
        ("channels.sekorm.listing", {"channels__sekorm__listing": "SELECT 1"}),
        ("channels.sekorm.concurrency", {"channels__sekorm__concurrency": "7"}),
        ("channels.sekorm.timeout_s", {"channels__sekorm__timeout_s": "7"}),
        ("channels.ymatou.enabled", {"channels__ymatou__enabled": "false"}),
        ("database.dsn", {"database__dsn": "postgresql://stockrelay:another-77@db2.example:5432/erp"}),
        ("database.pool_size", {"database__pool_size": "7"}),
    ],
)
def test_it_needs_a_restart(key: str, variables: Mapping[str, str]) -> None:
    old = settings()
    done = reload(old, settings(**variables))
    assert (done.changed, done.needs_restart) == ((), (key,))
    assert done.settings == old


def test_nothing_has_changed() -> None:
    old = settings()
    assert reload(old, settings()) == (old, (), ())


TOKYO = {
    f"channels__tokyo__{name}": value
    for name, value in {
        "marketplace": "ymatou", "app_id": "a", "app_secret": "secret-of-tokyo", "auth_code": "c",
        "listing": "SELECT 1",
    }.items()
}  # fmt: skip


def test_the_credentials_of_a_channel_of_any_name_take_effect_at_once() -> None:
    done = reload(settings(**TOKYO), settings(**TOKYO | {"channels__tokyo__auth_code": "another"}))
    assert (done.changed, done.needs_restart) == (("channels.tokyo.auth_code",), ())


def test_a_channel_that_comes_goes_or_moves_to_another_marketplace_needs_a_restart() -> None:
    moved = {
        "channels__tokyo__marketplace": "sekorm", "channels__tokyo__account": "a",
        "channels__tokyo__app_secret": "secret-of-tokyo", "channels__tokyo__listing": "SELECT 1",
    }  # fmt: skip
    without, there, elsewhere = settings(), settings(**TOKYO), settings(**moved)
    for old, new in ((without, there), (there, without), (there, elsewhere)):
        done = reload(old, new)
        assert (done.changed, done.needs_restart) == ((), ("channels.tokyo",))
        assert done.settings == old
