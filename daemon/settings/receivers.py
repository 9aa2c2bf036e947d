"""Addresses of receivers, as apprise writes them: whether they are valid, and which parts are secret."""

import logging
import re
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

_SCHEMA: Final = re.compile(r"[a-z][a-z0-9+.-]*", re.IGNORECASE)
_LIBRARIES: Final = ("apprise", "urllib3", "requests", "charset_normalizer")
_OPEN: Final = frozenset({
    "bcc", "cc", "cto", "emojis", "footer", "format", "from", "image", "method", "mode", "name", "optional", "overflow",
    "port", "redirect", "reply", "retry", "rto", "smtp", "to", "tz", "verify", "wait",
})  # fmt: skip
"""Parameters that say how to send, not whether one may."""
_FALSE: Final = frozenset({"0", "deny", "disable", "f", "false", "n", "never", "no", "off"})


def mute() -> None:
    """Let apprise and what it sends with log nothing: their lines hold whole addresses, with tokens and passwords.

    What there is to say of a delivery is said by `daemon.receivers`, in words that were looked at.
    """
    for name in _LIBRARIES:
        logger = logging.getLogger(name)
        logger.propagate = False
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())


def problem(url: str) -> str | None:
    """Why this is no address, in words that do not show it; None when it is one."""
    mute()
    # Imported only where there are receivers: it takes a third of a second.
    from apprise import Apprise

    name = schema(url)
    if not url.partition("://")[1]:
        return "is not an address; write it as apprise does, for example dingtalk://TOKEN (docs/notifications.md)"
    if Apprise.instantiate(url) is None:
        return (
            f"is not an address that apprise knows: {name}:// is either no service of its, or what follows is not of "
            "the shape that it wants; see docs/notifications.md, and percent-encode what is special in a password"
        )
    return None


def schema(url: str) -> str:
    """The kind of receiver, which is no secret: dingtalk, mailto, ..."""
    found = url.partition("://")[0]
    return found.lower() if _SCHEMA.fullmatch(found) else "unknown"


def is_unverified(url: str) -> bool:
    """Whether the address says not to look at the receiver's certificate."""
    given = dict(parse_qsl(urlsplit(url).query))
    return given.get("verify", "yes").lower() in _FALSE


def secrets(url: str) -> tuple[str, ...]:
    """What must never be shown of an address: itself, user and password, tokens in its host, path and parameters."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return (url,)
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    # A host with a dot is a name that many know; without one it is most often a token.
    host = parts.netloc.rpartition("@")[2].partition(":")[0]
    tokens = [password, *parts.path.split("/")]
    tokens += [host] if "." not in host and host != "localhost" else []
    tokens += [user] if not schema(url).startswith("mail") else []
    tokens += [value for name, value in parse_qsl(parts.query) if name not in _OPEN]
    return tuple(dict.fromkeys(t for token in (url, *tokens) for t in (token, unquote(token)) if t))
