"""Which HTTP requests may be answered: those for our `Host`, and not from a browser on behalf of another site."""

from collections.abc import Collection, Mapping
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

LOOPBACK_NAMES: Final = frozenset({"localhost", "ip6-localhost", "localhost.localdomain"})


def is_foreign_host(host: str | None, own_names: Collection[str]) -> bool:
    """Say whether a request's `Host` is neither an IP address, nor a loopback name, nor one of `own_names`.

    A web page can give its own name the address of this machine (DNS rebinding); a browser then sends that name. An IP
    address can't be rebound. A client without a `Host` is no browser: HTTP/1.0 probes leave it out.
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
    """Say whether a browser asks on behalf of another site: for a script, a form, an image or a frame there. A link
    that a user follows is answered: the page it is on cannot read the answer. `headers` has lower-case names."""
    own_origins = {f"{scheme}://{headers.get('host', '').lower()}" for scheme in ("http", "https")}
    origin = headers.get("origin")
    if origin is not None and origin.lower() not in own_origins:
        return True
    target = (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest"))
    is_own_site = headers.get("sec-fetch-site", "none") in ("same-origin", "none")
    return not is_own_site and target != ("navigate", "document")
