"""Which requests over HTTP are answered, by their headers alone."""

import pytest

from daemon.core.callers import is_cross_origin, is_foreign_host

NAMES = ("ops.example", "stockrelay.shop.svc")


@pytest.mark.parametrize(
    "host",
    [
        None, "localhost", "LOCALHOST:9464", "localhost.", "ops.localhost", "127.0.0.1", "127.0.0.1:9464", "[::1]:9464",
        "10.244.1.7:9464", "[fd00::7]", "ops.example", "Ops.Example.:9464", "stockrelay.shop.svc:80",
    ],
)  # fmt: skip
def test_an_address_a_loopback_name_and_an_allowed_name_are_ours(host: str | None) -> None:
    assert not is_foreign_host(host, NAMES)


@pytest.mark.parametrize(
    "host",
    [
        "", ":9464", "attacker.example", "attacker.example:9464", "ops.example.attacker.example",
        "localhost.attacker.example",
        "127.0.0.1.attacker.example", "ops.example@attacker.example", "user@127.0.0.1", "127.0.0.1/", "127.0.0.1:port",
        "[::1", "localhost, attacker.example", "localhost:99999999",
    ],
)  # fmt: skip
def test_any_other_host_is_foreign(host: str) -> None:
    assert is_foreign_host(host, NAMES)


@pytest.mark.parametrize(
    ("headers", "is_refused"),
    [
        ({}, False),
        ({"sec-fetch-site": "none"}, False),
        ({"sec-fetch-site": "same-origin", "origin": "http://127.0.0.1:9464"}, False),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}, False),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"}, True),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}, True),
        ({"sec-fetch-site": "same-site", "sec-fetch-mode": "cors", "sec-fetch-dest": "empty"}, True),
        ({"sec-fetch-site": "nonsense"}, True),
        ({"origin": "http://127.0.0.1:9464"}, False),
        ({"origin": "http://127.0.0.1:80"}, True),
        ({"origin": "null"}, True),
        ({"origin": "https://attacker.example"}, True),
        ({"origin": "https://attacker.example/http://127.0.0.1:9464"}, True),
    ],
)
def test_what_another_site_asks_through_a_browser_is_cross_origin(
    headers: dict[str, str], is_refused: bool
) -> None:
    assert is_cross_origin({"host": "127.0.0.1:9464", **headers}) is is_refused
