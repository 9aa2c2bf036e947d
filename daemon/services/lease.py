"""The lease of a slot that this process owns."""

from dataclasses import dataclass

from daemon.core.types import Epoch, Slot
from daemon.store.leases import Taken


@dataclass(eq=False)
class Lease:
    """`trusted_until` (monotonic seconds) moves on with every renewal."""

    taken: Taken
    trusted_until: float

    @property
    def slot(self) -> Slot:
        return self.taken.slot

    @property
    def epoch(self) -> Epoch:
        return self.taken.epoch

    def is_trusted(self, now: float) -> bool:
        """Whether a request may start: after this time another process may own the slot."""
        return now < self.trusted_until
