"""Fingerprints of the settings: what replicas must have alike has one, and none gives a secret away."""

from collections.abc import Mapping

import pytest

from daemon.settings.fingerprints import differing, fingerprints
from tests.unit.test_reload import settings


@pytest.mark.parametrize(
    ("variables", "sections"),
    [
        ({}, ()),
        ({"channels__sekorm__listing": "SELECT 1"}, ("channels.sekorm",)),
        ({"channels__ymatou__concurrency": "2"}, ("channels.ymatou",)),
        ({"watch": '[{"table": "erp.other", "sku": "sku"}]'}, ("watch",)),
        ({"debounce__quiet_s": "7"}, ("debounce",)),
        ({"guard__zero_share": "0.7", "run__poll_s": "7"}, ("guard", "run")),
        ({"channels__sekorm__app_secret": "another-one-77"}, ("secrets",)),
        ({"notify__urls": '["json://example.org/a"]'}, ("notify", "secrets")),
        (
            {
                "database__dsn": "postgresql://u:another-77@elsewhere/erp",
                "ops__port": "7",
                "log__level": "debug",
            },
            (),
        ),
    ],
)
def test_settings_that_differ_have_other_fingerprints(
    variables: Mapping[str, str], sections: tuple[str, ...]
) -> None:
    assert differing(fingerprints(settings()), fingerprints(settings(**variables))) == sections


def test_a_fingerprint_holds_no_secret_and_is_the_same_each_time() -> None:
    found = fingerprints(settings(channels__sekorm__app_secret="0123456789abcdef"))
    assert found == fingerprints(settings(channels__sekorm__app_secret="0123456789abcdef"))
    assert "0123456789abcdef" not in "".join(found.values())
    assert {len(value) for value in found.values()} == {16}
