"""A marketplace's access token, as those who keep it and those who use it know it."""

from dataclasses import dataclass, field
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class StoredToken:
    """A token as the store knows it. `generation` rises with each; `remaining` counts from the reading."""

    value: str = field(repr=False)
    generation: int
    remaining: timedelta
