"""Secrets that are recognised however they are written, where to plant them, and a sweep over all that comes out."""

import base64
import html
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import quote, quote_plus

from tests.acceptance.harness import toml

Source = Literal["file", "folder", "environment"]

# With all that somebody's encoder may change. Each is found in no other.
DATABASE: Final = 'pl4nted-database/+&="é'
LISTENER: Final = 'pl4nted-listener/+&="é'
ACCOUNT: Final = 'pl4nted-account/+&="é'
PASSWORD: Final = 'pl4nted-password/+&="é'
SIGNER: Final = 'pl4nted-signer/+&="é'
SHOP: Final = "pl4nted-shop/+&=<é>"
RECEIVER: Final = 'pl4nted-receiver/+&="é'
ROBOT: Final = "pl4nted-robot-7f3a"
HEADER: Final = "pl4nted-header-5c1e"
KEY: Final = base64.urlsafe_b64encode(b"pl4nted-key-of-thirty-two-bytes!").decode()
TOKEN: Final = 'pl4nted-token/+&="=='
ALL: Final = (DATABASE, LISTENER, ACCOUNT, PASSWORD, SIGNER, SHOP, RECEIVER, ROBOT, HEADER, KEY, TOKEN)


def forms(secret: str) -> frozenset[str]:
    """How others write it: written down here once more, so that nothing of ours is believed."""
    data = secret.encode()
    found = {secret, repr(secret)[1:-1], ascii(secret)[1:-1], html.escape(secret), data.hex()}
    found |= {
        quote(secret),
        quote(secret, safe=""),
        quote_plus(secret),
        quote(quote(secret, safe=""), safe=""),
    }
    found |= {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    found |= {json.dumps(json.dumps(secret))[3:-3], json.dumps(secret)[1:-1].replace("/", "\\/")}
    found |= {"".join(f"%{byte:02x}" if byte in b'/+&="' or byte > 127 else chr(byte) for byte in data)}
    # Within a longer text, with any number of bytes before it, its middle looks one of three ways.
    for shift in range(3):
        middle = data[shift : shift + (len(data) - shift) // 3 * 3]
        found |= {base64.b64encode(middle).decode(), base64.urlsafe_b64encode(middle).decode()}
    return frozenset(found)


FORMS: Final = {secret: forms(secret) for secret in ALL}


@dataclass(slots=True)
class Sweep:
    """All that came out of a test, by where it came out."""

    outputs: dict[str, str] = field(default_factory=dict)

    def add(self, where: str, text: str) -> None:
        self.outputs[f"{where} ({len(self.outputs)})"] = text

    def leaks(self, spared: Mapping[str, Iterable[str]] | None = None) -> Iterator[str]:
        """Where which secret stands. `spared`: secrets that may stand in outputs that begin so."""
        for where, text in self.outputs.items():
            for secret, looks in FORMS.items():
                if any(where.startswith(name) and secret in some for name, some in (spared or {}).items()):
                    continue
                for look in looks:
                    if (at := text.find(look)) >= 0:
                        yield f"{where}: {secret!r} in ...{text[max(0, at - 80) : at + len(look) + 20]!r}..."


def dsn(port: int, database: str, user: str, password: str, query: str = "") -> str:
    return f"postgresql://{user}:{quote(password, safe='')}@127.0.0.1:{port}/{database}{query}"


def receiver_urls(port: int) -> list[str]:
    """Addresses of a webhook: password and path, and one with a header."""
    password = quote(RECEIVER, safe="")
    return [
        f"json://clerk:{password}@127.0.0.1:{port}/{ROBOT}",
        f"json://127.0.0.1:{port}/{ROBOT}?%2BX-Key={HEADER}",
    ]


@dataclass(frozen=True, slots=True)
class Planting:
    """Settings with all their secrets in one kind of place. `secrets` are by their dotted keys."""

    folder: Path
    source: Source
    secrets: Mapping[str, Any]

    def plant(self, sections: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
        """Write the configuration; return the environment that belongs to it."""
        merged = {name: dict(values) for name, values in sections.items()}
        variables: dict[str, str] = {}
        for dotted, secret in self.secrets.items():
            section, key = dotted.rsplit(".", 1)
            text = secret if isinstance(secret, str) else json.dumps(secret)
            if self.source == "file":
                merged.setdefault(section, {})[key] = secret
            elif self.source == "environment":
                variables["STOCKRELAY_" + dotted.replace(".", "__").upper()] = text
            else:
                place = self.folder / "secrets"
                place.mkdir(exist_ok=True)
                place.joinpath(dotted.replace(".", "__")).write_text(text + "\n", "utf-8")
                variables["STOCKRELAY_SECRETS_DIR"] = str(place)
        self.folder.joinpath("config.toml").write_text(toml(merged), "utf-8")
        return variables
