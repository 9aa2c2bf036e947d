"""Checks that notifications have a receiver."""

from typing import Final

from daemon.check.findings import Findings
from daemon.settings import Settings
from daemon.settings.receivers import is_unverified, schema

NOTIFY: Final = "notify"


def check_notify(findings: Findings, settings: Settings) -> None:
    """Name the kinds of receivers. The addresses were validated when they were loaded; only `stockrelay notify test`
    shows whether a message arrives."""
    urls = settings.notify.urls
    if not urls:
        findings.warn(
            NOTIFY,
            "no notification is sent when a channel is paused, SKUs are parked or numbers differ",
            "set notify.urls (docs/notifications.md), then run `stockrelay notify test`",
        )
        return
    if blind := [schema(url) for url in (each.get_secret_value() for each in urls) if is_unverified(url)]:
        findings.warn(
            NOTIFY,
            f"{', '.join(blind)} does not verify certificates (verify=no): a man in the middle can read the messages",
            "take verify=no out of notify.urls; the receiver's certificate must be one that this machine trusts",
        )
        return
    kinds = ", ".join(schema(url.get_secret_value()) for url in urls)
    findings.passed(
        NOTIFY, f"sent in {settings.notify.language} by {kinds}; `stockrelay notify test` proves it"
    )
