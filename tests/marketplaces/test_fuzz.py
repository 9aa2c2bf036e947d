"""A part of what `python -m tests.marketplaces.fuzz` does, with a seed, and what the strict reader tells apart."""

import pytest
import structlog

from tests.marketplaces import strict
from tests.marketplaces.fuzz import METHODS, fuzz

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"


async def test_no_answer_raises_outlasts_its_deadline_or_is_applied_against_a_strict_reader() -> None:
    with structlog.testing.capture_logs() as lines:
        figures = await fuzz(1_500, seed=1)
    assert figures.answers == 1_500
    assert not [line for line in lines if line["event"] == "marketplace.client_failed"]
    kinds = {name.split()[1] for name in figures.outcomes}
    assert kinds >= {"applied", "refused", "differs", "page", "trouble", "unknown", "not_sent"}
    for method in METHODS:
        good = "page" if method == "ymatou.read_page" else "applied"
        assert figures.outcomes[f"{method} {good}"], "a fuzzer that breaks everything shows nothing"


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        (OK + b'{"code":0}', b'{"code":0}'),
        (OK + b'{"code":0}x', b'{"code":0}'),
        (OK + b'{"code":', None),
        (OK.replace(b"\r", b"") + b'{"code":0}', b'{"code":0}'),
        (OK.replace(b": ", b":\r\n ") + b'{"code":0}', b'{"code":0}'),
        (OK.replace(b"Content", b" Content") + b'{"code":0}', None),
        (OK.replace(b"200", b"201") + b'{"code":0}', None),
        (OK.replace(b"10", b"10\r\nContent-Length: 10") + b'{"code":0}', None),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", b"{}"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", None),
        (OK.replace(b"10", b"2\r\nContent-Encoding: gzip") + b"{}", None),
    ],
)
def test_the_strict_reader_takes_whole_replies_alone(raw: bytes, found: bytes | None) -> None:
    assert strict.body(raw, is_closed=False) == found


@pytest.mark.parametrize(
    ("method", "body", "is_success"),
    [
        ("sekorm.push", b'{"code":0}', True),
        ("sekorm.push", b'{"code":0,"code":0}', False),
        ("sekorm.push", b'{"code":false}', False),
        ("sekorm.push", b'{"code":0,"x":NaN}', False),
        ("sekorm.probe", b'{"code":0,"data":[{"accessToken":"a","expiresIn":"60"}]}', True),
        ("sekorm.probe", b'{"code":0,"data":[]}', False),
        ("ymatou.push", b'{"code":"0000"}', True),
        ("ymatou.push", b'{"code":"0000","content":{"results":[{"outer_sku_id":"A","success":true}]}}', True),
        (
            "ymatou.push",
            b'{"code":"0000","content":{"results":[{"outer_sku_id":"B","success":false}]}}',
            False,
        ),
        ("ymatou.push", b'{"code":"0000","content":{"results":[{"outer_sku_id":1,"success":true}]}}', False),
        ("ymatou.read_page", b'{"code":"0000","content":{"total_count":1,"product_infos":[]}}', True),
        ("ymatou.read_page", b'{"code":"0000","content":{"total_count":true,"product_infos":[]}}', False),
    ],
)
def test_the_strict_reader_takes_what_is_documented_alone(
    method: str, body: bytes, *, is_success: bool
) -> None:
    assert strict.says(method, body, "A", ["A"]) is is_success
