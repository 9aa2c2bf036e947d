"""Faults on demand: what to do, to which requests, how often. `fault_injection.py` carries them out."""

from typing import Annotated, Final, Literal

from pydantic import Field, TypeAdapter, model_validator

from daemon.simulator.journal import Key
from daemon.simulator.settings import Frozen


class WrongFault(ValueError):
    """No request can trigger the fault: `field` says why."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(problem)
        self.field = field


class FaultSpec(Frozen):
    """Which requests trigger a fault, and how often. What is left out matches every request.

    Of the requests that match, the first `after` are spared; then each triggers it with `probability`, until
    `times` have (None: no end). With a `seed` the same requests trigger it in every run.
    """

    shop: str | None = None
    endpoint: str | None = None
    key: Key | None = None
    times: int | None = Field(default=None, ge=1)
    after: int = Field(default=0, ge=0)
    probability: float = Field(default=1.0, gt=0, le=1)
    seed: int | None = None


class Delay(FaultSpec):
    """Waits before anything is applied."""

    kind: Literal["delay"] = "delay"
    seconds: float = Field(gt=0, le=86_400)


class DelayAfter(FaultSpec):
    """Applies at once, then waits with the answer."""

    kind: Literal["delay_after"] = "delay_after"
    seconds: float = Field(gt=0, le=86_400)


class HoldRequest(FaultSpec):
    """Keeps the request until it is released; it is applied then, also when its client has gone."""

    kind: Literal["hold"] = "hold"


class RefuseSku(FaultSpec):
    """Refuses the product of `key` (without one: every product of the request) in the marketplace's words."""

    kind: Literal["refuse_sku"] = "refuse_sku"
    message: str | None = None


class AnsweringFault(FaultSpec):
    """A fault that takes the answer's place. The request is checked and carried out before that if `apply`.

    With `rows`, only the first `rows` rows of a batch are applied: a request that is half done.
    """

    apply: bool = True
    rows: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _rows_need_apply(self) -> "AnsweringFault":
        if self.rows is not None and not self.apply:
            raise ValueError("rows needs apply")
        return self


class ResetBefore(FaultSpec):
    """Resets the connection; nothing is applied."""

    kind: Literal["reset_before"] = "reset_before"


class ResetAfter(AnsweringFault):
    """Applies, then resets the connection instead of answering."""

    kind: Literal["reset_after"] = "reset_after"


class Status(AnsweringFault):
    """Answers with any status, headers and body."""

    kind: Literal["status"] = "status"
    apply: bool = False
    status: int = Field(ge=200, le=599)
    headers: dict[str, str] = Field(default_factory=dict)
    body: str = ""


class Throttle(AnsweringFault):
    """Answers 429 or 503; `retry_after` is in seconds, or an HTTP date."""

    kind: Literal["throttle"] = "throttle"
    apply: bool = False
    status: Literal[429, 503] = 429
    retry_after: int | str | None = 1


class Redirect(AnsweringFault):
    """Answers with a redirect to `location`."""

    kind: Literal["redirect"] = "redirect"
    apply: bool = False
    status: Literal[301, 302, 303, 307, 308] = 302
    location: str


class Garbage(AnsweringFault):
    """Answers 200 with what no client should take for a success.

    `html`, `empty`, `truncated` (JSON that ends early), `cut_off` (the connection ends inside the body),
    `wrong_types`, `other_code_type` (the code of a success in another type than is documented), `array`,
    `deep` (100,000 nested arrays), `not_utf8`, `huge_headers` (64 kB); and the right answer with `duplicate_keys` (each
    twice), a `byte_order_mark`, `not_a_number` or `trailing` text.
    """

    kind: Literal["garbage"] = "garbage"
    shape: Literal[
        "html",
        "empty",
        "truncated",
        "cut_off",
        "wrong_types",
        "other_code_type",
        "array",
        "deep",
        "not_utf8",
        "huge_headers",
        "duplicate_keys",
        "byte_order_mark",
        "not_a_number",
        "trailing",
    ] = "html"


class Drip(AnsweringFault):
    """Sends the right answer byte by byte."""

    kind: Literal["drip"] = "drip"
    interval_s: float = Field(default=0.5, gt=0, le=3_600)


class Oversized(AnsweringFault):
    """Sends a success whose message is that long."""

    kind: Literal["oversized"] = "oversized"
    megabytes: int = Field(default=64, ge=1, le=4_096)


class Bomb(AnsweringFault):
    """Sends a success that is small compressed (gzip) and that long decompressed."""

    kind: Literal["bomb"] = "bomb"
    megabytes: int = Field(default=256, ge=1, le=4_096)


class Message(AnsweringFault):
    """Answers with any code and words in the marketplace's envelope; without a code, with one to try again."""

    kind: Literal["message"] = "message"
    apply: bool = False
    code: int | str | None = None
    message: str = "system error"


Fault = Annotated[
    Delay
    | DelayAfter
    | HoldRequest
    | RefuseSku
    | ResetBefore
    | ResetAfter
    | Status
    | Throttle
    | Redirect
    | Garbage
    | Drip
    | Oversized
    | Bomb
    | Message,
    Field(discriminator="kind"),
]
FAULT: Final[TypeAdapter[Fault]] = TypeAdapter(Fault)
