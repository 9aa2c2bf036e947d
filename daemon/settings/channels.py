"""The settings that every channel has, and which section a channel is read with."""

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final, Literal
from urllib.parse import urlsplit

from pydantic import SecretStr, model_validator

from daemon.core.quoting import nearest
from daemon.core.types import DEFAULT_MAX_QUANTITY, Duplicates
from daemon.settings import rules
from daemon.settings.section import Contradiction, Duration, Place, Section

LONGEST_NAME: Final = 40
_NAME: Final = re.compile(r"[a-z0-9]+(?:[-_][a-z0-9]+)*")


class ChannelSettings(Section):
    """What all channels have in common. Each marketplace adds its own; every key that it changes, too."""

    REQUIRED: ClassVar[tuple[str, ...]] = ()
    """What an enabled channel must have, beside the listing."""
    LIVE: ClassVar[frozenset[str]] = frozenset()
    """The credentials that a running daemon takes over on SIGHUP."""
    ACCOUNT: ClassVar[tuple[str, ...]] = ()
    """What tells accounts at one `base_url` apart."""

    marketplace: str
    """The marketplace. May be left out where the channel's name is the marketplace's."""
    enabled: bool = True
    """Send to this channel. `false`: nothing is sent, and no credentials are needed."""
    mode: Literal["live", "shadow"] = "live"
    """`"shadow"`: everything is captured, gathered and decided, and nothing is sent. `status`, `attempts` and `explain`
    show what would have been sent."""
    first_start: Literal["ask", "live"] = "ask"
    """What happens to a channel that is new to the database. `"ask"`: it waits in shadow until `stockrelay go-live
    CHANNEL`. `"live"`: it begins to send."""
    base_url: rules.BaseUrl = ""
    """The marketplace's address."""
    listing: rules.Query = ""
    """One SQL query with a row for each SKU that is sold there."""
    only: rules.Skus = ()
    """Send these SKUs of the listing and no others, such as a single one on the first day. The daemon does nothing for
    the others: see `only_where`."""
    only_where: rules.Choice | None = None
    """Send only the SKUs of the listing for which this SQL condition over its columns is true, beside `only`. A SKU
    that stops being chosen is forgotten and nothing is sent for it: the marketplace keeps its number. So choose by what
    does not change with the stock; a condition over `quantity` is refused. A chosen SKU that leaves the listing is sent
    as 0."""
    max_quantity: rules.Quantity = DEFAULT_MAX_QUANTITY
    """The largest quantity that is sent. A SKU with a larger one is parked: such a number is a mistake in the data or
    a word for "unlimited" (let the listing say how many may be sold: `least(quantity, 9999)`)."""
    duplicates: Duplicates = "park"
    """How to handle SKUs with the same identifiers, for which the marketplace keeps one number. `"park"`: they are
    parked, each names the others, and the marketplace keeps its number. `"sum"`: the sum of their quantities is
    sent."""
    rate_per_s: rules.Rate = 20.0
    """Maximum requests per second."""
    concurrency: rules.Parallel = 8
    """Maximum requests in flight."""
    timeout_s: rules.Seconds = 5.0
    """How long a request may take, from connecting to the last byte."""
    settle_s: rules.Seconds = 60.0
    """How long a request with an unknown outcome may still take effect at the marketplace. After that its SKU is sent
    once more, which ends the doubt. Must be more than `run.lease_s` + `timeout_s`."""
    urgent_below: rules.Threshold = 0
    """A quantity that falls below this goes out at once, as a sell-out does. 0: only sell-outs."""
    park_after: rules.Attempts = 5
    """A SKU that fails this many times in a row, while others pass, is parked until an operator acts."""
    batch: rules.Batch = 1
    """Maximum SKUs per batched call: in `sync`, and above `batch_above`."""
    batch_above: rules.Threshold = 0
    """SKUs share calls while more than this many wait. 0: never, each has a call of its own."""
    ca_file: rules.ExistingFile | None = None
    """Certificates to trust beside the system's, as a PEM file."""

    timeout = Duration()
    settle = Duration()

    @model_validator(mode="after")
    def _check(self) -> "ChannelSettings":
        if self.enabled:
            missing: list[tuple[Place, str]] = [
                ((key,), "missing") for key in (*self.REQUIRED, "listing") if not _text(getattr(self, key))
            ]
            if missing:
                raise Contradiction(missing)
        return self

    def account_id(self) -> tuple[str, ...]:
        """The shop or account that the channel sends to, to compare and to hash. It may hold secrets: never show it."""
        address = urlsplit(self.base_url)
        url = address._replace(netloc=address.netloc.lower()).geturl()
        return (self.marketplace, url, *(_text(getattr(self, key)) for key in self.ACCOUNT))


Sections = Mapping[str, type[ChannelSettings]]
"""The section of each marketplace's channels, by the marketplace's name."""


def _text(value: str | SecretStr) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def name_problem(name: str) -> str | None:
    """What is wrong with a channel's name."""
    if len(name) <= LONGEST_NAME and _NAME.fullmatch(name):
        return None
    return f"is no name for a channel; write lower-case letters and digits, with - or _ between, at most {LONGEST_NAME}"


def section_of(name: str, values: object, sections: Sections) -> type[ChannelSettings] | None:
    """The section of the channel `name`, by its key `marketplace` or by its name; None where neither is known."""
    named = values.get("marketplace") if isinstance(values, Mapping) else None
    return sections.get(named if isinstance(named, str) else name)


def marketplace_problem(name: str, values: Mapping[str, Any], sections: Sections) -> tuple[Place, str] | None:
    """Why no marketplace is known for the channel `name`, or a wrong one: where, and what to write."""
    known = ", ".join(sorted(sections))
    if "marketplace" not in values:
        if name in sections:
            return None
        example = (nearest(name, sections, 1) or sorted(sections))[0]
        fix = f'write marketplace = "{example}" (one of: {known})'
        return (), f"is no marketplace's name, and has no key marketplace; {fix}"
    named = values["marketplace"]
    if not isinstance(named, str):
        return ("marketplace",), "must be text, in quotes"
    if named not in sections:
        near = nearest(named, sections, 1)
        meant = f"did you mean {near[0]}?" if near else f"there is: {known}"
        return ("marketplace",), f"there is no such marketplace; {meant}"
    if name in sections and named != name:
        return (
            "marketplace",
        ), f"a channel that is called {name} is at {name}; give the channel another name"
    return None
