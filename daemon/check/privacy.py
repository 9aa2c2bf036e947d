"""Who could read along on the way to the database, and who could have code run there with the daemon's rights."""

import ipaddress
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from daemon.check.findings import Findings
from daemon.settings import rules
from daemon.settings.sections import Ops
from daemon.store.inspect import Inspector, Line, ServerInfo

ENCRYPTION: Final = "database encryption"
LISTENING: Final = "listening encryption"
SEARCH_PATH: Final = "search path"
FILES: Final = "secrets files"
ROW_SECURITY: Final = "row security"
PAGE: Final = "page's sign-in"


def check_files(findings: Findings, exposed: Sequence[Path]) -> None:
    """Warn of files with secrets in them that every user of this machine may read."""
    if exposed:
        findings.warn(
            FILES,
            f"every user of this machine may read {', '.join(map(str, exposed))}",
            f"chmod o-r {shlex.join(map(str, exposed))}; the file of a secret is the daemon's user's alone",
        )
    else:
        findings.passed(FILES, "no other user may read them")


def check_page(findings: Findings, ops: Ops) -> None:
    """Warn where the page's token would cross a network in the clear."""
    if not ops.enabled or ops.admin_token is None:
        findings.passed(PAGE, "off: ops.admin_token is not set, the page is read-only")
    elif rules.is_loopback(ops.host):
        findings.passed(PAGE, "this machine alone can reach it")
    else:
        findings.warn(
            PAGE,
            f"ops.admin_token is set, and ops.host = {ops.host} can be reached from a network: the daemon speaks plain "
            "HTTP, so the token can be read on its way",
            "let the port be reached through a proxy with TLS alone, or set ops.host to 127.0.0.1",
        )


def check_encryption(findings: Findings, inspector: Inspector, name: str, key: str) -> None:
    """Warn where passwords' proofs and numbers cross a network in the clear, or to an unverified server."""
    found, is_private = judged(inspector.line())
    if is_private:
        findings.passed(name, found)
    else:
        advice = f"add ?sslmode=verify-full&sslrootcert=FILE to {key}, FILE being the authority's certificate"
        findings.warn(name, found, advice)


def judged(line: Line) -> tuple[str, bool]:
    """What to say of a connection, and whether it is safe from a man in the middle."""
    if line.peer is None:
        return "a socket of this machine", True
    if line.is_encrypted:
        found = "TLS" if line.is_verified else "TLS; whose certificate it is was not verified"
        return found, line.is_verified or _is_here(line)
    return f"{line.peer}, not encrypted", _is_here(line)


def _is_here(line: Line) -> bool:
    try:
        return ipaddress.ip_address(line.peer or "").is_loopback
    except ValueError:
        return False


async def check_search_path(findings: Findings, inspector: Inspector, server: ServerInfo) -> None:
    """Warn where others may put functions and operators in front of this role's."""
    with findings.guarding(SEARCH_PATH):
        writable = await inspector.writable_schemas_in_path()
        if not writable:
            findings.passed(SEARCH_PATH, "no other role can create objects in it")
            return
        found = "; ".join(f"{who} may create functions in {schema}" for schema, who in writable)
        findings.warn(
            SEARCH_PATH,
            f"{found}, and have them called with the rights of {server.role}",
            f"ALTER ROLE {server.quoted_role} SET search_path = pg_catalog, pg_temp; and name the listings' tables "
            "with their schemas (docs/security.md)",
        )


async def check_row_security(findings: Findings, inspector: Inspector, server: ServerInfo) -> None:
    """Fail where policies for row-level security would hide rows, which the daemon would send as sold out."""
    with findings.guarding(ROW_SECURITY):
        if await inspector.hides_rows():
            findings.failed(
                ROW_SECURITY,
                "row_security is on: a policy would hide rows without an error, and the pooler keeps the daemon from "
                "setting it",
                f"ALTER ROLE {server.quoted_role} IN DATABASE {server.database} SET row_security = off; then let the "
                "pooler reconnect",
            )
        else:
            findings.passed(
                ROW_SECURITY, "off: a query that a policy would filter fails instead of losing rows"
            )
