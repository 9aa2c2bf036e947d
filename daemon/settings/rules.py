"""What a single value may look like, as types; each refusal in words an operator can act on."""

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from daemon.core.quoting import nearest
from daemon.core.schedule import cron_problem
from daemon.core.secrecy import MASK
from daemon.settings import addresses, receivers

_IDENTIFIER = r'(?:"(?:[^"]|"")+"|[^\W\d][\w$]*)'
_TABLE = re.compile(rf"{_IDENTIFIER}(?:\.{_IDENTIFIER})?")
_HOST = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9](?:[A-Za-z0-9-]{0,62})(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}))*\.?"
)
_PLACEHOLDER = re.compile(
    r"(?:change|replace|edit|fill)[-_ ]?(?:me|this|it|in)\b.*|<.*>|your[-_ ].*|x{3,}|\.{3,}|todo|placeholder|dummy",
    re.IGNORECASE | re.DOTALL,
)
_SHORTEST_TOKEN = 20
_SHOWN_IN_DSN = frozenset({
    "application_name", "connect_timeout", "dbname", "host", "options", "port", "service", "sslcert", "sslcrl",
    "sslkey", "sslmode", "sslrootcert", "target_session_attrs", "user",
})  # fmt: skip


def _not_a_bool(value: Any) -> Any:  # noqa: ANN401 - whatever stands in the file
    # Python takes `true` for 1; a person who writes it means something else.
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")  # noqa: TRY004 - pydantic gathers these
    return value


def _lower(value: Any) -> Any:  # noqa: ANN401 - whatever stands in the file
    return value.lower() if isinstance(value, str) else value


def _plain(value: str) -> str:
    """One line without blanks around it: a newline often comes along from a pipe or a file."""
    if not value:
        raise ValueError("is empty; give a value or leave the key out")
    if any(ord(c) < 0x20 or ord(c) == 0x7F for c in value):
        raise ValueError(
            "contains a line break or control character; was it made with `echo` instead of `printf`?"
        )
    if value != value.strip():
        raise ValueError("begins or ends with a blank; take it away")
    return value


def is_placeholder(value: str) -> bool:
    """Whether a value is still an example's words."""
    return _PLACEHOLDER.fullmatch(value.strip()) is not None


def _fernet_key(value: str) -> None:
    try:
        is_key = len(base64.b64decode(value, altchars=b"-_", validate=True)) == 32
    except (binascii.Error, ValueError):
        is_key = False
    if not is_key:
        raise ValueError(
            "is not a Fernet key (32 bytes in url-safe base64); make one with "
            "`openssl rand -base64 32 | tr '+/' '-_'`"
        )


def _base_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError("is not a URL; write https://HOST/PATH") from None
    if not host or parts.scheme not in {"http", "https"} or re.search(r"[\s\\]", value):
        raise ValueError("is not a URL; write https://HOST/PATH")
    if parts.username is not None:
        raise ValueError("must hold no user name or password; credentials have keys of their own")
    if "?" in value or "#" in value:
        raise ValueError(
            "must hold no query or fragment: addresses are logged, and a token in one would be, too; "
            "requests carry a signature or a token, and a path tells receivers apart"
        )
    if not host.isascii():
        raise ValueError(
            "must hold the host's name in ASCII letters (an international name begins with xn--)"
        )
    if parts.scheme == "http" and not is_loopback(host):
        raise ValueError("must be https: plain http is for the simulator on this machine only")
    # What RFC 3986 does not allow in an address is percent-encoded; what is encoded already stays.
    return quote(value.rstrip("/"), safe=":/[]@!$&'()*+,;=%")


def is_loopback(host: str) -> bool:
    """Whether an address is of this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _query(value: str) -> str:
    """One SQL query, ready to stand inside another one: no semicolon at its end."""
    query = value.strip().rstrip(";").rstrip()
    if value and not query:
        raise ValueError("is empty; write one SELECT with a row per SKU")
    return query


def condition(value: str) -> str:
    """One SQL condition, ready to stand in parentheses: without the word before it and the semicolon after it."""
    text = value.strip().rstrip(";").rstrip()
    if not text:
        raise ValueError("is empty; write a condition over the listing's columns, or leave it out")
    if re.match(r"where\b", text, re.IGNORECASE):
        raise ValueError("begins with WHERE; write only the condition that follows it")
    return text


def _choice(value: str) -> str:
    """A condition that chooses a channel's SKUs. What is left out gets no further number, so the choice must not depend
    on the number: a SKU that sells out would go on being sold."""
    text = condition(value)
    if re.search(r"\bquantity\b", re.sub(r"'[^']*'", "", text), re.IGNORECASE):
        raise ValueError(
            "reads quantity: a SKU that sells out would be left out, and the marketplace would go on selling it; "
            "choose by what does not change with the stock"
        )
    return text


def _skus(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value:
        raise ValueError("is empty; name SKUs, or leave the key out to send the whole listing")
    if any(not sku or "\0" in sku for sku in value):
        raise ValueError("has an empty SKU, or one with a NUL; write each SKU as the listing spells it")
    return tuple(dict.fromkeys(value))


def _expression(value: str) -> str:
    if not value.strip():
        raise ValueError("is empty; name the column that holds the SKU, or an SQL expression over the row")
    return value.strip()


def _table(value: str) -> str:
    if not _TABLE.fullmatch(value):
        raise ValueError(
            'is not a table name; write it as in SQL: erp.stock, or "ERP"."Stock" if it needs quotes'
        )
    return value


def _existing_file(value: Path) -> Path:
    if not value.is_file():
        raise ValueError(
            "is not there, or is not a file; give the path of a PEM file with the certificates to trust"
        )
    return value


def _cron(value: str) -> str:
    if what := cron_problem(value):
        raise ValueError(f"is not a time: {what}; `30 0 * * *` is every day at 00:30")
    return " ".join(value.split())


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        near = nearest(value, available_timezones(), 3)
        meant = f"did you mean {' or '.join(near)}?" if near else "write its name, such as Asia/Shanghai"
        raise ValueError(f"is not a time zone; {meant}") from None
    return value


def _host(value: str) -> str:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        if not _HOST.fullmatch(value) or value.replace(".", "").isdigit():
            raise ValueError(
                "is not an address; write an IP address of this machine, such as 127.0.0.1, or its name"
            ) from None
    return value


def folded(table: str) -> tuple[str, ...]:
    """A table's name as the server reads it: what is not quoted is lower case."""
    parts = re.findall(_IDENTIFIER, table)
    return tuple(p[1:-1].replace('""', '"') if p.startswith('"') else p.lower() for p in parts)


def masked_dsn(dsn: str) -> str:
    """The DSN without its password and without parameters that may be secret."""
    parts = urlsplit(dsn)
    user, at, hosts = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    query = [
        (k, v if k in _SHOWN_IN_DSN else MASK) for k, v in parse_qsl(parts.query, keep_blank_values=True)
    ]
    shown = f"{parts.scheme}://{name}{colon and f':{MASK}'}{at}{hosts}{parts.path}"
    return shown + (f"?{urlencode(query, safe='/[]')}" if query else "")


def dsn_secrets(dsn: str) -> tuple[str, ...]:
    """What must never be shown of a DSN: itself and its passwords, as written and decoded."""
    parts = urlsplit(dsn)
    password = parts.netloc.rpartition("@")[0].partition(":")[2]
    others = [v for k, v in parse_qsl(parts.query) if k in {"password", "sslpassword"}]
    passwords = [s for s in (password, unquote(password), *others) if s]
    return (dsn, *passwords) if passwords else ()


def _admin_token(value: str) -> None:
    if is_placeholder(value):
        raise ValueError("is still an example's words; make one with `openssl rand -hex 32`")
    if len(value) < _SHORTEST_TOKEN:
        raise ValueError(f"has fewer than {_SHORTEST_TOKEN} characters; make one with `openssl rand -hex 32`")


def on_secret(check: Callable[[str], object]) -> AfterValidator:
    """A check of a secret's text, which raises ValueError."""

    def validate(value: SecretStr) -> SecretStr:
        check(value.get_secret_value())
        return value

    return AfterValidator(validate)


def _refuse(problem: str | None) -> None:
    if problem is not None:
        raise ValueError(problem)


Seconds = Annotated[float, Field(gt=0, le=604_800, allow_inf_nan=False), BeforeValidator(_not_a_bool)]
Window = Annotated[float, Field(ge=0, le=604_800, allow_inf_nan=False), BeforeValidator(_not_a_bool)]
Rate = Annotated[float, Field(gt=0, le=10_000, allow_inf_nan=False), BeforeValidator(_not_a_bool)]
Parallel = Annotated[int, Field(ge=1, le=256), BeforeValidator(_not_a_bool)]
Threshold = Annotated[int, Field(ge=0, le=2_147_483_647), BeforeValidator(_not_a_bool)]
Quantity = Annotated[int, Field(ge=1, le=2_147_483_647), BeforeValidator(_not_a_bool)]
Batch = Annotated[int, Field(ge=1), BeforeValidator(_not_a_bool)]
Attempts = Annotated[int, Field(ge=1, le=1_000), BeforeValidator(_not_a_bool)]
KeptDays = Annotated[int, Field(ge=7, le=3_650), BeforeValidator(_not_a_bool)]
Count = Annotated[int, Field(ge=0, le=2_147_483_647), BeforeValidator(_not_a_bool)]
Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False), BeforeValidator(_not_a_bool)]
Factor = Annotated[float, Field(gt=1, le=1_000_000, allow_inf_nan=False), BeforeValidator(_not_a_bool)]
Rows = Annotated[int, Field(ge=1, le=10_000), BeforeValidator(_not_a_bool)]
Calls = Annotated[int, Field(ge=0, le=100_000), BeforeValidator(_not_a_bool)]
Port = Annotated[int, Field(ge=0, le=65_535), BeforeValidator(_not_a_bool)]
Host = Annotated[str, AfterValidator(_plain), AfterValidator(_host)]
Cron = Annotated[str, AfterValidator(_plain), AfterValidator(_cron)]
Zone = Annotated[str, AfterValidator(_plain), AfterValidator(_zone)]
Plain = Annotated[str, AfterValidator(_plain)]
Secret = Annotated[SecretStr, on_secret(_plain)]
AdminToken = Annotated[Secret, on_secret(_admin_token)]
FernetKey = Annotated[Secret, on_secret(_fernet_key)]
Dsn = Annotated[Secret, on_secret(lambda dsn: _refuse(addresses.problem(dsn)))]
Receiver = Annotated[Secret, on_secret(lambda url: _refuse(receivers.problem(url)))]
BaseUrl = Annotated[str, AfterValidator(_plain), AfterValidator(_base_url)]
Query = Annotated[str, AfterValidator(_query)]
Condition = Annotated[str, AfterValidator(condition)]
Choice = Annotated[str, AfterValidator(_choice)]
Skus = Annotated[tuple[str, ...], Field(max_length=10_000), AfterValidator(_skus)]
Expression = Annotated[str, AfterValidator(_expression)]
Table = Annotated[str, AfterValidator(_plain), AfterValidator(_table)]
ExistingFile = Annotated[Path, AfterValidator(_existing_file)]
Lower = BeforeValidator(_lower)
