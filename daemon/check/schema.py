"""Our schema: there, of this version, open to the daemon's role, and not that of a copy."""

import shlex
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from daemon.check.findings import Findings
from daemon.core.capture import TriggerFault, WatchedTable, judge_functions, judge_owners, judge_replication
from daemon.core.dependencies import judge_subscribed
from daemon.core.doorbell import bell_rings, judge_bell
from daemon.settings import Settings
from daemon.settings.fingerprints import differing, fingerprints
from daemon.store.accounts import known_channels
from daemon.store.dependencies import Dependencies
from daemon.store.inspect import Inspector, ServerInfo
from daemon.store.migrate import head

SCHEMA: Final = "schema"
RIGHTS: Final = "rights"
IDENTITY: Final = "identity"
CHANGE_LOG: Final = "change log"
REPLICAS: Final = "replicas"
CHANNELS: Final = "channels"
DOORBELL: Final = "doorbell"
FUNCTIONS: Final = "functions"
OWNER: Final = "triggers' owner"
REPLICATION: Final = "replicated sessions"
_EMPTIED: Final = timedelta(hours=1)
"""A log that is emptied at all is emptied far more often than that."""
_MIGRATE: Final = (
    "run `stockrelay migrate` as the schema's owner (`stockrelay migrate --sql` prints what it does)"
)


async def check_schema(findings: Findings, inspector: Inspector, server: ServerInfo) -> bool:
    """Return whether everything else in the schema can be looked at."""
    is_right = False
    with findings.guarding(SCHEMA):
        is_open = await inspector.is_schema_open()
        is_readable = await inspector.is_version_readable() if is_open is not None else None
        if is_open is None:
            findings.failed(SCHEMA, "there is no schema stockrelay", _MIGRATE)
        elif not is_open or is_readable is False:
            usage = [] if is_open else [f"GRANT USAGE ON SCHEMA stockrelay TO {server.quoted_role};"]
            grants, _missing = await inspector.missing_rights()
            found = f"{server.role} may not read the schema stockrelay"
            migrate = f"stockrelay migrate --grant-to {shlex.quote(server.role)}"
            findings.failed(SCHEMA, found, f"as its owner, run `{migrate}`, or: {' '.join(usage + grants)}")
        else:
            version = await inspector.version() if is_readable else None
            is_right = _judge_version(findings, version, head())
    return is_right


def _judge_version(findings: Findings, version: str | None, wanted: str) -> bool:
    if version == wanted:
        findings.passed(SCHEMA, f"version {version}")
        return True
    if version is None:
        findings.failed(SCHEMA, "the schema stockrelay is empty: no migration has run", _MIGRATE)
    else:
        advice = f"{_MIGRATE}; if it does not know {version}, this program is the older one: upgrade it"
        findings.failed(SCHEMA, f"version {version}; this program wants {wanted}", advice)
    return False


async def check_rights(findings: Findings, inspector: Inspector, server: ServerInfo) -> bool:
    """Return whether the daemon's role may do all that the daemon does."""
    is_right = False
    with findings.guarding(RIGHTS):
        grants, missing = await inspector.missing_rights()
        if missing:
            findings.failed(RIGHTS, f"missing in the schema: {', '.join(missing)}", _MIGRATE)
        elif grants:
            found = f"{server.role} lacks rights on {len(grants)} objects of the schema stockrelay"
            findings.failed(RIGHTS, found, "as their owner: " + " ".join(grants))
        else:
            findings.passed(RIGHTS, f"{server.role} may do what the daemon does")
            is_right = True
    return is_right


async def check_identity(findings: Findings, inspector: Inspector) -> None:
    """A clone or a restored copy is not pushed from."""
    with findings.guarding(IDENTITY):
        identity = await inspector.identity()
        found = f"system identifier {identity.system_identifier}"
        if identity.is_ours:
            findings.passed(IDENTITY, found)
        else:
            findings.failed(
                IDENTITY,
                f"this is a copy of the database that is pushed from ({found}): nothing is sent from it",
                "if it takes over for good, and no daemon pushes from the original: run `stockrelay adopt`",
            )


async def check_change_log(findings: Findings, inspector: Inspector) -> None:
    """The change log is emptied once every channel has read it; else it grows."""
    with findings.guarding(CHANGE_LOG):
        oldest = await inspector.unemptied_since(_EMPTIED)
        if oldest is None:
            findings.passed(CHANGE_LOG, "rotates normally")
        else:
            findings.warn(
                CHANGE_LOG,
                f"has not been emptied for an hour: it holds changes of {oldest:%Y-%m-%d %H:%M} UTC",
                "see that a daemon runs and reads for every channel (`stockrelay status`), and that no transaction "
                "that wrote to a watched table stays open",
            )


async def check_replicas(findings: Findings, settings: Settings, inspector: Inspector) -> None:
    """A replica that runs with another configuration may send another listing. Nothing is said where all agree."""
    with findings.guarding(REPLICAS):
        ours, theirs = fingerprints(settings), await inspector.configurations()
        for holder, sections in theirs.items():
            if differs := differing(ours, sections):
                findings.warn(
                    REPLICAS,
                    f"{holder} runs with another configuration: {', '.join(differs)}",
                    "give all replicas the same configuration; SIGHUP or a restart makes a running daemon read it",
                )


async def check_channels(findings: Findings, settings: Settings, inspector: Inspector) -> None:
    """What the ledger has of a channel belongs to one marketplace. Nothing is said where all is as configured."""
    with findings.guarding(CHANNELS):
        for one in await known_channels(inspector.look):
            section = settings.channels.get(one.channel)
            if section is None:
                findings.warn(
                    CHANNELS,
                    f"the ledger has {one.skus} SKUs of a channel {one.channel}, which is not configured",
                    "nothing is sent for them any more. A renamed channel takes them along if it has the same account "
                    "and no daemon serves the old name; for a channel that is gone, nothing needs to be done",
                )
            elif one.marketplace not in (None, section.marketplace):
                findings.failed(
                    CHANNELS,
                    f"the ledger has {one.skus} SKUs of channel {one.channel} at {one.marketplace}, and "
                    f'channels.{one.channel}.marketplace is "{section.marketplace}"',
                    f"give the channel of {section.marketplace} another name",
                )


async def check_doorbell(findings: Findings, settings: Settings, inspector: Inspector) -> None:
    """The doorbell as configured, as the database has it, and its own trigger."""
    with findings.guarding(DOORBELL):
        bell, poll_s = await inspector.capturing.bell(), settings.run.poll_s
        wrong = judge_bell(bell, wants=settings.database.doorbell, poll_s=poll_s)
        findings.add(DOORBELL, wrong, bell_rings(bell, poll_s=poll_s))


async def check_functions(
    findings: Findings,
    settings: Settings,
    inspector: Inspector,
    tables: Sequence[WatchedTable],
    faults: Sequence[TriggerFault],
) -> None:
    """What the triggers call: our functions, with whose rights, and whether in every session."""
    with findings.guarding(FUNCTIONS):
        wrong = judge_functions(await inspector.capturing.functions(), tables)
        findings.add(FUNCTIONS, wrong, "as this release makes them")
    with findings.guarding(OWNER):
        findings.add(OWNER, judge_owners(await inspector.capturing.owners()), "has the rights it needs")
    with findings.guarding(REPLICATION):
        wrong = judge_replication(await inspector.capturing.replicated(), tables, faults)
        subscribed = await Dependencies(inspector.look, settings.run.compared_only).subscribed()
        wrong += judge_subscribed(subscribed, settings.run.resync_s)
        findings.add(REPLICATION, wrong, "no setting and no subscription keeps the triggers from firing")
