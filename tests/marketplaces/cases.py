"""What the suite has to know of each marketplace: how its simulated shop is reached, and where its rules differ."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from pydantic import SecretStr

from daemon.core.outcome import Kind
from daemon.marketplaces.sekorm.settings import SekormSettings
from daemon.marketplaces.webhook.settings import WebhookSettings
from daemon.marketplaces.ymatou.settings import YmatouSettings
from daemon.settings import ChannelSettings
from daemon.simulator import Key
from daemon.simulator.marketplaces.sekorm import SekormShop
from daemon.simulator.marketplaces.webhook import WebhookShop
from daemon.simulator.marketplaces.ymatou.settings import YmatouShop
from tests.marketplaces.stub import StubSettings

SEKORM_DEMO: Final = SekormShop()
YMATOU_DEMO: Final = YmatouShop()
WEBHOOK_DEMO: Final = WebhookShop()


def sekorm_settings(base: str, **changes: object) -> SekormSettings:
    """What reaches the simulated gateway at `base`."""
    values: dict[str, object] = {
        "base_url": f"{base}/serviceGate",
        "account": SecretStr(SEKORM_DEMO.account),
        "app_secret": SecretStr(SEKORM_DEMO.app_secret),
        "listing": "SELECT",
    }
    return SekormSettings.model_validate(values | changes)


def ymatou_settings(base: str, **changes: object) -> YmatouSettings:
    """What reaches the simulated API at `base`."""
    values: dict[str, object] = {
        "base_url": base,
        "app_id": YMATOU_DEMO.app_id,
        "app_secret": SecretStr(YMATOU_DEMO.app_secret),
        "auth_code": SecretStr(YMATOU_DEMO.auth_code),
        "listing": "SELECT",
    }
    return YmatouSettings.model_validate(values | changes)


def webhook_settings(base: str, **changes: object) -> WebhookSettings:
    """What reaches the simulated receiver at `base`."""
    values: dict[str, object] = {
        "base_url": f"{base}/webhook/webhook",
        "secret": SecretStr(WEBHOOK_DEMO.secret),
        "listing": "SELECT",
    }
    return WebhookSettings.model_validate(values | changes)


def stub_settings(base: str, **changes: object) -> StubSettings:
    """What reaches the receiver that plays the tests' own marketplace."""
    values: dict[str, object] = {
        "base_url": f"{base}/webhook/stub",
        "secret": SecretStr(WebhookShop.named("stub").secret),
        "listing": "SELECT",
    }
    return StubSettings.model_validate(values | changes)


def _any_failure_is_unknown(_kind: str, _values: dict[str, Any]) -> Kind:
    return Kind.UNKNOWN


def _the_status_decides(kind: str, values: dict[str, Any]) -> Kind:
    """What a receiver's body says means nothing; what breaks the answer off, or is too long, is unknown."""
    if kind == "garbage" and values["shape"] not in {"cut_off", "huge_headers", "deep"}:
        return Kind.APPLIED
    status = values.get("status", 0) if kind == "status" else 0
    if 200 <= status < 300:
        return Kind.APPLIED
    return Kind.TROUBLE if status in {401, 403} else Kind.UNKNOWN


@dataclass(frozen=True, slots=True)
class Case:
    """One marketplace in the suite.

    `names` makes the identifiers of a product of one text each. `fate` is the outcome of a push whose answer is
    replaced by a fault. `words` makes a body of an answer that shows a text.
    """

    settings: Callable[..., ChannelSettings]
    names: tuple[str, ...]
    single: str
    many: str
    words: Callable[[str], tuple[int, str]]
    busy: Kind = Kind.UNKNOWN
    fate: Callable[[str, dict[str, Any]], Kind] = _any_failure_is_unknown

    def identifiers(self, number: int) -> tuple[str, ...]:
        return tuple(name.format(number) for name in self.names)


def key_of(identifiers: tuple[str, ...]) -> Key:
    """A product as the simulator calls it."""
    return identifiers[0] if len(identifiers) == 1 else (identifiers[0], identifiers[1])


_WEBHOOK: Final = Case(
    webhook_settings,
    ("A-{}",),
    "stock.updated",
    "stock.batch_updated",
    lambda text: (409, f'{{"error":{text}}}'),
    fate=_the_status_decides,
)
CASES: Final = {
    "sekorm": Case(
        sekorm_settings,
        ("1211LL的ON{}", "AMS"),
        "stock/updQuantity",
        "pnarttnumber/pnStock",
        lambda text: (200, f'{{"code":-1,"msg":{text}}}'),
        # Its table calls a 503 throttling.
        busy=Kind.TROUBLE,
    ),
    "ymatou": Case(
        ymatou_settings,
        ("39399{}",),
        "ymatou.skus.stock.update",
        "ymatou.skus.stock.update",
        lambda text: (200, f'{{"code":"0009","message":{text}}}'),
    ),
    "webhook": _WEBHOOK,
    "stub": replace(_WEBHOOK, settings=stub_settings),
}
