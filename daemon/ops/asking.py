"""Asks the ops port of a daemon on this machine, with the standard library alone: a health check starts often."""

import http.client
import ipaddress
import json
from dataclasses import dataclass
from typing import Any, Final

from daemon.core.errors import StockrelayError

_MOST_READ: Final = 65_536


@dataclass(frozen=True, slots=True)
class Health:
    """The daemon's answer: whether all is well, and its own words."""

    is_well: bool
    answer: dict[str, Any]


def ask(host: str, port: int, path: str, timeout_s: float) -> Health:
    """Ask the daemon that listens at `host` and `port`. Raises StockrelayError when there is no answer."""
    where = _own_address(host)
    connection = http.client.HTTPConnection(where, port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read(_MOST_READ)
    except TimeoutError as error:
        raise StockrelayError(
            f"no answer from {where}:{port} within {timeout_s:g} s: the daemon hangs; see its log"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise StockrelayError(
            f"no answer from {where}:{port} ({error}): the daemon does not run here, or ops.host and ops.port are not "
            "those it was started with"
        ) from error
    finally:
        connection.close()
    return Health(response.status == http.client.OK, _decoded(body, f"{where}:{port}"))


def _own_address(host: str) -> str:
    """Where this machine reaches what listens at `host`: all addresses are no address to ask."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if not address.is_unspecified:
        return host
    return "127.0.0.1" if address.version == 4 else "::1"


def _decoded(body: bytes, where: str) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    if not (isinstance(answer, dict) and "status" in answer):
        raise StockrelayError(f"something else than stockrelay answers at {where}; see ops.port")
    return answer
