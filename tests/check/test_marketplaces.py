"""What `check` says of the marketplaces."""

from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from daemon.core.finding import Verdict
from tests.check.conftest import Office
from tests.marketplaces.authority import Authority


def change(office: Office, **sections: dict[str, Any]) -> None:
    """Let the marketplaces be otherwise."""
    for name, values in sections.items():
        office.simulator.change(name, **values)


@pytest.mark.parametrize(
    ("sections", "name", "found", "advice"),
    [
        ({"sekorm": {"app_secret": "another"}}, "marketplace sekorm", "no permission", "app_secret"),
        (
            {"sekorm": {"allowed_addresses": (ip_network("192.0.2.0/24"),)}},
            "marketplace sekorm", "ip invalid", "egress address",
        ),
        ({"sekorm": {"disabled": True}}, "marketplace sekorm", "sp already forbidden", "ask Sekorm"),
        ({"sekorm": {"down": True}}, "marketplace sekorm", "the connection", "base_url"),
        ({"ymatou": {"auth_code": "another"}}, "marketplace ymatou", "0002", "auth_code"),
        ({"ymatou": {"app_secret": "another"}}, "marketplace ymatou", "0004", "app_secret"),
    ],
)  # fmt: skip
async def test_a_marketplace_that_refuses_us_is_explained(
    office18: Office, sections: dict[str, dict[str, Any]], name: str, found: str, advice: str
) -> None:
    settings = office18.settings()
    change(office18, **sections)
    answers = await office18.check(settings)
    failed = answers.failed(name)
    assert found in failed.found
    assert advice in failed.advice
    assert set(answers.bad()) == {name}


async def test_a_marketplace_that_is_not_there_leaves_the_other_alone(office18: Office) -> None:
    settings = office18.settings(channels={"ymatou": {"base_url": "http://127.0.0.1:1"}})
    answers = await office18.check(settings)
    failed = answers.failed("marketplace ymatou")
    assert "no connection to 127.0.0.1:1" in failed.found
    assert "firewall" in failed.advice
    assert answers.bad() == {"marketplace ymatou": Verdict.FAILED, "clock ymatou": Verdict.SKIPPED}


async def test_a_certificate_that_is_not_trusted_is_explained(office18: Office, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    runner = web.ServerRunner(web.Server(_never))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=authority.server()).start()
    try:
        port = runner.addresses[0][1]
        settings = office18.settings(channels={"ymatou": {"base_url": f"https://127.0.0.1:{port}"}})
        failed = (await office18.check(settings)).failed("marketplace ymatou")
    finally:
        await runner.cleanup()
    assert "the certificate is not trusted" in failed.found
    assert "ca_file" in failed.advice


async def _never(_request: web.BaseRequest) -> web.Response:
    raise AssertionError("a request went out over a connection that is not trusted")


async def test_certificates_that_cannot_be_read_fail_their_channel_alone(
    office18: Office, tmp_path: Path
) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("no certificate")
    settings = office18.settings(
        channels={"sekorm": {"base_url": "https://127.0.0.1:1/serviceGate", "ca_file": str(file)}}
    )
    answers = await office18.check(settings)
    assert "ca_file" in answers.failed("marketplace sekorm").found
    assert set(answers.bad()) == {"marketplace sekorm"}


@pytest.mark.parametrize(
    ("offset_s", "verdict"), [(60, Verdict.WARNING), (-400, Verdict.FAILED), (700, Verdict.FAILED)]
)
async def test_y04_a_clock_that_is_off_is_found_before_ymatou_refuses_it(
    office18: Office, offset_s: float, verdict: Verdict
) -> None:
    settings = office18.simulator.settings
    office18.simulator.configure(settings.model_copy(update={"clock_offset_s": offset_s}))
    answers = await office18.check()
    assert answers.bad() == {"clock ymatou": verdict}
    assert "NTP" in answers.of("clock ymatou").advice


async def test_s04_the_token_that_proves_the_account_is_kept_for_the_daemon(office18: Office) -> None:
    assert (await office18.check()).of("marketplace sekorm").verdict is Verdict.PASSED
    assert office18.simulator.stats.token_calls == 1
    kept = office18.database.run_sql("SELECT count(*) FROM stockrelay.token WHERE expires_at > now()")
    assert kept == "1"
