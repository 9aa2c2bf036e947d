"""Whether anybody is told."""

from daemon.check.findings import Findings
from daemon.check.notify import NOTIFY, check_notify
from daemon.core.checks import Verdict
from tests.check.conftest import Office


async def test_nobody_to_tell_is_a_warning(office18: Office) -> None:
    findings = Findings()
    check_notify(findings, office18.settings(notify={"urls": []}))
    assert [(result.name, result.verdict) for result in findings.results] == [(NOTIFY, Verdict.WARNING)]
    assert "notify.urls" in findings.results[0].advice


async def test_who_is_told_is_named_and_no_address_is_shown(office18: Office) -> None:
    urls = ["dingtalk://SECplanted@tokenplanted", "mailto://u:planted@mail.example?to=a@b.example"]
    findings = Findings()
    check_notify(findings, office18.settings(notify={"urls": urls, "language": "en"}))
    (result,) = findings.results
    assert result.verdict is Verdict.PASSED
    assert "dingtalk, mailto" in result.found
    assert "planted" not in str(result)
