"""Addresses of databases as providers hand them out: understood as libpq would, and rewritten for the driver."""

import configparser
import ipaddress
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import SplitResult, quote, unquote, urlsplit

from daemon.settings.address_parameters import HARMLESS, parameter_problem

_HOSTS: Final = re.compile(r"(?:[\w.-]*|%2[Ff][^,@/]*|\[[0-9a-fA-F:.%]+\])(?::[0-9]{1,5})?")
_WITH_PORT: Final = re.compile(r"(.*?)(?::([0-9]{1,5}))?", re.DOTALL)
_LONGEST_SOCKET: Final = 90
"""Bytes of a socket's directory; the kernel takes 107 with the socket's own name."""
_HINT: Final = (
    "percent-encode what is special in the user name and password (@ is %40, / is %2F, ? is %3F, # is %23, % is %25, "
    "[ is %5B)"
)


@dataclass(frozen=True, slots=True)
class Address:
    """An address for the driver: one that it understands, and what it takes as arguments beside it."""

    dsn: str
    arguments: Mapping[str, Any]


def problem(dsn: str) -> str | None:
    """Why this is no address of a database, and what to do, in words that show nothing of it; None when it is one."""
    try:
        dsn.encode()
    except UnicodeEncodeError:
        return f"is not UTF-8 text; {_HINT}"
    parts = _split(dsn)
    if "\0" in unquote(dsn):
        return "has a zero byte (%00) in it: leave it out"
    if parts.scheme not in {"postgres", "postgresql"} or not dsn.startswith(f"{parts.scheme}://"):
        return "is not a PostgreSQL URI; write postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
    user, _, hosts = parts.netloc.rpartition("@")
    if parts.fragment or "@" in parts.path or "@" in user or not all(map(_HOSTS.fullmatch, hosts.split(","))):
        return f"has a host, port or database that cannot be; {_HINT}"
    try:
        for host in hosts.split(","):
            urlsplit(f"{parts.scheme}://{user}@{host}")
    except ValueError:
        return f"has a host that cannot be; {_HINT}"
    if re.search(r"%(?![0-9A-Fa-f]{2})", parts.netloc + parts.path + parts.query):
        return f"has a % that begins no percent-encoding; {_HINT}"
    pairs = [pair.partition("=") for pair in parts.query.split("&") if parts.query]
    if not all(name and sign for name, sign, _ in pairs):
        return f"has something after the question mark that is no NAME=VALUE; {_HINT}"
    found = _parameters(parts.query)
    faults = (what for name, value in found.items() if (what := parameter_problem(name, value)) is not None)
    return next(faults, None) or _server_fault(hosts, found) or _certificate_fault(found)


def _split(dsn: str) -> SplitResult:
    """As urlsplit, which in newer Pythons refuses several hosts of which not the first is an IPv6 address."""
    scheme, sign, rest = dsn.partition("://")
    if not sign:
        return SplitResult("", "", dsn, "", "")
    rest, _, fragment = rest.partition("#")
    rest, _, query = rest.partition("?")
    netloc, slash, path = rest.partition("/")
    return SplitResult(scheme.lower(), netloc, slash + path, query, fragment)


def with_environment(dsn: str, environ: Mapping[str, str]) -> str:
    """The address with what its service adds (`service=`, PGSERVICE), as libpq does it.

    Raises ValueError, in words that show nothing of the address.
    """
    parts = _split(dsn)
    given = _parameters(parts.query)
    service = given.pop("service", None) or environ.get("PGSERVICE")
    if not service or problem(dsn) is not None:
        return dsn
    user, _, hosts = parts.netloc.rpartition("@")
    name, _, password = user.partition(":")
    present = {
        "host": hosts,
        "port": hosts,
        "user": name,
        "password": password,
        "dbname": parts.path.strip("/"),
    }
    for key, value in _service(service, environ).items():
        if not present.get(key):
            given.setdefault(key, value)
    return _written(dsn, given)


def _service(name: str, environ: Mapping[str, str]) -> Mapping[str, str]:
    home = environ.get("HOME")
    places = [environ.get("PGSERVICEFILE") or (f"{home}/.pg_service.conf" if home else "")]
    places += [f"{environ['PGSYSCONFDIR']}/pg_service.conf"] if environ.get("PGSYSCONFDIR") else []
    for place in filter(None, places):
        file = configparser.RawConfigParser(delimiters=("=",), comment_prefixes=("#",), strict=False)
        try:
            file.read(place, encoding="utf-8")
        except (configparser.Error, OSError, UnicodeDecodeError):
            raise ValueError(
                f"names the service {name}, and {place} cannot be read as a service file"
            ) from None
        if file.has_section(name):
            return dict(file.items(name))
    raise ValueError(
        f"names the service {name}, which is not in {' or '.join(filter(None, places)) or 'any file'}; PGSERVICEFILE "
        "names another file"
    )


def for_driver(dsn: str) -> Address:
    """Rewrite an address that has no `problem`: hosts and ports into its first part, what the driver does not know into
    arguments or out of it. Raises OSError (ssl.SSLError) when a certificate's file has become unusable since."""
    parts = _split(dsn)
    given = _parameters(parts.query)
    arguments: dict[str, Any] = {}
    if given.get("ssl") == "true" or given.get("requiressl") == "1":
        given.setdefault("sslmode", "require")
    if given.get("sslrootcert") == "system":
        arguments["ssl"] = _system_trust(given)
        for name in ("sslcert", "sslkey", "sslmode", "sslpassword", "sslrootcert"):
            given.pop(name, None)
    if given.get("connect_timeout", "0").strip("0"):
        # As libpq has it: one second is too short to be meant.
        arguments["timeout"] = max(2.0, float(given["connect_timeout"]))
    for name in HARMLESS:
        given.pop(name, None)
    user, at, hosts = parts.netloc.rpartition("@")
    servers = _servers(hosts, given)
    given.pop("host", None)
    if not given.get("port", "").strip(","):
        given.pop("port", None)
    if servers[0][0]:
        given.pop("port", None)
        hosts = ",".join(f"{host}:{port}" if port else host for host, port in servers)
    return Address(_written(f"{parts.scheme}://{user}{at}{hosts}{parts.path}", given), arguments)


def host_and_port(host: str) -> tuple[str, str]:
    """Take apart a host as it stands before the path; an empty port is the usual one."""
    found = _WITH_PORT.fullmatch(host)
    assert found is not None
    return found[1], found[2] or ""


def _servers(hosts: str, given: Mapping[str, str]) -> list[tuple[str, str]]:
    """Each host with its port, as libpq pairs them: `host` and `port` replace what stands before the path, and one port
    is for all hosts. Raises ValueError when the numbers of hosts and ports differ."""
    servers = [host_and_port(host) for host in hosts.split(",")]
    ports = [port for _, port in servers]
    if given.get("host"):
        servers = [host_and_port(_before_the_path(host)) for host in given["host"].split(",")]
    if given.get("port"):
        ports = given["port"].split(",")
        servers = [(host, "") for host, _ in servers]
    ports = ports * len(servers) if len(ports) == 1 else ports
    return [(host, own or port) for (host, own), port in zip(servers, ports, strict=True)]


def _before_the_path(host: str) -> str:
    """The value of `host` as it is written before the path."""
    if host.startswith("/"):
        return quote(host, safe="")
    return f"[{host}]" if host.count(":") > 1 and "[" not in host else quote(host, safe="[]:")


def _system_trust(given: Mapping[str, str]) -> ssl.SSLContext:
    """The certificates of the system, and the server's name: `sslrootcert=system` means sslmode=verify-full."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if "sslcert" in given:
        context.load_cert_chain(given["sslcert"], given.get("sslkey"), given.get("sslpassword", ""))
    return context


def _server_fault(hosts: str, given: Mapping[str, str]) -> str | None:
    try:
        servers = _servers(hosts, given)
    except ValueError:
        return "port: give one port for all hosts, or one for each"
    for host, port in servers:
        if port and not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65_536):
            return "port: is not a port (1 to 65535), or a list of ports with commas between"
        if not host and len(servers) > 1:
            return "host: one of several has no name; name each"
        if not _is_host(unquote(host)):
            return "host: is not a host's name, an IP address or the directory of a socket"
    return None


def _is_host(host: str) -> bool:
    if host.startswith("/"):
        return len(host.encode()) <= _LONGEST_SOCKET
    try:
        if host.startswith("["):
            ipaddress.IPv6Address(host.removeprefix("[").removesuffix("]"))
            return host.endswith("]")
        # As the resolver does it: no part of a name is empty or longer than 63 characters.
        host.encode("idna")
    except ValueError:
        return False
    return re.fullmatch(r"[\w.-]*", host) is not None


def _certificate_fault(given: Mapping[str, str]) -> str | None:
    """Load what the driver would load: it would fail in the same way at each connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    certificate, key = given.get("sslcert"), given.get("sslkey")
    is_system = given.get("sslrootcert") == "system"
    name = ""
    try:
        for name in ("sslrootcert", "sslcrl", "sslcert"):
            if given.get(name) and not (name == "sslrootcert" and is_system):
                context.load_verify_locations(cafile=given[name])
        # Without one, the driver may find a key in the home directory.
        if certificate and (key or is_system):
            name = "sslkey"
            context.load_cert_chain(certificate, key or None, given.get("sslpassword", ""))
    except (OSError, ValueError) as error:
        reason = (
            "it is not what is needed" if isinstance(error, ssl.SSLError | ValueError) else error.strerror
        )
        return (
            f"{name}: {given.get(name) or certificate} cannot be used ({reason}); give a "
            "file in PEM format that this user may read, and for a key the one of sslcert, with its sslpassword"
        )
    return None


def _parameters(query: str) -> dict[str, str]:
    """By name; a plus sign is a plus sign, as libpq has it."""
    pairs = (pair.partition("=") for pair in query.split("&") if pair)
    return {unquote(name): unquote(value) for name, _, value in pairs}


def _written(dsn: str, parameters: Mapping[str, str]) -> str:
    query = "&".join(f"{quote(name, safe='')}={quote(value, safe='/')}" for name, value in parameters.items())
    return dsn.partition("?")[0] + (f"?{query}" if query else "")
