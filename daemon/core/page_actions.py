"""What the page's forms pass on: names of texts in each language, with their values."""

from dataclasses import dataclass

from daemon.core.errors import StockrelayError
from daemon.core.operations import Action
from daemon.core.types import Sku

ON_THE_PAGE = (
    Action.RELEASE, Action.PAUSE, Action.RESUME, Action.RETRY, Action.DISCARD, Action.PUSH, Action.RECONCILE
)  # fmt: skip


class ActionRefused(StockrelayError):
    """An action makes no sense now; `text` names the words for the form."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = f"refused.{text}"


@dataclass(frozen=True, slots=True)
class ActionResult:
    """How an action ended: the name of a text, and its values. `is_shadow`: nothing is sent to the channel."""

    text: str
    values: tuple[object, ...] = ()
    is_shadow: bool = False


@dataclass(frozen=True, slots=True)
class ActionPreview:
    """The numbers that an action would affect now. `is_shadow`: the channel is in shadow, so nothing is sent.
    `fingerprint` identifies the SKUs: another list of the same length must be confirmed again."""

    numbers: tuple[int, ...] = ()
    is_shadow: bool = False
    fingerprint: str = ""


def skus_of(text: str) -> tuple[Sku, ...] | None:
    """Return the SKUs of a form's field, one on a line; None: it is empty, and stands for all."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return tuple(dict.fromkeys(Sku(line) for line in lines if line.strip())) or None


def seen(preview: ActionPreview) -> str:
    """Return what a confirmation was about, as the form carries it."""
    return "/".join(map(str, (*preview.numbers, preview.fingerprint)))
