"""What `check` says of the marketplaces."""

from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from daemon.core.finding import Verdict
from tests.check.conftest import Office
from tests.marketplaces.authority import Authority

REFUSALS: Final[list[tuple[str, dict[str, Any], str, str]]] = [
    ("sekorm", {"app_secret": "another"}, "no permission", "app_secret"),
    ("sekorm", {"allowed_addresses": (ip_network("192.0.2.0/24"),)}, "ip invalid", "egress address"),
    ("sekorm", {"disabled": True}, "sp already forbidden", "ask Sekorm"),
    ("sekorm", {"down": True}, "the connection", "base_url"),
    ("ymatou", {"auth_code": "another"}, "0002", "auth_code"),
    ("ymatou", {"app_secret": "another"}, "0004", "app_secret"),
]


async def test_a_marketplace_that_refuses_us_is_explained(office18: Office) -> None:
    settings, unchanged = office18.settings(), office18.simulator.settings
    for shop, change, found, advice in REFUSALS:
        office18.simulator.configure(unchanged.changed(shop, **change))
        answers = await office18.check(settings)
        failed = answers.failed(f"marketplace {shop}")
        assert found in failed.found, change
        assert advice in failed.advice, change
        assert set(answers.bad()) == {f"marketplace {shop}"}
        # The next check fetches a token at once.
        office18.database.run_sql("DELETE FROM stockrelay.token")


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


async def test_y04_a_clock_that_is_off_is_found_before_ymatou_refuses_it(office18: Office) -> None:
    settings = office18.simulator.settings
    for offset_s, verdict in ((60, Verdict.WARNING), (-400, Verdict.FAILED), (700, Verdict.FAILED)):
        office18.simulator.configure(settings.model_copy(update={"clock_offset_s": offset_s}))
        answers = await office18.check()
        assert answers.bad() == {"clock ymatou": verdict}, offset_s
        assert "NTP" in answers.of("clock ymatou").advice


async def test_s04_the_token_that_proves_the_account_is_kept_for_the_daemon(office18: Office) -> None:
    assert (await office18.check()).of("marketplace sekorm").verdict is Verdict.PASSED
    assert office18.simulator.stats.token_calls == 1
    kept = office18.database.run_sql("SELECT count(*) FROM stockrelay.token WHERE expires_at > now()")
    assert kept == "1"
