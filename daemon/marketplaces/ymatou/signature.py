"""Ymatou's request signature."""

import hashlib
from collections.abc import Mapping


def sign(parameters: Mapping[str, str], app_secret: str) -> str:
    """Upper-case hex MD5 over every parameter that has a value.

    `parameters` are the body's fields together with `app_id` and `method` from the URL, raw, not URL-encoded.
    `sign` itself and empty values are left out. Names sort in ASCII order.
    """
    pairs = [
        f"{name}={parameters[name]}" for name in sorted(parameters) if parameters[name] and name != "sign"
    ]
    pairs.append(f"app_secret={app_secret}")
    # MD5 is the marketplace's choice; FIPS builds would otherwise refuse it.
    return hashlib.md5("&".join(pairs).encode(), usedforsecurity=False).hexdigest().upper()
