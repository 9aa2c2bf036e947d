"""Who may be answered over HTTP: which `Host` is ours, and whether a browser asks for another site."""

from collections.abc import Collection, Mapping
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

LOOPBACK_NAMES: Final = frozenset({"localhost", "ip6-localhost", "localhost.localdomain"})
_OWN_SITE: Final = frozenset({"same-origin", "none"})


def is_foreign_host(host: str | None, own_names: Collection[str]) -> bool:
    """Whether a request's `Host` is neither an IP address, nor a loopback name, nor one of `own_names`.

    A web page can give its own name the address of this machine (DNS rebinding); a browser then sends that name.
    It never sends an address it did not ask for, so an address is nobody else's. A client without a `Host` is no
    browser: HTTP/1.0 probes leave it out.
    """
    if host is None:
        return False
    try:
        parts = urlsplit(f"//{host}")
        name, _ = parts.hostname, parts.port
    except ValueError:
        return True
    if not name or parts.netloc != host or parts.username is not None:
        return True
    try:
        ip_address(name)
    except ValueError:
        bare = name.rstrip(".")
        is_loopback = bare in LOOPBACK_NAMES or bare.endswith(".localhost")
        return not is_loopback and bare not in {own.rstrip(".").lower() for own in own_names}
    return False


def is_cross_origin(headers: Mapping[str, str]) -> bool:
    """Whether a browser asks on behalf of another site: a script, a form, an image or a frame there.

    A link that a person follows is answered: the page it is on cannot read the answer. `headers` has lower-case names.
    """
    origin = headers.get("origin")
    if origin is not None and origin.lower() not in _own_origins(headers.get("host", "")):
        return True
    site = headers.get("sec-fetch-site")
    is_followed_link = (
        headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    )
    return site is not None and site not in _OWN_SITE and not is_followed_link


def _own_origins(host: str) -> set[str]:
    return {f"{scheme}://{host.lower()}" for scheme in ("http", "https")}
