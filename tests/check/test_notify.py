"""Whether anybody is told."""

from pathlib import Path

from daemon.check.findings import Findings
from daemon.check.notify import NOTIFY, check_notify
from daemon.check.privacy import check_files
from daemon.core.finding import Verdict
from tests.check.conftest import Office


async def test_no_receiver_is_a_warning(office18: Office) -> None:
    findings = Findings()
    check_notify(findings, office18.settings(notify={"urls": []}))
    assert [(result.check, result.verdict) for result in findings.results] == [(NOTIFY, Verdict.WARNING)]
    assert "notify.urls" in findings.results[0].advice


async def test_kinds_of_receivers_are_named_and_no_address_is_shown(office18: Office) -> None:
    urls = ["dingtalk://SECplanted@tokenplanted", "mailto://u:planted@mail.example?to=a@b.example"]
    findings = Findings()
    check_notify(findings, office18.settings(notify={"urls": urls, "language": "en"}))
    (result,) = findings.results
    assert result.verdict is Verdict.PASSED
    assert "dingtalk, mailto" in result.found
    assert "planted" not in str(result)


async def test_a_receiver_whose_certificate_is_not_verified_is_a_warning(office18: Office) -> None:
    findings = Findings()
    urls = ["jsons://hook.example/planted?verify=no", "dingtalk://SECplanted@tokenplanted"]
    check_notify(findings, office18.settings(notify={"urls": urls}))
    (result,) = findings.results
    assert result.verdict is Verdict.WARNING
    assert result.found.startswith("jsons does not verify certificates (verify=no)")
    assert "planted" not in str(result)


def test_files_with_secrets_that_everybody_may_read_are_a_warning() -> None:
    findings = Findings()
    check_files(findings, [Path("/etc/stock relay/config.toml")])
    (result,) = findings.results
    assert result.verdict is Verdict.WARNING
    assert "chmod o-r '/etc/stock relay/config.toml'" in result.advice
